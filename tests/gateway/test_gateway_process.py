"""The process of a gateway: how it starts, drains, and what a kill leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from gateway_rig import (
    KEYS,
    RAW,
    SSE,
    WITHIN_S,
    FakeController,
    FakeEngine,
    RawClient,
    Script,
    answer,
    chat_body,
    endpoint_view,
)

from headrace.gateway.config import GatewayConfig
from headrace.gateway.snapshot import Snapshot, Traits
from headrace.journal.reader import Position, read, writer_alive
from headrace.journal.records import Progress, Reserved, Settled

CHAT = "/v1/chat/completions"


class Started:
    """``python -m headrace.gateway.main`` with a fake controller and an engine."""

    def __init__(self, folder: Path, process: asyncio.subprocess.Process, port: int) -> None:
        self.folder = folder
        self.process = process
        self.port = port

    async def connect(self) -> RawClient:
        return RawClient(*await asyncio.open_connection("127.0.0.1", self.port))

    def records(self) -> list[Any]:
        return [entry.record for entry in read(self.folder, "gateway-1", Position()).entries]

    async def ended(self) -> tuple[int, list[dict[str, Any]]]:
        """Exit code and log."""
        async with asyncio.timeout(WITHIN_S):
            assert self.process.stderr is not None
            text = await self.process.stderr.read()
            return await self.process.wait(), [json.loads(line) for line in text.splitlines()]


async def launch(config: str, *fds: int) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "headrace.gateway.main",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=fds,
    )
    assert process.stdin is not None
    process.stdin.write(config.encode())
    process.stdin.close()
    return process


def config_for(folder: Path, **changes: Any) -> str:
    config = GatewayConfig(
        **{
            "gateway_id": "gateway-1",
            "controller_socket": str(folder / "controller.sock"),
            "link_socket": str(folder / "link.sock"),
            "journal_dir": str(folder),
            "port": 0,
            **changes,
        }
    )
    return msgspec.json.encode(config).decode()


@contextlib.asynccontextmanager
async def started(folder: Path, engine: FakeEngine, **changes: Any) -> AsyncIterator[Started]:
    controller = FakeController(folder)
    await controller.start()
    await engine.start()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        fd = listening.fileno()
        process = await launch(config_for(folder, listen_fd=fd, **changes), fd)
        port = listening.getsockname()[1]
    try:
        assert process.stdout is not None
        async with asyncio.timeout(WITHIN_S):
            assert json.loads(await process.stdout.readline()) == {"state": "ready", "port": port}
        await controller.until(lambda: bool(controller.hellos))
        snapshot = Snapshot(
            version=0, restored=True, endpoints=(endpoint_view(),), replicas=(engine.view(),), keys=KEYS
        )
        await controller.push(snapshot)
        assert controller.hellos[0].pid == process.pid
        yield Started(folder, process, port)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        engine.release.set()
        await engine.stop()
        await controller.stop()


async def test_sigterm_lets_answers_end_and_takes_nothing_new(tmp_path: Path) -> None:
    engine = FakeEngine("replica-0", RAW)
    engine.behave = answer("a", "b", hold_after=1)
    async with started(tmp_path, engine) as gateway:
        client, idle = await gateway.connect(), await gateway.connect()
        await client.send("POST", CHAT, chat_body(stream=True))
        await client.until(b'"a"')
        gateway.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WITHIN_S):
            assert await idle.reader.read() == b""  # an idle connection is closed at once
        with pytest.raises(ConnectionRefusedError):
            await gateway.connect()
        engine.release.set()
        await client.until(b"[DONE]")
        code, log = await gateway.ended()
    assert code == 0
    assert log[-1]["message"] == "stopped"
    assert log[-1]["cut"] == 0
    assert [type(record) for record in gateway.records()] == [Reserved, Settled]
    assert not writer_alive(tmp_path, "gateway-1")


async def test_what_does_not_end_in_time_is_told_so_and_settled(tmp_path: Path) -> None:
    engine = FakeEngine("replica-0", RAW)
    engine.behave = answer("a", "b", hold_after=1)
    async with started(tmp_path, engine, drain_s=0.1) as gateway:
        client = await gateway.connect()
        await client.send("POST", CHAT, chat_body(stream=True))
        await client.until(b'"a"')
        gateway.process.send_signal(signal.SIGTERM)
        last = await client.until(b'"error"')
        assert b"[DONE]" not in last
        code, log = await gateway.ended()
    assert code == 0
    assert log[-1]["cut"] == 1
    assert [type(record) for record in gateway.records()] == [Reserved, Settled]


async def test_kill_minus_9_in_mid_stream_leaves_what_was_streamed_in_the_journal(tmp_path: Path) -> None:
    engine = FakeEngine("replica-0", Traits(stream_upstream=True, reuse_after_stream=False))

    async def drip(engine: FakeEngine, exchange: Any, body: dict[str, Any]) -> None:
        script = Script(("x",), prompt_tokens=40)
        exchange.start(200, [SSE])
        said = 0
        while not exchange.client_gone:
            said += 1
            exchange.write(script.timed(script.piece(body, "x"), said))
            await asyncio.sleep(0.01)

    engine.behave = drip
    async with started(tmp_path, engine) as gateway:
        client = await gateway.connect()
        await client.send("POST", CHAT, chat_body(stream=True))
        async with asyncio.timeout(WITHIN_S):
            while not any(isinstance(record, Progress) for record in gateway.records()):
                await client.until(b'"x"')
        assert writer_alive(tmp_path, "gateway-1")
        gateway.process.send_signal(signal.SIGKILL)
        await gateway.process.wait()
        async with asyncio.timeout(WITHIN_S):
            await engine.cancelled.wait()
    assert not writer_alive(tmp_path, "gateway-1")
    reserved, *progress = gateway.records()
    assert isinstance(reserved, Reserved)
    assert progress
    assert all(isinstance(record, Progress) and record.rid == reserved.rid for record in progress)
    assert progress[-1].output_tokens > 10


async def test_the_access_log_has_one_line_for_each_request_and_no_secrets(tmp_path: Path) -> None:
    engine = FakeEngine("replica-0", RAW)
    async with started(tmp_path, engine) as gateway:
        secret = "the prompt is nobody's business"
        client = await gateway.connect()
        await client.send("POST", CHAT, chat_body(messages=[{"role": "user", "content": secret}]))
        got = await client.answer()
        await client.send("POST", CHAT + "?api_key=hidden", {"model": "nothing", "messages": []})
        await client.answer()
        await client.send("GET", "/nowhere?token=hidden", None)
        await client.answer()
        client.close()
        gateway.process.send_signal(signal.SIGTERM)
        _, log = await gateway.ended()
    lines = [line for line in log if line["logger"] == "headrace.access"]
    assert [line["status"] for line in lines] == [200, 404, 503]
    first = lines[0]
    assert first["id"] == got.headers["x-request-id"]
    assert (first["endpoint"], first["replica"], first["key"]) == ("smollm2", "replica-0", "00000002")
    assert (first["input_tokens"], first["output_tokens"], first["outcome"]) == (11, 2, "ok")
    assert 0 <= first["queue_ms"] <= first["ttft_ms"] <= first["e2e_ms"]
    whole = json.dumps(log)
    for hidden in (secret, "query-secret", "secret-of-replica-0", "hidden"):
        assert hidden not in whole


@pytest.mark.parametrize(
    ("config", "code", "words"),
    [
        ("{", 2, "not usable"),
        ('{"gateway_id": 1}', 2, "not usable"),
    ],
)
async def test_an_unusable_configuration_is_said(config: str, code: int, words: str) -> None:
    process = await launch(config)
    assert process.stderr is not None
    async with asyncio.timeout(WITHIN_S):
        assert words in (await process.stderr.read()).decode()
        assert await process.wait() == code


async def test_a_journal_that_cannot_be_opened_or_a_port_in_use_ends_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for config in (
            config_for(tmp_path, journal_dir=str(tmp_path / "gone")),
            config_for(tmp_path, port=taken.getsockname()[1]),
        ):
            process = await launch(config)
            assert process.stderr is not None
            async with asyncio.timeout(WITHIN_S):
                line = json.loads((await process.stderr.read()).splitlines()[-1])
                assert await process.wait() == 1
            assert line["message"] == "cannot start"
            assert line["reason"]


async def test_it_needs_no_heavy_library(tmp_path: Path) -> None:
    code = (
        "import sys, headrace.gateway.main; "
        "sys.exit(sum(name in sys.modules for name in ('ray', 'fastapi', 'sqlalchemy', 'numpy', 'pydantic', 'rich')))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env={**os.environ, "PYTHONPATH": ""})
    async with asyncio.timeout(WITHIN_S):
        assert await process.wait() == 0
