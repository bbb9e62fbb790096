"""A model that is served by servers which already run: they are sold as replicas, die, and come back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from gateway_rig import JSON, RAW, FakeEngine, answer
from system_server import HEADRACE, Server, until
from system_simulated import simulated_profile

from headrace.models.registry import Registry
from headrace.profiles.files import save
from headrace.profiles.profile import IterationTime
from headrace.wire.server import Exchange
from headrace.wire.server import Server as WireServer

pytestmark = pytest.mark.system

KEY = "s3cret"
TIMING = IterationTime(base_s=0.002, prefill_s=0.0, decode_s=0.0005, context_s=0.0)


class Upstream(FakeEngine):
    """A server that also says what it serves, and asks for a key. It can stop, and start again where it was."""

    def __init__(self, name: str) -> None:
        super().__init__(name, RAW)
        self.behave = answer("Hello", f" from {name}")
        self.port = 0

    async def start(self) -> None:
        self._server = WireServer(self._handle)
        await self._server.listen(port=self.port)
        self.port = self._server.port
        self.url = f"http://127.0.0.1:{self.port}"

    async def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.header(b"authorization") != f"Bearer {KEY}".encode():
            exchange.respond(401, [JSON], b"{}")
        elif request.method == "GET":
            exchange.respond(200, [JSON], json.dumps({"data": [{"id": "org/m"}]}).encode())
        else:
            await super()._handle(exchange)


@pytest.fixture
async def upstreams(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Upstream]]:
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    both = [Upstream("a"), Upstream("b")]
    for one in both:
        await one.start()
    yield both
    for one in both:
        await one.stop()


async def add(data: Path, *urls: str) -> None:
    """Register them as a user would, and measure them as no test has the time to."""
    words = [part for url in urls for part in ("--url", f"{url}/v1")]
    more = ("--api-key-env", "UPSTREAM_KEY", "--slots", "2", "--data-dir", str(data))
    process = await asyncio.create_subprocess_exec(HEADRACE, "models", "add", "remote", *words, *more)
    assert await process.wait() == 0
    model = Registry(data / "models").get("remote")
    assert model.upstream_model == "org/m"
    save(data / "profiles/remote.json", simulated_profile(model, TIMING))


def chat(server: Server) -> str:
    body = {"model": "remote", "messages": [{"role": "user", "content": "hi"}]}
    told = server.call("POST", "/v1/chat/completions", body)
    return str(told["choices"][0]["message"]["content"])


def chunks(server: Server) -> tuple[int, str]:
    endpoint = server.endpoint("remote")
    return endpoint["chunks_ready"], " ".join(endpoint["problems"])


async def test_servers_that_already_run_are_sold_die_and_come_back(tmp_path: Path, upstreams: list[Upstream]) -> None:
    first, second = upstreams
    data = tmp_path / "data"
    await add(data, first.url, second.url)

    def wait_for(server: Server, ready: int) -> Any:
        return until(lambda: chunks(server)[0] == ready, within_s=20, what=f"{ready} chunks are ready")

    server = Server(data)
    await asyncio.to_thread(server.start)
    try:
        wanted = ("--model", "remote", "--min-chunks", "2", "--max-chunks", "2", "--wait")
        await asyncio.to_thread(server.cli, "endpoints", "create", "remote", *wanted)
        both = await asyncio.gather(*(asyncio.to_thread(chat, server) for _ in range(8)))
        assert set(both) == {"Hello from a", "Hello from b"}
        assert first.bodies[0]["model"] == "org/m"

        await first.stop()
        await asyncio.to_thread(wait_for, server, 1)
        assert f"{first.url} does not answer" in chunks(server)[1]
        assert {await asyncio.to_thread(chat, server) for _ in range(3)} == {"Hello from b"}

        await second.stop()
        await asyncio.to_thread(wait_for, server, 0)
        held = asyncio.create_task(asyncio.to_thread(chat, server))
        await asyncio.to_thread(
            until,
            lambda: server.endpoint("remote")["gauges"]["queued"] == 1,
            within_s=20,
            what="the request waits",
        )
        await first.start()
        assert await held == "Hello from a"
        await second.start()
        await asyncio.to_thread(wait_for, server, 2)
        assert chunks(server)[1] == ""
    finally:
        await asyncio.to_thread(server.stop)
