"""An endpoint on a virtual clock: every request ends once, the same every time, and the bill is what was there."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from planner_cases import CHUNK, KNOBS, MODEL, SLOTS, poisson, terms

from headrace.planner.laws import Fixed, Headrace
from headrace.planner.result import Limits, Result
from headrace.planner.simulation import UnfitError, simulate
from headrace.policy.scaling import replay

LIMITS = Limits(ttft_s=3.0, tpot_s=0.1)


def step(seed: int = 1, **more: object) -> Result:
    """One chunk of demand, then four, then one."""
    workload = [
        *poisson(0.8, 200, seed=seed),
        *poisson(3.5, 300, seed=seed + 1, start_s=200),
        *poisson(0.8, 400, seed=seed + 2, start_s=500),
    ]
    return simulate(workload, terms(), MODEL, Headrace(KNOBS), starts_s=[5.0], until_s=900, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def stepped() -> Result:
    return step()


def test_every_request_is_answered_or_refused(stepped: Result) -> None:
    for request in stepped.requests:
        answered = None not in (request.dispatched_s, request.first_s, request.ended_s)
        assert answered != (request.refused is not None)
        if answered:
            assert request.arrived_s <= request.dispatched_s < request.first_s < request.ended_s  # type: ignore[operator]


def test_the_same_arguments_give_the_same_result(stepped: Result) -> None:
    again = step()
    assert again.moments == stepped.moments
    assert [request.ended_s for request in again.requests] == [request.ended_s for request in stepped.requests]


def test_start_up_times_are_drawn_by_the_seed() -> None:
    spread = [2.0, 4.0, 8.0, 16.0]
    one = simulate(poisson(3, 120), terms(), MODEL, Headrace(KNOBS), starts_s=spread, seed=1)
    two = simulate(poisson(3, 120), terms(), MODEL, Headrace(KNOBS), starts_s=spread, seed=2)
    assert one.moments != two.moments


def test_the_endpoint_follows_its_demand_up_and_down(stepped: Result) -> None:
    assert stepped.ready_at(199) in (1, 2)
    assert stepped.ready_at(499) in (4, 5)
    assert stepped.ready_at(899) in (1, 2)
    assert stepped.refused == 0


def test_every_decision_is_made_again_from_its_inputs(stepped: Result) -> None:
    assert len(stepped.decisions) >= 2
    for scaled in stepped.decisions:
        again = replay(json.loads(json.dumps(scaled.inputs)))
        assert (again.chunks, again.reason) == (scaled.chunks, scaled.reason)


def test_a_fixed_endpoint_is_billed_for_its_time_and_serves_its_chunk() -> None:
    # As many at once as ten replicas have slots, then nothing: a closed loop would take the chunk.
    workload = [(0.0, 2048, 256)] * (10 * SLOTS)
    result = simulate(
        workload, terms(max_chunks=1, queue_deadline_s=1e6), MODEL, Fixed(1), starts_s=[5.0], until_s=3600
    )
    assert result.billed_chunk_ms == 3_600_000
    last = max(request.ended_s or 0.0 for request in result.requests)
    assert 10 * SLOTS * 2304 / last == pytest.approx(CHUNK, rel=0.05)


def test_an_idle_endpoint_goes_to_zero_and_the_next_request_waits_for_a_start() -> None:
    workload = [(1.0, 100, 10), (600.0, 100, 10)]
    sleeping = terms(min_chunks=0)
    result = simulate(
        workload, sleeping, MODEL, Headrace(KNOBS), starts_s=[20.0], ready=1, scale_to_zero=True, until_s=700
    )
    assert result.ready_at(599) == 0
    woken = result.requests[1]
    assert woken.ttft_s == pytest.approx(20, abs=1)
    assert result.refused == 0


def test_a_demand_beyond_the_range_is_refused_for_the_range() -> None:
    result = simulate(poisson(3, 300), terms(max_chunks=1), MODEL, Headrace(KNOBS), starts_s=[5.0])
    refused = Counter(request.refused for request in result.requests if request.refused)
    # The replica is as busy as the range: now and then it is the slot that a request has waited for in vain.
    assert refused["rate"] > 0.9 * refused.total() > 100
    served = sum(request.work for request in result.requests if request.refused is None)
    # What the limiter lets through in the time of the run, its burst and the deadline.
    assert served <= CHUNK * (300 + 30) + terms(max_chunks=1).burst + 2304


def test_what_drains_finishes_its_requests() -> None:
    class Dropping(Fixed):
        def decide(self, seen):  # type: ignore[no-untyped-def]
            self._chunks = 4 if seen.now < 30 else 1
            return super().decide(seen)

    result = simulate(poisson(3, 31), terms(), MODEL, Dropping(4), starts_s=[5.0], ready=4, until_s=200)
    assert max(moment.draining for moment in result.moments) == 3
    assert result.moments[-1].draining == 0
    assert all(request.refused is None for request in result.requests)
    # Draining chunks are billed until they end.
    assert result.chunk_hours == pytest.approx(result.held_chunk_hours, rel=1e-3)


def test_good_is_in_time_from_the_first_token_to_the_last(stepped: Result) -> None:
    good = sum(
        request.ttft_s is not None
        and request.ttft_s <= LIMITS.ttft_s
        and (request.tpot_s is None or request.tpot_s <= LIMITS.tpot_s)
        for request in stepped.requests
    )
    assert stepped.attainment(LIMITS) == good / len(stepped.requests)


@pytest.mark.parametrize(
    ("workload", "wrong"),
    [
        ([(0.0, 0, 5)], "request 0 has 0 input"),
        ([(0.0, 5, 0)], "5 input and 0 output"),
        ([(0.0, 8192, 1)], "at most 8192 together"),
        ([(1.0, 5, 5), (0.5, 5, 5)], "request 1 arrives at 0.5 s, before"),
    ],
)
def test_a_workload_that_can_never_be_served_is_named(workload: list[tuple[float, int, int]], wrong: str) -> None:
    with pytest.raises(UnfitError, match=wrong):
        simulate(workload, terms(), MODEL, Fixed(1), starts_s=[5.0])
