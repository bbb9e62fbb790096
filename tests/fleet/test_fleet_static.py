"""Servers that already run, as replicas."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from headrace.engines.base import EngineError, ModelSettings
from headrace.fleet.base import FleetError, FleetReplica
from headrace.fleet.static import StaticFleet


class Answers(BaseHTTPRequestHandler):
    paths: frozenset[str] = frozenset({"/v1/models"})
    key = "s3cret"

    def do_GET(self) -> None:
        if self.path not in self.paths:
            self.send_error(404)
        elif self.headers.get("Authorization") != f"Bearer {self.key}":
            self.send_error(401)
        else:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def upstream() -> Iterator[ThreadingHTTPServer]:
    class Own(Answers):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
async def told() -> asyncio.Queue[FleetReplica]:
    return asyncio.Queue()


@pytest.fixture
async def fleet(told: asyncio.Queue[FleetReplica], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StaticFleet]:
    monkeypatch.setenv("UPSTREAM_KEY", "s3cret")
    fleet = StaticFleet(changed=told.put_nowait, every_s=0.02)
    await fleet.open()
    yield fleet
    await fleet.close()


def _model(server: ThreadingHTTPServer) -> ModelSettings:
    url = f"http://127.0.0.1:{server.server_address[1]}"
    return ModelSettings(name="m", engine="openai", url=url, api_key_env="UPSTREAM_KEY")


@pytest.mark.parametrize("path", ["/v1/models", "/health"])
async def test_a_server_that_answers_is_ready(
    fleet: StaticFleet, told: asyncio.Queue[FleetReplica], upstream: ThreadingHTTPServer, path: str
) -> None:
    upstream.RequestHandlerClass.paths = frozenset({path})  # type: ignore[attr-defined]
    model = _model(upstream)
    assert (await fleet.start("r1", model)).state == "loading"
    ready = await asyncio.wait_for(told.get(), 5)
    assert (ready.state, ready.url, ready.secret) == ("ready", model.url, "s3cret")


async def test_a_server_that_goes_away_and_returns_is_told(
    fleet: StaticFleet, told: asyncio.Queue[FleetReplica], upstream: ThreadingHTTPServer
) -> None:
    await fleet.start("r1", _model(upstream))
    states = [(await asyncio.wait_for(told.get(), 5)).state]
    for paths in (frozenset[str](), frozenset({"/v1/models"})):
        upstream.RequestHandlerClass.paths = paths  # type: ignore[attr-defined]
        states.append((await asyncio.wait_for(told.get(), 5)).state)
    assert states == ["ready", "loading", "ready"]


async def test_a_refused_key_is_named_but_not_shown(
    fleet: StaticFleet, told: asyncio.Queue[FleetReplica], upstream: ThreadingHTTPServer
) -> None:
    upstream.RequestHandlerClass.key = "another"  # type: ignore[attr-defined]
    await fleet.start("r1", _model(upstream))
    problem = (await asyncio.wait_for(told.get(), 5)).error or ""
    assert "refuses the key" in problem
    assert "s3cret" not in problem


async def test_one_server_is_one_replica(fleet: StaticFleet, upstream: ThreadingHTTPServer) -> None:
    model = _model(upstream)
    assert (fleet.capacity(model), fleet.room(model)) == (1, 1)
    await fleet.start("r1", model)
    assert fleet.room(model) == 0
    with pytest.raises(FleetError, match="is one replica of m"):
        await fleet.start("r2", model)
    await fleet.stop("r1")
    assert fleet.room(model) == 1
    with pytest.raises(FleetError, match="no replica 'r1'"):
        await fleet.stop("r1")


async def test_a_start_that_fails_for_its_key_takes_no_room(
    fleet: StaticFleet, upstream: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _model(upstream)
    monkeypatch.delenv("UPSTREAM_KEY")
    with pytest.raises(EngineError, match="UPSTREAM_KEY is not set"):
        await fleet.start("r1", model)
    assert (fleet.room(model), fleet.replicas()) == (1, ())
