"""A service that may run twice for a while is replaced while it serves."""

from __future__ import annotations

import os
import signal

import pytest
from fleet_server import Server

from headrace.paths import DataDir


async def test_its_successor_serves_before_it_is_told_to_finish(server: Server) -> None:
    first = await server.ready("gateway")
    os.kill(server.pid, signal.SIGUSR2)
    ended = await server.exited(first.token)
    second = await server.ready("gateway", but=(first.token,))
    assert ended.exit_code == -signal.SIGUSR1
    order = [c for c in server.seen if c.token in (first.token, second.token)]
    ready = next(n for n, c in enumerate(order) if c.token == second.token and c.report is not None)
    assert ready < order.index(ended)
    assert not [c for c in server.seen if c.kind == "controller" and c.exited_ms]


async def test_a_successor_is_kept_running_like_the_first_one(server: Server) -> None:
    first = await server.ready("gateway")
    os.kill(server.pid, signal.SIGUSR2)
    second = await server.ready("gateway", but=(first.token,))
    await server.exited(first.token)
    os.kill(second.pid, signal.SIGKILL)
    third = await server.ready("gateway", but=(first.token, second.token))
    os.kill(server.pid, signal.SIGUSR2)
    await server.ready("gateway", but=(first.token, second.token, third.token))
    await server.exited(third.token)


async def test_where_the_successor_fails_nothing_changes(data_dir: DataDir) -> None:
    server = Server(data_dir)
    try:
        await server.start("fickle")
        first = await server.ready("gateway")
        os.kill(server.pid, signal.SIGUSR2)
        failed = await server.until(lambda c: c.kind == "gateway" and c.token != first.token and bool(c.exited_ms))
        assert (failed.exit_code, failed.tail) == (1, "no snapshot")
        await server.run("polite")  # the supervisor has gone on
        assert not [c for c in server.seen if c.token == first.token and c.exited_ms]
        os.kill(first.pid, 0)
    finally:
        await server.close()


async def test_one_that_does_not_finish_is_ended(data_dir: DataDir) -> None:
    server = Server(data_dir)
    try:
        await server.start("lingers")
        first = await server.ready("gateway")
        os.kill(server.pid, signal.SIGUSR2)
        assert (await server.exited(first.token)).exit_code == -signal.SIGTERM
    finally:
        await server.close()


@pytest.mark.parametrize("role", ["gateway", "lingers"])
async def test_a_stop_in_the_middle_of_it_leaves_nothing(data_dir: DataDir, role: str) -> None:
    server = Server(data_dir)
    try:
        await server.start(role)
        first = await server.ready("gateway")
        os.kill(server.pid, signal.SIGUSR2)
        second = await server.until(lambda c: c.kind == "gateway" and c.token != first.token)
        assert await server.end(signal.SIGTERM) == 0
        for child in (first, second):
            with pytest.raises(ProcessLookupError):
                os.kill(child.pid, 0)
    finally:
        await server.close()


async def test_a_crash_while_the_successor_starts_leaves_one_that_serves(server: Server) -> None:
    first = await server.ready("gateway")
    os.kill(server.pid, signal.SIGUSR2)
    os.kill(first.pid, signal.SIGKILL)
    await server.exited(first.token)

    def serving() -> set[str]:
        """Those that run, once none is still on its way."""
        gateways = [c for c in server.seen if c.kind == "gateway"]
        ended = {c.token for c in gateways if c.exited_ms}
        ready = {c.token for c in gateways if c.report is not None} - ended
        return ready if ready | ended == {c.token for c in gateways} else set()

    await server.until(lambda _: len(serving()) == 1)
    assert first.token not in serving()
