"""Servers that already run, as replicas."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from headrace.engines.base import EngineError, ModelSettings
from headrace.fleet.base import FleetError, FleetReplica
from headrace.fleet.static import StaticFleet


class Answers(BaseHTTPRequestHandler):
    paths: frozenset[str] = frozenset({"/v1/models"})
    key = "s3cret"
    serves: tuple[str, ...] = ()

    def do_GET(self) -> None:
        if self.path not in self.paths:
            self.send_error(404)
        elif self.headers.get("Authorization") != f"Bearer {self.key}":
            self.send_error(401)
        else:
            models = json.dumps({"object": "list", "data": [{"id": name} for name in self.serves]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(models)))
            self.end_headers()
            self.wfile.write(models)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def serving(port: int = 0) -> Iterator[ThreadingHTTPServer]:
    class Own(Answers):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Own)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def upstream() -> Iterator[ThreadingHTTPServer]:
    with serving() as server:
        yield server


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


def _url(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def _model(server: ThreadingHTTPServer, *more: str, upstream_model: str | None = None) -> ModelSettings:
    return ModelSettings(
        name="m",
        engine="openai",
        url=_url(server),
        more_urls=more,
        api_key_env="UPSTREAM_KEY",
        upstream_model=upstream_model,
    )


@pytest.mark.parametrize("path", ["/v1/models", "/health"])
async def test_a_server_that_answers_is_ready(
    fleet: StaticFleet, told: asyncio.Queue[FleetReplica], upstream: ThreadingHTTPServer, path: str
) -> None:
    upstream.RequestHandlerClass.paths = frozenset({path})  # type: ignore[attr-defined]
    model = _model(upstream)
    assert (await fleet.start("r1", model)).state == "loading"
    ready = await asyncio.wait_for(told.get(), 5)
    assert (ready.state, ready.url, ready.secret) == ("ready", model.url, "s3cret")


async def test_of_a_server_that_is_not_ours_only_what_is_wrong_is_known(
    fleet: StaticFleet, told: asyncio.Queue[FleetReplica], upstream: ThreadingHTTPServer
) -> None:
    upstream.RequestHandlerClass.paths = frozenset()  # type: ignore[attr-defined]
    await fleet.start("r1", _model(upstream))
    wrong = await asyncio.wait_for(told.get(), 5)
    assert await fleet.log_tail("r1") == wrong.error
    upstream.RequestHandlerClass.paths = frozenset({"/v1/models"})  # type: ignore[attr-defined]
    assert (await asyncio.wait_for(told.get(), 5)).state == "ready"
    assert await fleet.log_tail("r1") == ""
    with pytest.raises(FleetError, match="no replica 'r9'"):
        await fleet.log_tail("r9")


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
    with pytest.raises(FleetError, match="is one replica of m, and there is no other"):
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


async def test_each_of_several_servers_is_a_replica_of_its_own(
    fleet: StaticFleet, told: asyncio.Queue[FleetReplica], upstream: ThreadingHTTPServer
) -> None:
    with serving() as second:
        model = _model(upstream, _url(second))
        assert (fleet.capacity(model), fleet.room(model)) == (2, 2)
        assert fleet.shares(model) == {_url(upstream): Fraction(1, 2)}
        for name in ("r1", "r2"):
            await fleet.start(name, model)
        ready = [await asyncio.wait_for(told.get(), 5) for _ in range(2)]
        assert {replica.url for replica in ready} == {_url(upstream), _url(second)}
        with pytest.raises(FleetError, match="are 2 replicas of m, and there is no other"):
            await fleet.start("r3", model)
        await fleet.stop("r1")
        assert (await fleet.start("r3", model)).state == "loading"


async def test_a_server_of_two_models_is_one_replica_of_either(
    fleet: StaticFleet, upstream: ThreadingHTTPServer
) -> None:
    await fleet.start("r1", _model(upstream))
    assert fleet.room(_model(upstream, upstream_model="other")) == 0


async def test_a_server_that_stops_and_starts_again_is_ready_again(
    fleet: StaticFleet, told: asyncio.Queue[FleetReplica]
) -> None:
    with serving() as first:
        model, port = _model(first), int(first.server_address[1])
        await fleet.start("r1", model)
        assert (await asyncio.wait_for(told.get(), 5)).state == "ready"
    lost = await asyncio.wait_for(told.get(), 10)
    assert (lost.state, lost.url) == ("loading", None)
    assert "does not answer: [Errno 111] Connection refused" in (lost.error or "")
    with serving(port):
        found = await asyncio.wait_for(told.get(), 10)
        assert (found.state, found.url, found.error) == ("ready", model.url, None)


async def test_a_server_of_another_model_is_not_ready_and_says_what_it_serves(
    fleet: StaticFleet, told: asyncio.Queue[FleetReplica], upstream: ThreadingHTTPServer
) -> None:
    upstream.RequestHandlerClass.serves = ("org/a", "org/b")  # type: ignore[attr-defined]
    await fleet.start("r1", _model(upstream, upstream_model="org/c"))
    problem = (await asyncio.wait_for(told.get(), 5)).error or ""
    assert "serves org/a, org/b, not 'org/c'" in problem
    await fleet.stop("r1")
    told.get_nowait()
    await fleet.start("r2", _model(upstream, upstream_model="org/b"))
    assert (await asyncio.wait_for(told.get(), 5)).state == "ready"
