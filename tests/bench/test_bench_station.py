"""What a profile does when its requests do not go as asked, and how it keeps its replicas loaded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.bench.errors import BenchError
from headrace.bench.loops import Clock
from headrace.bench.profile_lock import alone
from headrace.bench.replicas import cores_of_replicas
from headrace.bench.samples import Sample
from headrace.bench.shapes import REFERENCE, Plan, Shape
from headrace.bench.station import FILLER, Measure, Station, check, run_stations

SMALL = Shape(8, 2)


def sample(shape: Shape, **changes: object) -> Sample:
    fields: dict[str, object] = {
        "number": 0,
        "outcome": "ok",
        "scheduled_s": 0.0,
        "sent_s": 0.0,
        "end_s": 1.0,
        "input_tokens": shape.input_tokens,
        "output_tokens": shape.output_tokens,
    }
    return Sample(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"outcome": "failed", "error": "out of memory", "status": 500},
            "failed under a 8/2 request with status 500: out",
        ),
        ({"output_tokens": 1}, "asked for 8/2 tokens and got 8/1.*ignore_eos"),
        ({"input_tokens": 9}, "asked for 8/2 tokens and got 9/2"),
        ({"cached_tokens": 4}, "4 input tokens came from a cache"),
    ],
)
def test_a_request_that_did_not_go_as_asked_ends_the_measurement(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(BenchError, match=complaint):
        check(SMALL, sample(SMALL, **changes))


@pytest.mark.parametrize("slots", [1, 3])
async def test_a_fault_reaches_the_caller_as_it_is_with_any_number_of_slots(slots: int) -> None:
    async def fail(shape: Shape) -> Sample:
        return sample(shape, outcome="failed", error="broken")

    clock = Clock()
    station = Station(0, fail, Plan((SMALL,), slots=slots, seed=0, until_s=0), slots, clock)
    with pytest.raises(BenchError, match="broken"):
        await run_stations([station], limit_s=10)


async def test_a_measurement_that_does_not_end_is_given_up() -> None:
    async def never(shape: Shape) -> Sample:
        await asyncio.Event().wait()
        raise AssertionError

    clock = Clock()
    station = Station(0, never, Plan((SMALL,), slots=1, seed=0, until_s=0), 1, clock)
    with pytest.raises(BenchError, match="was not through after 0 s"):
        await run_stations([station], limit_s=0.01)


async def test_a_station_that_is_through_keeps_its_replica_loaded_until_the_others_are() -> None:
    slow_may_end, fast_fills = asyncio.Event(), asyncio.Event()
    filled = 0

    async def fast(shape: Shape) -> Sample:
        nonlocal filled
        await asyncio.sleep(0)
        if shape == FILLER:
            filled += 1
            fast_fills.set()
        return sample(shape)

    async def slow(shape: Shape) -> Sample:
        await slow_may_end.wait()
        await asyncio.sleep(0)
        return sample(shape)

    clock = Clock()
    plan = Plan((SMALL,), slots=1, seed=0, until_s=0)
    stations = [Station(index, measure, plan, 1, clock) for index, measure in enumerate((fast, slow))]
    run = asyncio.create_task(run_stations(stations, limit_s=30))
    await asyncio.wait_for(fast_fills.wait(), 10)
    assert not run.done()
    slow_may_end.set()
    await asyncio.wait_for(run, 10)
    assert filled >= 1
    assert all(turn.shape == SMALL for station in stations for turn in station.turns)
    assert [len(station.turns) for station in stations] == [1, 1]


async def test_as_many_requests_are_in_flight_as_there_are_slots() -> None:
    in_flight = most = 0

    async def measure(shape: Shape) -> Sample:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0.001)
        in_flight -= 1
        return sample(shape)

    asked: Measure = measure
    station = Station(0, asked, Plan((SMALL, REFERENCE), slots=4, seed=0, until_s=0), 4, Clock())
    await run_stations([station], limit_s=30)
    assert most == 4


def test_a_second_profile_on_the_machine_is_refused_and_the_lock_goes_free(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with alone(lock), pytest.raises(BenchError, match="another profile is being measured"), alone(lock):
        pytest.fail("two profiles at once")
    with alone(lock):
        pass


def test_replicas_get_distinct_cores_where_there_are_enough() -> None:
    assert cores_of_replicas(2, 1, [0, 1]) == [(0,), (1,)]
    assert cores_of_replicas(2, 2, [0, 2, 4, 6]) == [(0, 2), (4, 6)]
    assert cores_of_replicas(3, 1, [0, 1]) == [(), (), ()]
