"""What a profile does when its requests do not go as asked, and how it keeps its replicas loaded."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

import pytest

from headrace.bench.errors import BenchError
from headrace.bench.profiling.asking import Asked
from headrace.bench.profiling.clock import WallClock
from headrace.bench.profiling.lock import alone
from headrace.bench.profiling.plan import Plan
from headrace.bench.profiling.replicas import cores_of_replicas
from headrace.bench.profiling.shapes import REFERENCE, Case, Shape
from headrace.bench.profiling.station import FILLER, SETTLE, Measure, Station, check, run_stations

SMALL = Shape(8, 2)


def answer(shape: Shape, **changes: object) -> Asked:
    fields: dict[str, object] = {
        "sent_s": 0.0,
        "first_s": 0.5,
        "last_s": 1.0,
        "end_s": 1.0,
        "input_tokens": shape.input_tokens,
        "output_tokens": shape.output_tokens,
    }
    return Asked(**(fields | changes))  # type: ignore[arg-type]


def station(measure: Measure, plan: Plan, index: int = 0) -> Station:
    return Station(index, measure, plan, WallClock(), count())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"fault": "status 500: out of memory"},
            "failed under a 8/2 request: status 500: out of memory",
        ),
        ({"output_tokens": 1}, "asked for 8/2 tokens and got 8/1.*ignore_eos"),
        ({"input_tokens": 9}, "asked for 8/2 tokens and got 9/2"),
        ({"cached_tokens": 4}, "4 input tokens of a 8/2 request came from a cache"),
    ],
)
def test_a_request_that_did_not_go_as_asked_ends_the_measurement(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(BenchError, match=complaint):
        check(SMALL, answer(SMALL, **changes))


@pytest.mark.parametrize("slots", [1, 3])
async def test_a_fault_reaches_the_caller_as_it_is_with_any_number_of_slots(slots: int) -> None:
    async def fail(shape: Shape, number: int) -> Asked:
        return answer(shape, fault="broken")

    with pytest.raises(BenchError, match="broken"):
        await run_stations([station(fail, Plan([Case(SMALL, slots)], seed=0, until_s=0))], limit_s=10)


async def test_a_measurement_that_does_not_end_is_given_up() -> None:
    async def never(shape: Shape, number: int) -> Asked:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(BenchError, match=r"was not through after 0 s more; .* more --minutes"):
        await run_stations([station(never, Plan([Case(SMALL, 1)], seed=0, until_s=0))], limit_s=0.01)


async def test_a_station_that_is_through_keeps_its_replica_loaded_until_the_others_are() -> None:
    slow_may_end, fast_fills = asyncio.Event(), asyncio.Event()
    filled = 0

    async def fast(shape: Shape, number: int) -> Asked:
        nonlocal filled
        await asyncio.sleep(0)
        if shape == FILLER:
            filled += 1
            fast_fills.set()
        return answer(shape)

    async def slow(shape: Shape, number: int) -> Asked:
        await slow_may_end.wait()
        await asyncio.sleep(0)
        return answer(shape)

    plan = Plan([Case(SMALL, 1)], seed=0, until_s=0)
    stations = [station(measure, plan, index) for index, measure in enumerate((fast, slow))]
    run = asyncio.create_task(run_stations(stations, limit_s=30))
    await asyncio.wait_for(fast_fills.wait(), 10)
    assert not run.done()
    slow_may_end.set()
    await asyncio.wait_for(run, 10)
    assert filled >= 1
    assert all(turn.case.shape == SMALL for one in stations for turn in one.turns)
    assert [len(one.turns) for one in stations] == [1, 1]


async def test_as_many_requests_are_in_flight_as_there_are_slots() -> None:
    in_flight = most = 0

    async def measure(shape: Shape, number: int) -> Asked:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0.001)
        in_flight -= 1
        return answer(shape)

    plan = Plan([Case(SMALL, 4), Case(REFERENCE, 4)], seed=0, until_s=0)
    await run_stations([station(measure, plan)], limit_s=30)
    assert most == 4


async def test_nothing_is_measured_while_a_request_that_was_broken_off_is_in_the_engine() -> None:
    order: list[Shape] = []

    async def measure(shape: Shape, number: int) -> Asked:
        order.append(shape)
        await asyncio.sleep(0)
        return answer(shape)

    await run_stations([station(measure, Plan([Case(SMALL, 1)], seed=0, until_s=0))], limit_s=30)
    assert order[:2] == [SETTLE, SMALL]


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
