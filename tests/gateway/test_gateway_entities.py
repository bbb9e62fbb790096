"""Several served entities behind one endpoint: the split, what spills, what falls back, and what is booked for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from gateway_rig import (
    RAW,
    SSE,
    Answer,
    FakeEngine,
    RawClient,
    Rig,
    Script,
    answer,
    chat_body,
    endpoint_view,
    event,
    fail,
    rig,
    vanish,
)

from headrace.gateway.snapshot import EndpointView, EntityTick, Tick
from headrace.journal.records import Rejected, Reserved, Settled
from headrace.wire.server import Exchange

CHAT = "/v1/chat/completions"
BROKEN = fail(500, {"error": {"message": "out of memory"}})


def endpoint(*entities: dict[str, Any], **changes: Any) -> EndpointView:
    """Entities ``e-0``, ``e-1``... with these changes; all traffic to the first one unless they say otherwise."""
    (model,) = endpoint_view().entities
    views = [
        msgspec.structs.replace(
            model, **{"id": f"e-{index}", "name": f"name-{index}", "traffic": 0 if index else 100, **its_changes}
        )
        for index, its_changes in enumerate(entities)
    ]
    return msgspec.structs.replace(endpoint_view(), entities=tuple(views), **changes)


@asynccontextmanager
async def serving(view: EndpointView, *, slots: int = 2, **config: Any) -> AsyncIterator[Rig]:
    """One replica for each entity: ``replica-0`` for ``e-0``, and so on."""
    async with rig(*[RAW] * len(view.entities), **config) as r:
        await republish(r, view, slots=slots)
        yield r


async def republish(r: Rig, view: EndpointView, *, slots: int = 2) -> None:
    r.endpoint = view
    replicas = [engine.view(entity=f"e-{index}", slots=slots) for index, engine in enumerate(r.engines)]
    await r.publish(replicas=replicas)


async def holds(r: Rig, index: int) -> RawClient:
    """A request that is in flight at this engine until it is released."""
    before = len(r.engines[index].bodies)
    r.engines[index].behave = answer("held", hold_after=0)
    client = await r.connect()
    await client.send("POST", CHAT, chat_body())
    await r.engines[index].asked(before + 1)
    return client


def served_by(got: Answer) -> str:
    return got.headers["served-model-name"]


def ticks(tick: Tick) -> dict[str, EntityTick]:
    return {found.entity: found for found in tick.entities}


def entities_of(r: Rig) -> list[str]:
    """Of the reservations."""
    return [record.entity for record in r.journal() if isinstance(record, Reserved)]


# The split.


@pytest.mark.parametrize("traffic", [(70, 30), (99, 1), (50, 25, 25), (100, 0), (0, 100)])
async def test_a_hundred_requests_are_split_exactly(traffic: tuple[int, ...]) -> None:
    async with serving(endpoint(*({"traffic": share, "chunk": 1e6} for share in traffic))) as r:
        names = [served_by(await r.chat()) for _ in range(100)]
        assert Counter(names) == Counter({f"name-{index}": share for index, share in enumerate(traffic) if share})
        assert [len(engine.bodies) for engine in r.engines] == list(traffic)
        assert Counter(entities_of(r)) == Counter({f"e-{index}": share for index, share in enumerate(traffic) if share})


async def test_a_new_split_holds_from_the_next_request_on() -> None:
    async with serving(endpoint({"chunk": 1e6}, {"chunk": 1e6})) as r:
        assert {served_by(await r.chat()) for _ in range(5)} == {"name-0"}
        await republish(r, endpoint({"chunk": 1e6, "traffic": 0}, {"chunk": 1e6, "traffic": 100}))
        assert {served_by(await r.chat()) for _ in range(5)} == {"name-1"}


async def test_each_entity_has_its_own_terms() -> None:
    view = endpoint({"default_max_tokens": 7, "traffic": 50}, {"default_max_tokens": 9, "traffic": 50, "chunk": 50.0})
    async with serving(view) as r:
        answers = [await r.chat() for _ in range(2)]
        assert [engine.bodies[0]["max_tokens"] for engine in r.engines] == [7, 9]
        assert {served_by(got): got.headers["x-ratelimit-limit-tokens"] for got in answers} == {
            "name-0": "20000",
            "name-1": "4096",
        }


# Spill.


async def test_what_the_routed_entity_cannot_take_at_once_spills_and_counts_as_offered_at_both() -> None:
    async with serving(endpoint({}, {}, overload="spill"), slots=1) as r:
        assert served_by(await r.chat()) == "name-0"
        running = await holds(r, 0)
        assert served_by(await r.chat()) == "name-1"
        tick = ticks(await r.controller.tick(lambda tick: ticks(tick)["e-1"].completed == 1))
        assert (tick["e-0"].arrivals, tick["e-0"].queued) == (3, 0)
        assert (tick["e-1"].arrivals, tick["e-1"].queued) == (1, 0)
        assert tick["e-0"].offered_work > tick["e-0"].served_work + tick["e-0"].in_flight_work > 0
        assert tick["e-1"].offered_work == tick["e-1"].served_work == pytest.approx(13)
        assert entities_of(r) == ["e-0", "e-0", "e-1"]
        assert r.kinds().count("Settled") == 2
        running.close()


async def test_what_spills_goes_to_the_next_in_the_list_that_has_room() -> None:
    view = endpoint({"traffic": 0}, {"traffic": 100}, {}, {}, overload="spill")
    async with serving(view, slots=1) as r:
        clients = []
        for index in (1, 2, 3, 0):
            clients.append(await holds(r, index))
            assert [len(engine.bodies) for engine in r.engines].count(1) == len(clients)
        for client in clients:
            client.close()


async def test_where_nobody_has_room_it_waits_at_the_routed_entity() -> None:
    async with serving(endpoint({}, {}, overload="spill"), slots=1) as r:
        clients = [await holds(r, 0), await holds(r, 1)]
        waiting = await r.connect()
        await waiting.send("POST", CHAT, chat_body())
        tick = ticks(await r.controller.tick(lambda tick: ticks(tick)["e-0"].queued == 1))
        assert (tick["e-0"].arrivals, tick["e-1"].arrivals, tick["e-1"].queued) == (3, 1, 0)
        r.engines[0].behave = answer("now")
        r.engines[0].release.set()
        assert served_by(await waiting.answer()) == "name-0"
        for client in clients:
            client.close()


async def test_what_is_not_to_spill_waits_although_another_entity_is_free() -> None:
    async with serving(endpoint({}, {}), slots=1) as r:
        running = await holds(r, 0)
        waiting = await r.connect()
        await waiting.send("POST", CHAT, chat_body())
        await r.controller.tick(lambda tick: ticks(tick)["e-0"].queued == 1)
        assert r.engines[1].bodies == []
        running.close()
        waiting.close()


async def test_nothing_spills_to_an_entity_whose_context_it_does_not_fit() -> None:
    async with serving(endpoint({}, {"context": 50}, {"context": 200}, overload="spill"), slots=1) as r:
        running = await holds(r, 0)
        got = await r.post("/v1/completions", {"model": "smollm2", "prompt": [1] * 100})
        assert served_by(got) == "name-2"
        assert r.engines[1].bodies == []
        got = await r.post("/v1/completions", {"model": "smollm2", "prompt": [1] * 5000})
        assert (got.status, got.json["code"]) == (400, "context_length_exceeded")
        assert "4096" in got.json["message"]
        running.close()


# Fallback.


async def test_a_429_at_once_is_tried_on_the_next_entity() -> None:
    async with serving(endpoint({}, {}, overload="reject", fallback=True), slots=1) as r:
        running = await holds(r, 0)
        assert served_by(await r.chat()) == "name-1"
        tick = ticks(await r.controller.tick(lambda tick: ticks(tick)["e-1"].completed == 1))
        assert (tick["e-0"].rejected, tick["e-1"].rejected) == (1, 0)
        assert [type(record).__name__ for record in r.journal()] == ["Reserved", "Reserved", "Settled"]
        assert entities_of(r) == ["e-0", "e-1"]
        running.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_deadline_that_passed_in_the_queue_is_tried_on_the_next_entity(stream: bool) -> None:
    async with serving(endpoint({}, {}, queue_deadline_s=0.1, fallback=True), slots=1) as r:
        running = await holds(r, 0)
        got = await r.chat(stream=stream)
        assert (got.status, served_by(got)) == (200, "name-1")
        assert not [record for record in r.journal() if isinstance(record, Rejected)]
        running.close()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [429, 500, 501])
async def test_an_error_of_the_engine_is_tried_on_the_next_entity(status: int, stream: bool) -> None:
    async with serving(endpoint({"chunk": 500.0}, {"default_max_tokens": 9}, fallback=True)) as r:
        r.engines[0].behave = fail(status, {"error": {"message": "busy"}})
        got = await r.chat(stream=stream)
        assert (got.status, served_by(got)) == (200, "name-1")
        assert r.engines[1].bodies[0]["max_tokens"] == 9
        first, second, settled = r.journal()
        assert isinstance(first, Reserved)
        assert isinstance(second, Reserved)
        assert isinstance(settled, Settled)
        assert (first.entity, second.entity, second.replica) == ("e-0", "e-1", "replica-1")
        assert [record.seq for record in (first, second, settled)] == [1, 2, 3]
        assert (settled.status, settled.outcome, settled.work) == (200, "ok", pytest.approx(13))
        tick = ticks(await r.controller.tick(lambda tick: ticks(tick)["e-1"].completed == 1))
        assert (tick["e-0"].failed, tick["e-0"].in_flight, tick["e-0"].served_work) == (1, 0, 0.0)


async def test_replicas_that_say_that_they_cannot_are_no_reason_not_to_fall_back() -> None:
    """Two that died under a request are; these are alive, and say so."""
    async with serving(endpoint({}, {}, fallback=True)) as r:
        r.engines[0].behave = fail(503, {"error": {"message": "overloaded"}})
        got = await r.chat()
        assert (got.status, served_by(got)) == (200, "name-1")
        assert len(r.engines[0].bodies) == 2
        assert entities_of(r) == ["e-0", "e-0", "e-1"]


async def test_at_the_next_entity_another_replica_may_be_tried_again() -> None:
    cannot = fail(503, {"error": {"message": "overloaded"}})
    async with rig(RAW, RAW, RAW) as r:
        r.endpoint = endpoint({}, {}, fallback=True)
        await r.publish(replicas=[engine.view(entity=f"e-{min(1, index)}") for index, engine in enumerate(r.engines)])
        r.engines[0].behave = r.engines[1].behave = cannot
        got = await r.chat()
        assert (got.status, served_by(got)) == (200, "name-1")
        assert [len(engine.bodies) for engine in r.engines] == [2, 1, 1]


async def test_what_has_fallen_back_waits_there_and_spills_no_further() -> None:
    view = endpoint({"traffic": 0}, {"traffic": 100}, overload="spill", fallback=True)
    async with serving(view, slots=1) as r:
        running = await holds(r, 1)
        await republish(r, endpoint({}, {}, overload="spill", fallback=True), slots=1)
        r.engines[0].behave = BROKEN
        client = await r.connect()
        await client.send("POST", CHAT, chat_body())
        await r.controller.tick(lambda tick: ticks(tick)["e-1"].queued == 1)
        assert len(r.engines[0].bodies) == 1
        r.engines[1].behave = answer("now")
        r.engines[1].release.set()
        assert served_by(await client.answer()) == "name-1"
        running.close()


async def test_a_cold_start_that_takes_too_long_is_tried_on_the_next_entity() -> None:
    async with serving(endpoint({}, {}, cold_start_deadline_s=0.1, fallback=True)) as r:
        await r.publish(replicas=[r.engines[1].view(entity="e-1")])
        assert served_by(await r.chat()) == "name-1"


@pytest.mark.parametrize("fallback", [False, True])
async def test_without_fallback_and_where_the_request_is_at_fault_the_error_stays(fallback: bool) -> None:
    async with serving(endpoint({}, {}, fallback=fallback)) as r:
        r.engines[0].behave = fail(400, {"error": {"message": "no such tool"}}) if fallback else BROKEN
        got = await r.chat()
        assert (got.status, served_by(got)) == (400 if fallback else 502, "name-0")
        assert r.engines[1].bodies == []


async def test_the_last_error_is_the_answer_and_booked_once() -> None:
    async with serving(endpoint({}, {}, {}, fallback=True)) as r:
        for index, engine in enumerate(r.engines):
            engine.behave = fail(500, {"error": {"message": f"no memory in {index}"}})
        got = await r.chat()
        assert (got.status, got.json["code"], served_by(got)) == (502, "engine_error", "name-2")
        assert "no memory in 2" in got.json["message"]
        assert [len(engine.bodies) for engine in r.engines] == [1, 1, 1]
        assert entities_of(r) == ["e-0", "e-1", "e-2"]
        settled = r.journal()[-1]
        assert isinstance(settled, Settled)
        assert (settled.seq, settled.status, settled.outcome, settled.work) == (4, 502, "engine_error", 0.0)


async def test_refused_by_all_it_is_booked_as_one_refusal() -> None:
    async with serving(endpoint({}, {}, overload="reject", fallback=True), slots=1) as r:
        clients = [await holds(r, 0)]
        r.engines[1].behave = answer("held", hold_after=0)
        second = await r.connect()
        await second.send("POST", CHAT, chat_body())
        await r.engines[1].asked()
        got = await r.chat()
        assert (got.status, got.json["code"], served_by(got)) == (429, "reject", "name-1")
        assert "retry-after-ms" in got.headers
        assert [type(record).__name__ for record in r.journal()] == ["Reserved", "Reserved", "Rejected"]
        for client in (*clients, second):
            client.close()


async def test_failed_by_one_and_refused_by_the_other_it_has_one_end() -> None:
    async with serving(endpoint({}, {}, overload="reject", fallback=True), slots=1) as r:
        await republish(r, endpoint({"traffic": 0}, {"traffic": 100}, overload="reject", fallback=True), slots=1)
        running = await holds(r, 1)
        await republish(r, endpoint({}, {}, overload="reject", fallback=True), slots=1)
        r.engines[0].behave = BROKEN
        got = await r.chat()
        assert (got.status, got.json["code"]) == (429, "reject")
        records = [record for record in r.journal() if record.rid == got.headers["x-request-id"]]
        assert [type(record).__name__ for record in records] == ["Reserved", "Settled"]
        settled = records[-1]
        assert isinstance(settled, Settled)
        assert (settled.status, settled.work, settled.output_tokens) == (429, 0.0, 0)
        running.close()


async def test_nothing_is_tried_elsewhere_once_the_first_byte_has_come() -> None:
    async with serving(endpoint({}, {}, fallback=True)) as r:
        r.engines[0].behave = answer("a", "b", die_after=1)
        client = await r.connect()
        await client.send("POST", CHAT, chat_body(stream=True))
        got = await client.answer()
        assert got.events[-1]["error"]["code"] == "engine_failed"
        assert r.engines[1].bodies == []
        assert r.kinds() == ["Reserved", "Settled"]


async def test_a_request_that_two_replicas_died_under_is_not_sent_to_another_entity() -> None:
    async with serving(endpoint({}, {}, fallback=True)) as r:
        r.engines[0].behave = vanish
        got = await r.chat()
        assert (got.status, got.headers["x-should-retry"]) == (502, "false")
        assert "two replicas died" in got.json["message"]
        assert (len(r.engines[0].bodies), r.engines[1].bodies) == (2, [])


async def test_one_death_at_each_of_two_entities_is_two() -> None:
    async with serving(endpoint({}, {}, {}, queue_deadline_s=0.2, fallback=True)) as r:

        async def dies_and_is_gone(engine: FakeEngine, exchange: Exchange, body: dict[str, Any]) -> None:
            exchange.abort()
            r.endpoint = endpoint({}, {}, {}, queue_deadline_s=0.2, cold_start_deadline_s=0.2, fallback=True)
            engines = enumerate(r.engines)
            views = [found.view(entity=f"e-{index}") for index, found in engines if found is not engine]
            await r.publish(replicas=views)

        r.engines[0].behave = r.engines[1].behave = dies_and_is_gone
        got = await r.chat()
        assert (got.status, served_by(got)) == (502, "name-1")
        assert "two replicas died" in got.json["message"]
        assert [len(engine.bodies) for engine in r.engines] == [1, 1, 0]


async def test_nothing_falls_back_to_an_entity_whose_context_it_does_not_fit() -> None:
    async with serving(endpoint({}, {"context": 50}, {}, fallback=True)) as r:
        r.engines[0].behave = BROKEN
        got = await r.post("/v1/completions", {"model": "smollm2", "prompt": [1] * 100})
        assert (got.status, served_by(got)) == (200, "name-2")
        assert r.engines[1].bodies == []
        r.engines[2].behave = BROKEN
        got = await r.post("/v1/completions", {"model": "smollm2", "prompt": [1] * 100})
        assert (got.status, served_by(got)) == (502, "name-2")


async def test_it_may_fall_back_and_wait_there_and_be_left() -> None:
    async with serving(endpoint({}, {}, fallback=True), slots=1) as r:
        await republish(r, endpoint({"traffic": 0}, {"traffic": 100}, fallback=True), slots=1)
        running = await holds(r, 1)
        await republish(r, endpoint({}, {}, fallback=True), slots=1)
        r.engines[0].behave = BROKEN
        client = await r.connect()
        await client.send("POST", CHAT, chat_body())
        await r.controller.tick(lambda tick: ticks(tick)["e-1"].queued == 1)
        client.close()
        await r.controller.tick(lambda tick: ticks(tick)["e-1"].abandoned == 1)
        settled = (await r.settled())[-1]
        assert isinstance(settled, Settled)
        assert (settled.status, settled.outcome, settled.work) == (499, "client_gone", 0.0)
        running.close()


async def test_a_stream_falls_back_after_a_comment_too() -> None:
    script = Script(("there",))

    async def broken_later(engine: FakeEngine, exchange: Exchange, body: dict[str, Any]) -> None:
        await engine.release.wait()
        exchange.respond(500, [], b"{}")

    async def streams(engine: FakeEngine, exchange: Exchange, body: dict[str, Any]) -> None:
        exchange.start(200, [SSE])
        exchange.write(event(script.piece(body, "there")) + b"".join(script.end(body)))
        exchange.finish()

    async with serving(endpoint({}, {}, fallback=True), sse_comment_s=0.02) as r:
        r.engines[0].behave, r.engines[1].behave = broken_later, streams
        client = await r.connect()
        await client.send("POST", CHAT, chat_body(stream=True))
        status, _ = await client.head()
        assert status == 200
        await client.until(b": waiting\n\n\r\n")
        r.engines[0].release.set()
        async with asyncio.timeout(20):
            assert b"there" in await client.reader.readuntil(b"[DONE]")
        client.close()


# Snapshots.


@pytest.mark.parametrize("lost_before", [False, True])
async def test_what_waits_at_an_entity_that_is_removed_goes_on_at_the_new_one(lost_before: bool) -> None:
    async with rig(RAW, RAW) as r:
        r.endpoint = endpoint({})
        await r.publish(replicas=[r.engines[0].view(entity="e-0", slots=1)] if lost_before else [])
        if lost_before:
            r.engines[0].behave = vanish
        client = await r.connect()
        await client.send("POST", CHAT, chat_body())
        await r.controller.tick(lambda tick: ticks(tick)["e-0"].queued == 1)
        r.endpoint = endpoint({"id": "e-new", "name": "new"})
        await r.publish(replicas=[r.engines[1].view(entity="e-new")])
        got = await client.answer()
        assert (got.status, served_by(got)) == (200, "new")
        assert entities_of(r) == (["e-0", "e-new"] if lost_before else ["e-new"])
        assert r.kinds().count("Settled") == 1
        await r.controller.tick(lambda tick: [found.entity for found in tick.entities] == ["e-new"])


async def test_what_is_in_flight_at_an_entity_that_is_removed_ends_there() -> None:
    async with rig(RAW, RAW) as r:
        r.endpoint = endpoint({})
        await r.publish(replicas=[r.engines[0].view(entity="e-0", slots=1)])
        running = await holds(r, 0)
        r.endpoint = endpoint({"id": "e-new", "name": "new"})
        await r.publish(replicas=[r.engines[1].view(entity="e-new")])
        assert served_by(await r.chat()) == "new"
        r.engines[0].release.set()
        got = await running.answer()
        assert (got.status, served_by(got)) == (200, "name-0")
        assert r.kinds().count("Settled") == 2


async def test_what_does_not_fit_the_new_entity_is_told_so() -> None:
    async with rig() as r:
        r.endpoint = endpoint({})
        await r.publish()
        client = await r.connect()
        await client.send("POST", "/v1/completions", {"model": "smollm2", "prompt": [1] * 100})
        await r.controller.tick(lambda tick: ticks(tick)["e-0"].queued == 1)
        r.endpoint = endpoint({"id": "e-new", "name": "new", "context": 50})
        await r.publish()
        got = await client.answer()
        assert (got.status, got.json["code"]) == (400, "context_length_exceeded")
        assert (await r.get("/healthz")).status == 200
