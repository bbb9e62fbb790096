"""What a gateway counts of how requests end, and what it tells of that."""

from __future__ import annotations

import math

import pytest
from gateway_rig import PROGRESS, RAW, FakeController, Rig, answer, chat_body, embed, endpoint_view, rig

from headrace.gateway import link
from headrace.gateway.latency import Histogram, Latency
from headrace.gateway.snapshot import (
    DURATION_BOUNDS_S,
    TPOT_BOUNDS_S,
    TTFT_BOUNDS_S,
    AnswersTick,
    LatencyTick,
    Tick,
    Traits,
)

# OpenTelemetry semantic conventions for generative AI, metrics of a model server.
RECOMMENDED = {
    TTFT_BOUNDS_S: "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1.0 2.5 5.0 7.5 10.0",
    TPOT_BOUNDS_S: "0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1.0 2.5",
    DURATION_BOUNDS_S: "0.01 0.02 0.04 0.08 0.16 0.32 0.64 1.28 2.56 5.12 10.24 20.48 40.96 81.92",
}


@pytest.fixture(autouse=True)
def _every_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "ANSWERS_S", 0.0)


async def told(r: Rig, requests: int, controller: FakeController | None = None) -> AnswersTick:
    """What is told once so many requests have ended."""

    def complete(tick: Tick) -> bool:
        return any(sum(one.statuses.values()) == requests for one in tick.answers)

    tick = await (controller or r.controller).tick(complete)
    (found,) = tick.answers
    return found


def counts(latency: LatencyTick) -> dict[str, int]:
    names = [name for name in LatencyTick.__struct_fields__ if name != "operation"]
    return {name: sum(getattr(latency, name).counts) for name in names}


@pytest.mark.parametrize("bounds", RECOMMENDED, ids=("ttft", "tpot", "duration"))
def test_the_bounds_that_the_conventions_recommend_are_among_ours(bounds: tuple[float, ...]) -> None:
    assert set(map(float, RECOMMENDED[bounds].split())) <= set(bounds)
    assert list(bounds) == sorted(set(bounds))


@pytest.mark.parametrize(
    ("value", "place"), [(0.0, 0), (0.5, 0), (0.500001, 1), (1.0, 1), (2.0, 2), (2.1, 3), (math.inf, 3)]
)
def test_a_value_at_a_bound_counts_below_it(value: float, place: int) -> None:
    histogram = Histogram((0.5, 1.0, 2.0))
    histogram.count(value)
    assert histogram.counts == [int(place == index) for index in range(4)]


def test_a_stream_of_one_token_has_no_time_per_output_token() -> None:
    latency = Latency()
    latency.streamed(0.5, 1.0, 1)
    latency.streamed(0.5, 1.5, 11)
    assert (sum(latency.ttft.counts), latency.ttft.sum) == (2, 1.0)
    assert (sum(latency.tpot.counts), latency.tpot.sum) == (1, pytest.approx(0.1))


@pytest.mark.parametrize("traits", [RAW, PROGRESS], ids=("raw", "progress"))
async def test_only_streamed_answers_have_a_first_token(traits: Traits) -> None:
    async with rig(traits) as r:
        r.engines[0].behave = answer("a", "b", "c")
        await r.chat()
        await r.chat(stream=True)
        await r.chat(stream=True)
        found = await told(r, 3)
        assert (found.endpoint, found.entity, found.statuses) == ("id-of-smollm2", "entity-of-smollm2", {200: 3})
        (latency,) = found.latency
        assert latency.operation == "chat"
        assert counts(latency) == {"e2e": 3, "queue": 3, "service": 3, "ttft": 2, "tpot": 2}
        assert latency.e2e.sum == pytest.approx(latency.queue.sum + latency.service.sum)
        assert 0 < latency.ttft.sum < latency.e2e.sum


async def test_each_operation_is_counted_by_itself() -> None:
    async with rig(RAW) as r:
        await r.chat()
        await r.post("/v1/completions", {"model": "smollm2", "prompt": "hi"})
        r.engines[0].behave = embed([0.5], 3)
        await r.post("/v1/embeddings", {"model": "smollm2", "input": "hi"})
        found = await told(r, 3)
        assert {one.operation: counts(one)["e2e"] for one in found.latency} == {
            "chat": 1,
            "text_completion": 1,
            "embeddings": 1,
        }


async def test_what_failed_is_counted_by_its_status_and_not_by_its_time() -> None:
    async with rig(RAW) as r:
        await r.chat(max_tokens=100_000)
        await r.chat(n=2)  # no endpoint takes that, so none has it in its counts
        await r.chat()
        r.endpoint = endpoint_view(cold_start_deadline_s=0.01)
        await r.publish(replicas=[])
        await r.chat()
        found = await told(r, 3)
        assert found.statuses == {400: 1, 200: 1, 503: 1}
        assert [counts(latency)["e2e"] for latency in found.latency] == [1]


async def test_a_client_that_leaves_is_counted() -> None:
    async with rig(RAW) as r:
        r.engines[0].behave = answer("a", "b", hold_after=1)
        client = await r.connect()
        await client.send("POST", "/v1/chat/completions", chat_body(stream=True))
        await client.until(b'"a"')
        client.close()
        found = await told(r, 1)
        assert (found.statuses, found.latency) == ({499: 1}, ())


async def test_nothing_is_told_twice_and_a_new_controller_is_told_everything() -> None:
    async with rig(RAW) as r:
        await r.chat()
        first = await told(r, 1)
        seen = len(r.controller.ticks)
        await r.controller.until(lambda: len(r.controller.ticks) > seen + 2)
        assert not any(tick.answers for tick in r.controller.ticks[seen:])
        await r.controller.stop()
        r.controller.link_path.unlink()
        second = FakeController(r.folder)
        second.snapshot = r.controller.snapshot
        await second.start()
        assert await told(r, 1, second) == first
        await second.stop()


async def test_the_last_answer_of_a_deleted_endpoint_is_told() -> None:
    async with rig(RAW) as r:
        r.engines[0].behave = answer("a", "b", hold_after=1)
        client = await r.connect()
        await client.send("POST", "/v1/chat/completions", chat_body(stream=True))
        await client.until(b'"a"')
        await r.publish(endpoints=(), replicas=())
        r.engines[0].release.set()
        assert (await told(r, 1)).statuses == {200: 1}
        client.close()
