"""What the supervisor promises of its children, tested on real processes."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import time
from urllib.parse import urlsplit

import pytest
from fleet_server import Server, gone
from fleet_toys import argv

from headrace.fleet.base import FleetError
from headrace.fleet.protocol import ChildSpec
from headrace.paths import DataDir


async def test_when_the_supervisor_is_killed_no_child_is_left(server: Server) -> None:
    await server.run("replica")
    await server.run("stubborn")
    children = [await server.ready(name) for name in ("gateway", "controller", "replica", "stubborn")]
    watched = [os.pidfd_open(child.pid) for child in children]
    await server.end(signal.SIGKILL)
    assert all([await gone(pidfd) for pidfd in watched])


async def test_a_killed_child_is_reported_within_a_second_with_its_signal(server: Server) -> None:
    child = await server.run("replica")
    await server.ready("replica")
    killed = time.monotonic()
    os.kill(child.pid, signal.SIGKILL)
    exited = await server.exited("replica")
    assert time.monotonic() - killed < 1.0
    assert exited.exit_code == -signal.SIGKILL
    assert exited.exited_ms is not None and exited.exited_ms >= exited.started_ms


@pytest.mark.parametrize("kind", ["gateway", "controller"])
async def test_a_service_that_dies_is_started_again_and_replicas_run_on(server: Server, kind: str) -> None:
    await server.run("replica")
    replica = await server.ready("replica")
    first = await server.ready(kind)
    os.kill(first.pid, signal.SIGKILL)
    second = await server.ready(kind, but=(first.token,))
    assert second.pid != first.pid
    assert second.report is not None and second.report["token"] == second.token
    os.kill(replica.pid, 0)
    assert not [c for c in server.seen if c.token == "replica" and c.exited_ms]


async def test_a_service_that_keeps_dying_is_started_ever_less_often(data_dir: DataDir) -> None:
    server = Server(data_dir)
    try:
        await server.start("gateway", "dies")

        def starts() -> list[int]:
            return sorted({c.started_ms for c in server.seen if c.kind == "controller" and c.exited_ms})

        await server.until(lambda _: len(starts()) >= 5)
        gaps = [later - earlier for earlier, later in zip(starts(), starts()[1:], strict=False)]
        assert gaps[2] >= 200  # the third restart waits 0.2 s, the fourth 0.4 s, and each takes the time of a start
        assert gaps[3] >= 400
    finally:
        await server.close()


async def test_connections_are_queued_not_refused_while_the_gateway_restarts(server: Server) -> None:
    first = await server.ready("gateway")
    assert await _ask(server.url) == str(first.pid)
    os.kill(first.pid, signal.SIGKILL)
    await server.exited(first.token)
    answer = await _ask(server.url)
    assert answer == str((await server.ready("gateway", but=(first.token,))).pid)


async def test_a_stop_ends_gateway_then_controller_then_replicas_and_leaves_nothing(server: Server) -> None:
    await server.run("polite")
    tokens = [(await server.ready(name)).token for name in ("gateway", "controller", "polite")]
    assert server.data.server_note.exists()
    assert await server.end(signal.SIGTERM) == 0
    order = [c.token for c in server.seen if c.exited_ms is not None]
    assert order == tokens
    assert not server.data.server_note.exists()
    assert not server.data.socket("supervisor").exists()


async def test_a_second_signal_waits_for_nobody(data_dir: DataDir) -> None:
    server = Server(data_dir)
    try:
        await server.start("stubborn")
        gateway = await server.until(lambda c: c.kind == "gateway" and c.report is not None)
        asked = time.monotonic()
        os.kill(server.pid, signal.SIGINT)
        with pytest.raises(FleetError, match="the server is stopping"):  # until then, the two could arrive as one
            for number in itertools.count():
                await server.run("polite", token=f"polite-{number}")
        await server.end(signal.SIGINT)
        assert time.monotonic() - asked < 5  # the gateway's grace alone is 10 s
        assert not os.path.exists(f"/proc/{gateway.pid}")
    finally:
        await server.close()


async def test_a_killed_server_can_be_started_again_on_its_data_directory(server: Server) -> None:
    await server.end(signal.SIGKILL)
    again = Server(server.data)
    try:
        await again.start()
        await again.ready("gateway")
    finally:
        await again.close()


async def test_the_note_says_where_the_server_listens(server: Server) -> None:
    note = json.loads(server.data.server_note.read_text())
    assert (note["pid"], note["url"]) == (server.pid, server.url)


async def test_a_second_server_on_the_data_directory_is_refused_naming_the_first(server: Server) -> None:
    second = await _run_to_end("serve", str(server.data.root), "0")
    assert second.returncode == 3
    assert f"process {server.pid}" in second.stderr
    assert "--data-dir" in second.stderr


async def test_a_busy_port_is_refused_in_words(data_dir: DataDir) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = await _run_to_end("serve", str(data_dir.root), str(port))
    assert result.returncode == 3
    assert f"port {port}" in result.stderr
    assert "--port" in result.stderr


async def test_a_start_with_a_known_token_returns_the_first_child(server: Server) -> None:
    first, second = await asyncio.gather(server.run("replica"), server.run("replica"))
    assert first.pid == second.pid
    os.kill(first.pid, signal.SIGKILL)
    await server.exited("replica")
    assert (await server.run("replica")).exit_code == -signal.SIGKILL


async def test_a_child_reads_its_input_and_is_pinned_to_its_cores(server: Server) -> None:
    core = max(os.sched_getaffinity(0))
    long = "x" * 300_000  # more than a pipe holds
    await server.run("replica", cpus=(core,), stdin=long)
    child = await server.ready("replica")
    assert child.report is not None
    assert (child.report["cpus"], child.report["given"]) == ([core], long)


async def test_what_a_child_forked_does_not_survive_it(server: Server) -> None:
    child = await server.run("forks")
    grandchild = os.pidfd_open(((await server.ready("forks")).report or {})["grandchild"])
    os.kill(child.pid, signal.SIGKILL)
    await server.exited("forks")
    assert await gone(grandchild)


async def test_a_polite_child_is_given_time_and_a_stubborn_one_is_killed(server: Server) -> None:
    for role in ("polite", "stubborn"):
        await server.run(role)
        await server.ready(role)
    assert (await server.client.stop("polite", 10)).exit_code == 0
    assert (await server.client.stop("stubborn", 0.1)).exit_code == -signal.SIGKILL


async def test_a_slow_stop_keeps_nobody_waiting(server: Server) -> None:
    await server.run("stubborn")
    await server.ready("stubborn")
    stop = asyncio.create_task(server.client.stop("stubborn", 2.0))
    await server.run("polite")
    await server.ready("polite")
    assert not stop.done()
    await stop


async def test_output_that_is_no_report_is_kept_in_the_log(server: Server) -> None:
    await server.run("chatty")
    child = await server.ready("chatty")
    assert child.report == {"state": "ready"}
    await server.client.stop("chatty", 5)
    kept = b"".join(path.read_bytes() for path in server.data.logs.glob("chatty.log*"))
    for line in (b"\xff\xfe not JSON", b"[1, 2]", b"{broken", b'{"no": "state"}', b"line 0", b"line 399"):
        assert line + b"\n" in kept


async def test_a_child_that_fails_tells_why_with_the_end_of_its_log(server: Server) -> None:
    await server.run("fails")
    child = await server.exited("fails")
    assert child.exit_code == 1
    assert child.report == {"state": "failed", "error": "no such weights"}
    assert child.tail == "the reason"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (ChildSpec("t", "gateway", "g", argv("replica")), "the supervisor's own"),
        (ChildSpec("t", "replica", "../up", argv("replica")), "not a name for a child"),
        (ChildSpec("t", "replica", "r", ("/no/such/program",)), "No such file"),
        (ChildSpec("t", "replica", "r", argv("replica"), cpus=(4096,)), "may not use the cores"),
    ],
)
async def test_a_start_that_cannot_be_is_refused_in_words(server: Server, spec: ChildSpec, says: str) -> None:
    with pytest.raises(FleetError, match=says):
        await server.client.start(spec)
    await server.run("replica")  # and it still serves


async def test_a_stop_of_an_unknown_child_is_refused(server: Server) -> None:
    with pytest.raises(FleetError, match="no child has the token 'nobody'"):
        await server.client.stop("nobody", 1)


async def test_a_line_that_is_no_ask_is_answered_and_the_connection_goes_on(server: Server) -> None:
    reader, writer = await asyncio.open_unix_connection(server.data.socket("supervisor"))
    for line, expected in ((b"nonsense\n", "not an ask"), (b'{"op": "list", "id": 5}\n', None)):
        writer.write(line)
        while (reply := json.loads(await asyncio.wait_for(reader.readline(), 5)))["op"] != "reply":
            continue
        assert (reply["error"] or "").startswith(expected or "")
    assert {child["kind"] for child in reply["children"]} == {"gateway", "controller"}
    writer.close()


async def test_the_socket_is_its_owners_alone(server: Server) -> None:
    assert server.data.socket("supervisor").stat().st_mode & 0o777 == 0o600


async def _ask(url: str) -> str:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        return (await asyncio.wait_for(reader.read(), 5)).decode()
    finally:
        writer.close()


async def _run_to_end(*args: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(subprocess.run, argv(*args), capture_output=True, text=True, timeout=20, check=False)
