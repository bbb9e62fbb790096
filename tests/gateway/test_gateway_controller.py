"""The gateway and its controller: snapshots, ticks, health, and the paths that are handed on."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest
from gateway_rig import RAW, WITHIN_S, FakeController, Rig, answer, chat_body, rig

from headrace.gateway.snapshot import Snapshot
from headrace.wire.server import Exchange, Server

CHAT = "/v1/chat/completions"


async def test_health_says_what_it_waits_for() -> None:
    async with rig(RAW) as r:
        assert (await r.get("/healthz", key=None)).json == {"status": "ok"}
        await r.publish(restored=False, replicas=())
        got = await r.get("/healthz", key=None)
        assert got.status == 503
        assert got.json["waits_for"] == "endpoints to be restored: smollm2"


async def test_before_the_first_snapshot_nothing_is_known() -> None:
    async with rig() as r:
        fresh = Rig(r.controller, r.config, r.gateway, r.port, [], r.folder)
        r.gateway._live.version = 0
        assert (await fresh.get("/healthz", key=None)).json["waits_for"] == "a first snapshot from the controller"
        assert (await fresh.chat()).status == 503


async def test_an_old_snapshot_is_ignored_and_the_newest_is_acknowledged() -> None:
    async with rig(RAW) as r:
        await r.publish()
        newest = r.controller.snapshot.version
        old = Snapshot(version=newest - 1, restored=True)
        count = len(r.controller.acks)
        for writer in r.controller._writers:
            writer.write(msgspec.json.encode(old) + b"\n")
        await r.controller.until(lambda: len(r.controller.acks) > count)
        assert r.controller.acks[-1] == newest
        assert (await r.chat()).status == 200


async def test_ticks_count_everything_once() -> None:
    async with rig(RAW) as r:
        r.engines[0].behave = answer("a", "b", prompt_tokens=10)
        for _ in range(3):
            await r.chat()
        tick = await r.controller.tick(lambda tick: tick.entities[0].completed == 3)
        (endpoint,) = tick.entities
        assert tick.gateway == "gateway-1"
        assert tick.version == r.controller.snapshot.version
        assert (endpoint.endpoint, endpoint.arrivals, endpoint.dispatched) == ("id-of-smollm2", 3, 3)
        assert (endpoint.input_tokens, endpoint.output_tokens) == (30, 6)
        assert endpoint.served_work == endpoint.offered_work == pytest.approx(36)
        assert (endpoint.queued, endpoint.in_flight, endpoint.in_flight_work) == (0, 0, 0.0)
        (replica,) = tick.replicas
        assert (replica.id, replica.dispatched, replica.in_flight) == ("replica-0", 3, 0)


async def test_it_serves_on_without_a_controller_and_finds_a_new_one() -> None:
    async with rig(RAW) as r:
        await r.controller.stop()
        assert (await r.chat()).status == 200
        r.controller.link_path.unlink()
        second = FakeController(r.folder)
        second.snapshot = r.controller.snapshot
        await second.start()
        await second.until(lambda: r.controller.snapshot.version in second.acks)
        tick = await second.tick(lambda tick: bool(tick.entities))
        assert tick.entities[0].completed == 1
        await second.stop()


async def controller_http(r: Rig, handler: object) -> Server:
    server = Server(handler)  # type: ignore[arg-type]
    await server.listen(path=str(r.controller.http_path))
    return server


async def test_every_other_path_goes_to_the_controller_as_it_came() -> None:
    async def echo(exchange: Exchange) -> None:
        request = exchange.request
        seen = {
            "method": request.method,
            "target": request.target,
            "headers": {name.decode(): value.decode() for name, value in request.headers},
            "body": request.body.decode(),
        }
        exchange.respond(201, [(b"content-type", b"application/json"), (b"x-own", b"1")], json.dumps(seen).encode())

    async with rig(RAW) as r:
        server = await controller_http(r, echo)
        got = await r.post("/api/2.0/serving-endpoints/?a=b%20c", {"name": "x"}, x_custom="kept")
        await server.close()
    assert got.status == 201
    assert got.headers["x-own"] == "1"
    seen = got.json
    assert (seen["method"], seen["target"]) == ("POST", "/api/2.0/serving-endpoints/?a=b%20c")
    assert seen["body"] == '{"name": "x"}'
    assert seen["headers"]["x-custom"] == "kept"
    assert seen["headers"]["authorization"].startswith("Bearer ")
    assert seen["headers"]["host"] == "test"
    assert seen["headers"]["x-request-id"] == got.headers["x-request-id"]


async def test_the_controllers_answers_come_back_whatever_their_framing() -> None:
    async def several(exchange: Exchange) -> None:
        if exchange.request.path == "/empty":
            exchange.respond(204)
        elif exchange.request.path == "/head":
            exchange.respond(200, [(b"content-length", b"123")])
        else:
            exchange.start(200, [(b"content-type", b"text/plain")])
            for _ in range(3):
                exchange.write(b"line\n")
                await asyncio.sleep(0)
            exchange.finish()

    async with rig(RAW) as r:
        server = await controller_http(r, several)
        client = await r.connect()
        await client.send("GET", "/stream", None)
        assert (await client.answer()).body == b"line\n" * 3
        await client.send("GET", "/empty", None)
        assert (await client.head())[0] == 204
        await client.send("HEAD", "/head", None)
        status, headers = await client.head()
        assert (status, headers["content-length"]) == (200, "123")
        await client.send("GET", "/stream", None)
        assert (await client.answer()).status == 200
        client.close()
        await server.close()


async def test_without_a_controller_its_paths_are_a_503_and_endpoints_go_on() -> None:
    async with rig(RAW) as r:
        got = await r.get("/api/2.0/serving-endpoints")
        assert (got.status, got.json["code"]) == (503, "controller_unavailable")
        assert "retry-after" in got.headers
        assert (await r.chat()).status == 200


async def test_a_client_that_leaves_takes_its_request_to_the_controller_with_it() -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def hang(exchange: Exchange) -> None:
        exchange.on_client_gone(gone.set)
        arrived.set()
        await gone.wait()

    async with rig(RAW) as r:
        server = await controller_http(r, hang)
        client = await r.connect()
        await client.send("GET", "/slow", None)
        async with asyncio.timeout(WITHIN_S):
            await arrived.wait()
            client.close()
            await gone.wait()
        await server.close()


async def test_a_controller_that_dies_in_its_answer_is_an_error_or_a_cut_connection() -> None:
    async def dies(exchange: Exchange) -> None:
        if exchange.request.path == "/late":
            exchange.start(200, [])
            exchange.write(b"begin")
            await asyncio.sleep(0)
        exchange.abort()

    async with rig(RAW) as r:
        server = await controller_http(r, dies)
        got = await r.get("/early")
        assert (got.status, got.json["code"]) == (503, "controller_unavailable"), (
            "asking again is safe, so it is asked for"
        )
        assert got.headers["retry-after"] == "1"
        got = await r.post("/early", {})
        assert (got.status, got.json["code"]) == (502, "controller_failed"), "it may have been done"
        client = await r.connect()
        await client.send("GET", "/late", None)
        with pytest.raises(asyncio.IncompleteReadError):
            await client.until(b"0\r\n\r\n")
        await server.close()


async def test_a_draining_replica_gets_nothing_new_and_ends_what_it_has() -> None:
    async with rig(RAW, RAW) as r:
        r.engines[0].behave = answer("a", "b", hold_after=1)
        client = await r.connect()
        await client.send("POST", CHAT, chat_body(stream=True))
        await r.engines[0].asked()
        await r.publish(replicas=[r.engines[0].view(draining=True), r.engines[1].view()])
        for _ in range(3):
            assert (await r.chat()).status == 200
        assert len(r.engines[0].bodies) == 1
        await r.publish(replicas=[r.engines[1].view()])
        tick = await r.controller.tick(lambda tick: True)
        assert {replica.id: replica.in_flight for replica in tick.replicas} == {"replica-0": 1, "replica-1": 0}
        r.engines[0].release.set()
        assert (await client.answer()).events[-1] == "[DONE]"
