"""Clients that leave, engines that die, and clients that read slowly."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest
from gateway_rig import (
    PROGRESS,
    RAW,
    SSE,
    WITHIN_S,
    FakeEngine,
    Script,
    answer,
    chat_body,
    endpoint_view,
    event,
    fail,
    rig,
    silence,
    vanish,
)

from headrace.gateway import account
from headrace.gateway.config import LimitsConfig
from headrace.gateway.snapshot import EndpointView, Traits
from headrace.journal.records import Progress, Reserved, Settled
from headrace.wire.server import Exchange

CHAT = "/v1/chat/completions"
COMPLETION = "/v1/completions"
PROMPT_OF_2000 = {"model": "smollm2", "prompt": [1] * 2000}
BOTH = pytest.mark.parametrize("traits", [RAW, PROGRESS], ids=["raw", "progress"])
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


async def happens(event: asyncio.Event) -> None:
    async with asyncio.timeout(WITHIN_S):
        await event.wait()


# The client leaves.


async def test_a_client_that_leaves_the_queue_is_forgotten() -> None:
    async with rig(RAW) as r:
        await r.publish(replicas=[r.engines[0].view(slots=1)])
        r.engines[0].behave = answer("a", hold_after=0)
        running, waiting = await r.connect(), await r.connect()
        await running.send("POST", CHAT, chat_body())
        await r.engines[0].asked()
        await waiting.send("POST", CHAT, chat_body())
        await r.controller.tick(lambda tick: tick.entities[0].queued == 1)
        waiting.close()
        tick = await r.controller.tick(lambda tick: tick.entities[0].queued == 0)
        assert tick.entities[0].abandoned == 1
        r.engines[0].release.set()
        assert (await running.answer()).status == 200
        assert len(r.engines[0].bodies) == 1
        assert r.kinds() == ["Reserved", "Settled"]


async def test_when_all_leave_at_once_what_waited_for_a_slot_never_runs_and_costs_nothing() -> None:
    async with rig(RAW) as r:
        await r.publish(replicas=[r.engines[0].view(slots=1)])
        r.engines[0].behave = silence
        running, *waiting = [await r.connect() for _ in range(31)]
        await running.send("POST", CHAT, chat_body())
        await r.engines[0].asked()
        for client in waiting:
            await client.send("POST", CHAT, chat_body())
        await r.controller.tick(lambda tick: tick.entities[0].queued == len(waiting))
        for client in (running, *waiting):  # the first frees the slot for which the others wait
            client.close()
        tick = await r.controller.tick(lambda tick: tick.entities[0].abandoned == 31)
        assert (tick.entities[0].dispatched, tick.entities[0].in_flight, tick.entities[0].queued) == (1, 0, 0)
        assert len(r.engines[0].bodies) == 1
        assert r.kinds() == ["Reserved", "Settled"]


@STREAM
async def test_a_client_that_leaves_soon_pays_for_no_more_than_a_replica_can_have_done(stream: bool) -> None:
    async with rig(RAW) as r:
        await r.publish(endpoints=(endpoint_view(chunk=10.0, max_chunks=1000),))
        r.engines[0].behave = silence
        client = await r.connect()
        await client.send("POST", COMPLETION, {**PROMPT_OF_2000, "stream": stream})
        await r.engines[0].asked()
        client.close()
        settled = (await r.settled())[-1]
        assert isinstance(settled, Settled)
        assert (settled.status, settled.outcome) == (499, "client_gone")
        there_s = (settled.e2e_ms - settled.queue_ms) / 1000
        assert settled.input_tokens == settled.work <= 10.0 * there_s + 0.001
        tick = await r.controller.tick(lambda tick: tick.entities[0].abandoned == 1)
        assert tick.entities[0].served_work == tick.entities[0].offered_work == settled.work


async def test_a_client_that_leaves_when_its_prompt_may_have_been_processed_pays_for_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late_s = 0.0
    monkeypatch.setattr(account, "monotonic", lambda: monotonic() + late_s)
    async with rig(RAW) as r:
        r.engines[0].behave = silence
        client = await r.connect()
        await client.send("POST", COMPLETION, PROMPT_OF_2000)
        await r.engines[0].asked()
        late_s = 2.0  # at 1000 reference tokens/s
        client.close()
        settled = (await r.settled())[-1]
        assert isinstance(settled, Settled)
        assert (settled.outcome, settled.input_tokens, settled.work) == ("client_gone", 2000, 2000.0)


@BOTH
@STREAM
async def test_a_client_that_leaves_in_prefill_cancels_the_engine(traits: Traits, stream: bool) -> None:
    async with rig(traits) as r:
        r.engines[0].behave = answer("a", hold_after=0, prompt_tokens=2000, cached=100)
        client = await r.connect()
        await client.send("POST", CHAT, chat_body(stream=stream))
        await r.engines[0].asked()
        await r.controller.tick(lambda tick: tick.entities[0].in_flight == 1)
        client.close()
        await happens(r.engines[0].cancelled)
        settled = (await r.settled())[-1]
        assert isinstance(settled, Settled)
        assert (settled.status, settled.outcome, settled.exact) == (499, "client_gone", False)
        assert (settled.output_tokens, settled.ttft_ms) == (0, None)
        if traits.stream_upstream:
            # The engine said how far it had come: all that it had processed was cached.
            assert (settled.input_tokens, settled.cached_tokens) == (100, 100)
        await r.controller.tick(lambda tick: tick.entities[0].in_flight == 0)


@BOTH
async def test_a_client_that_leaves_in_mid_stream_pays_for_what_was_generated(traits: Traits) -> None:
    async with rig(traits) as r:
        r.engines[0].behave = answer("a", "b", "c", "d", hold_after=3, prompt_tokens=40)
        client = await r.connect()
        await client.send("POST", CHAT, chat_body(stream=True))
        await client.until(b'"c"')
        client.close()
        await happens(r.engines[0].cancelled)
        settled = (await r.settled())[-1]
        assert isinstance(settled, Settled)
        assert (settled.status, settled.outcome) == (499, "client_gone")
        if traits.stream_upstream:
            assert (settled.input_tokens, settled.output_tokens) == (40, 3)
        else:
            assert settled.output_tokens in (3, 4)  # events: one of them carries the role
        assert settled.ttft_ms is not None


async def test_a_client_that_leaves_while_its_json_is_put_together_cancels_the_engine() -> None:
    async with rig(PROGRESS) as r:
        r.engines[0].behave = answer("a", "b", hold_after=1)
        client = await r.connect()
        await client.send("POST", CHAT, chat_body())
        await r.controller.tick(lambda tick: tick.entities[0].in_flight == 1)
        client.close()
        await happens(r.engines[0].cancelled)
        settled = (await r.settled())[-1]
        assert isinstance(settled, Settled)
        assert settled.outcome == "client_gone"


# The engine is lost before the first byte.


@BOTH
@STREAM
async def test_an_engine_lost_before_the_first_byte_costs_the_client_nothing(traits: Traits, stream: bool) -> None:
    async with rig(traits, traits) as r:
        r.engines[0].behave = answer("a", die_after=0)
        got = await r.chat(stream=stream)
        assert got.status == 200
        assert b"Hello" in got.body
        first, second, settled = r.journal()
        assert isinstance(first, Reserved)
        assert isinstance(second, Reserved)
        assert isinstance(settled, Settled)
        assert (first.replica, second.replica) == ("replica-0", "replica-1")
        assert [record.seq for record in (first, second, settled)] == [1, 2, 3]
        assert (settled.outcome, settled.output_tokens) == ("ok", 2)
        # The failed one is left alone for a while.
        await r.chat()
        assert len(r.engines[0].bodies) == 1
        tick = await r.controller.tick(lambda tick: True)
        assert {replica.id: replica.failures for replica in tick.replicas} == {"replica-0": 1, "replica-1": 0}
        assert tick.entities[0].arrivals == 2


async def test_nothing_that_a_lost_replica_has_said_of_its_answer_is_taken_for_the_next_ones() -> None:
    async def announces_and_dies(engine: FakeEngine, exchange: Exchange, body: dict[str, object]) -> None:
        exchange.start(200, [(b"content-type", b"text/html")], length=7)
        exchange.abort()

    async def in_two(engine: FakeEngine, exchange: Exchange, body: dict[str, object]) -> None:
        exchange.start(200)
        exchange.write(b'{"choices":')
        await engine.release.wait()
        exchange.write(b"[]}")
        exchange.finish()

    async with rig(RAW, RAW) as r:
        r.engines[0].behave, r.engines[1].behave = announces_and_dies, in_two
        client = await r.connect()
        await client.send("POST", CHAT, chat_body())
        status, headers = await client.head()
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        assert "content-type" not in headers
        await client.until(b'"choices":')
        r.engines[1].release.set()
        await client.until(b"[]}\r\n0\r\n\r\n")
        assert len(r.engines[0].bodies) == 1
        client.close()


@BOTH
async def test_a_replica_that_cannot_be_reached_is_passed_over(traits: Traits) -> None:
    async with rig(traits, traits) as r:
        await r.engines[0].stop()
        assert (await r.chat()).status == 200
        assert len(r.engines[1].bodies) == 1


async def test_a_request_survives_any_number_of_replicas_that_never_got_it() -> None:
    async with rig(RAW, RAW, RAW) as r:
        await r.engines[0].stop()
        await r.engines[1].stop()
        assert (await r.chat()).status == 200


@BOTH
@STREAM
async def test_a_request_under_which_two_replicas_died_is_never_sent_again(traits: Traits, stream: bool) -> None:
    async with rig(traits, traits, traits) as r:
        for engine in r.engines:
            engine.behave = vanish
        got = await r.chat(stream=stream)
        assert (got.status, got.json["error_code"]) == (502, "INTERNAL_ERROR")
        assert "two replicas died" in got.json["message"]
        assert got.headers["x-should-retry"] == "false"
        assert sum(len(engine.bodies) for engine in r.engines) == 2
        assert r.kinds() == ["Reserved", "Reserved", "Settled"]
        settled = r.journal()[-1]
        assert isinstance(settled, Settled)
        assert (settled.status, settled.outcome, settled.work) == (502, "engine_failed", 0.0)


@BOTH
async def test_an_engine_without_a_first_byte_is_given_up(traits: Traits) -> None:
    async with rig(traits, traits, first_byte_floor_s=0.05) as r:
        r.endpoint = endpoint_of_fast_replicas()
        await r.publish()
        r.engines[0].behave = answer("a", hold_after=0)
        got = await r.chat(stream=True)
        assert got.status == 200
        assert len(r.engines[1].bodies) == 1
        await happens(r.engines[0].cancelled)


async def test_two_engines_without_a_first_byte_are_a_504() -> None:
    async with rig(RAW, RAW, first_byte_floor_s=0.05) as r:
        r.endpoint = endpoint_of_fast_replicas()
        await r.publish()
        for engine in r.engines:
            engine.behave = silence
        got = await r.chat(stream=True)
        assert (got.status, got.json["error_code"]) == (504, "DEADLINE_EXCEEDED")
        settled = r.journal()[-1]
        assert isinstance(settled, Settled)
        assert (settled.status, settled.outcome) == (504, "timeout")


async def test_progress_is_no_first_byte() -> None:
    script = Script(("a",))

    async def only_progress(engine: FakeEngine, exchange: Exchange, body: dict[str, object]) -> None:
        exchange.start(200, [SSE])
        while not exchange.client_gone:
            exchange.write(script.progress(body, 5))
            await asyncio.sleep(0.005)

    async with rig(PROGRESS, PROGRESS, first_byte_floor_s=0.1) as r:
        r.endpoint = endpoint_of_fast_replicas()
        await r.publish()
        r.engines[0].behave = only_progress
        assert (await r.chat(stream=True)).status == 200
        assert len(r.engines[1].bodies) == 1


def endpoint_of_fast_replicas() -> EndpointView:
    return endpoint_view(chunk=1e6, max_chunks=1)


async def test_a_replica_that_says_503_is_passed_over_and_a_500_is_the_requests_own() -> None:
    async with rig(RAW, RAW) as r:
        r.engines[0].behave = fail(503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable"}})
        assert (await r.chat()).status == 200
    async with rig(RAW, RAW) as r:
        r.engines[0].behave = fail(500, {"error": {"code": 500, "message": "template failed", "type": "server_error"}})
        got = await r.chat()
        assert (got.status, got.json["code"]) == (502, "engine_error")
        assert "template failed" in got.json["message"]
        assert r.engines[1].bodies == []


async def test_two_replicas_that_say_that_they_cannot_are_quoted_and_not_taken_for_dead() -> None:
    async with rig(RAW, RAW) as r:
        for engine in r.engines:
            engine.behave = fail(503, {"error": {"code": 503, "message": "overloaded"}})
        got = await r.chat()
        assert (got.status, got.json["code"]) == (502, "engine_error")
        assert "503: overloaded" in got.json["message"]
        assert "x-should-retry" not in got.headers
        assert [len(engine.bodies) for engine in r.engines] == [1, 1]
        r.engines[0].behave, r.engines[1].behave = vanish, vanish
        dead = await r.chat()
        assert "two replicas died" in dead.json["message"]
        assert dead.headers["x-should-retry"] == "false"


async def test_an_engines_own_401_is_not_told_as_the_clients() -> None:
    async with rig(RAW) as r:
        r.engines[0].behave = fail(401, {"error": {"code": 401, "message": "Invalid API Key"}})
        assert (await r.chat()).status == 502


@pytest.mark.parametrize("end", ["deleted", "left", "late"])
async def test_a_request_that_waits_again_after_a_loss_can_still_end_in_any_way(end: str) -> None:
    async with rig(RAW) as r:
        r.engines[0].behave = vanish
        client = await r.connect()
        await client.send("POST", CHAT, chat_body())
        await r.controller.tick(lambda tick: tick.entities[0].queued == 1)
        if end == "deleted":
            await r.publish(endpoints=())
        elif end == "late":
            r.endpoint = endpoint_view(queue_deadline_s=0.2, cold_start_deadline_s=0.2)
            await r.publish(replicas=[])
        if end == "left":
            client.close()
        else:
            assert (await client.answer()).status == {"deleted": 404, "late": 503}[end]
        settled = (await r.settled())[-1]
        assert isinstance(settled, Settled)
        assert (settled.status, settled.outcome) == {
            "deleted": (404, "engine_failed"),
            "left": (499, "client_gone"),
            "late": (503, "engine_failed"),
        }[end]
        assert (settled.input_tokens, settled.output_tokens, settled.work) == (0, 0, 0.0)
        assert r.kinds() == ["Reserved", "Settled"]


# The engine is lost later.


@BOTH
async def test_an_engine_lost_in_mid_stream_ends_it_with_an_error_event(traits: Traits) -> None:
    async with rig(traits, traits) as r:
        r.engines[0].behave = answer("a", "b", "c", die_after=2)
        client = await r.connect()
        await client.send("POST", CHAT, chat_body(stream=True))
        got = await client.answer()
        assert got.status == 200
        assert "[DONE]" not in got.events
        error = got.events[-1]["error"]
        assert error["code"] == "engine_failed"
        assert "lost in the middle" in error["message"]
        assert not got.complete  # the connection is closed, and nobody can take this for a whole answer
        assert r.engines[1].bodies == []
        settled = r.journal()[-1]
        assert isinstance(settled, Settled)
        assert (settled.status, settled.outcome, settled.exact) == (502, "engine_failed", False)
        assert settled.output_tokens in (2, 3)


async def test_an_engine_lost_while_json_is_put_together_is_a_502() -> None:
    async with rig(PROGRESS) as r:
        r.engines[0].behave = answer("a", "b", die_after=1)
        got = await r.chat()
        assert (got.status, got.json["code"]) == (502, "engine_failed")


async def test_a_stream_that_ends_without_its_mark_is_not_taken_as_complete() -> None:
    script = Script(("a",))

    async def stops(engine: FakeEngine, exchange: Exchange, body: dict[str, object]) -> None:
        exchange.start(200, [SSE])
        exchange.write(script.timed(script.piece(body, "a"), 1))
        await engine.release.wait()
        exchange.finish()

    async with rig(PROGRESS) as r:
        r.engines[0].behave = stops
        client = await r.connect()
        await client.send("POST", "/v1/chat/completions", chat_body(stream=True))
        assert (await client.head())[0] == 200
        await client.until(b"\n\n")
        r.engines[0].release.set()
        assert b'data: {"error":' in await client.reader.read()
        client.close()
        # Where it ends before anything was sent, there is still a status to tell it by.
        assert (await r.chat()).status == 502
        assert (await r.chat(stream=True)).status == 502


@STREAM
async def test_an_error_inside_a_stream_reaches_the_client_as_an_error(stream: bool) -> None:
    async def fails(engine: FakeEngine, exchange: Exchange, body: dict[str, object]) -> None:
        exchange.start(200, [SSE])
        exchange.write(event({"error": {"code": 500, "message": "out of memory", "type": "server_error"}}))
        exchange.finish()

    async with rig(PROGRESS) as r:
        r.engines[0].behave = fails
        got = await r.chat(stream=stream)
        assert (got.status, got.json["code"]) == (502, "engine_error")
        assert "out of memory" in got.json["message"]
        settled = r.journal()[-1]
        assert isinstance(settled, Settled)
        assert settled.outcome == "engine_error"


async def test_an_answer_has_a_limit_in_all() -> None:
    async with rig(RAW, limits=LimitsConfig(total_timeout_s=0.3)) as r:
        r.engines[0].behave = answer("a", "b", hold_after=1)
        got = await r.chat(stream=True)
        assert got.events[-1]["error"]["code"] == "total_timeout"
        await happens(r.engines[0].cancelled)
        r.engines[0].behave = answer("a", hold_after=0)
        whole = await r.chat()
        assert (whole.status, whole.json["error_code"]) == (504, "DEADLINE_EXCEEDED")


# The client is slow.


async def test_a_client_that_does_not_read_stops_the_engine_and_not_the_memory() -> None:
    written = 0
    stuck = asyncio.Event()
    filler = "x" * 8000
    script = Script((filler,))

    async def floods(engine: FakeEngine, exchange: Exchange, body: dict[str, object]) -> None:
        nonlocal written
        exchange.start(200, [SSE])
        for _ in range(4000):
            exchange.write(event(script.piece(body, filler)))
            written += 8000
            if exchange.congested:
                stuck.set()
            await exchange.drain()
        exchange.write(b"".join(script.end(body)))
        exchange.finish()

    async with rig(RAW) as r:
        r.engines[0].behave = floods
        client = await r.connect()
        await client.send("POST", CHAT, chat_body(stream=True))
        await happens(stuck)
        before = -1
        while before != written:
            before = written
            for _ in range(10):
                await r.controller.tick(lambda tick: True)
        assert written < 16_000_000  # of 32,000,000; what is under way is in the kernel's buffers
        got = await client.answer()
        assert got.body.count(filler.encode()) == 4000
        assert got.events[-1] == "[DONE]"


# Progress.


async def test_a_long_stream_leaves_progress_in_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "PROGRESS_S", 0.0)
    monkeypatch.setattr(account, "STREAM_S", 0.0)
    async with rig(PROGRESS) as r:
        r.engines[0].behave = answer("a", "b", "c", hold_after=2, prompt_tokens=40)
        client = await r.connect()
        await client.send("POST", CHAT, chat_body(stream=True))
        await client.until(b'"b"')
        tick = await r.controller.tick(lambda tick: tick.entities[0].output_tokens == 2)
        assert tick.entities[0].in_flight == 1
        progress = r.journal()[-1]
        assert isinstance(progress, Progress)
        assert (progress.output_tokens, progress.input_tokens) == (2, 40)
        r.engines[0].release.set()
        await client.until(b"[DONE]")
        records = r.journal()
        assert [record.seq for record in records] == list(range(1, len(records) + 1))
        assert r.kinds().count("Settled") == 1
