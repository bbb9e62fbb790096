"""Random arrivals around a constant demand are no reason to give a chunk back and ask for it again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from planner_cases import MODEL, SLOTS, poisson, terms

from headrace.planner.hpa import Hpa
from headrace.planner.laws import Headrace, Law
from headrace.planner.result import Result
from headrace.planner.simulation import simulate

HOUR_S = 3600.0
SETTLED_S = 400.0
"""From what the endpoint began with to what it needs."""


def constant(chunks: float, seed: int, law: Law) -> Result:
    ready = round(chunks + 1)
    workload = poisson(chunks, HOUR_S, seed=seed)
    return simulate(workload, terms(max_chunks=12), MODEL, law, starts_s=[10.0], ready=ready, until_s=HOUR_S)


def cycles(result: Result) -> list[float]:
    """Seconds from each time that a chunk was given back to when it was asked for again."""
    found: list[float] = []
    given_back: float | None = None
    for scaled in result.decisions:
        if scaled.at_s < SETTLED_S:
            continue
        if scaled.chunks < scaled.before:
            given_back = scaled.at_s
        elif given_back is not None:
            found.append(scaled.at_s - given_back)
            given_back = None
    return found


@pytest.mark.parametrize(("chunks", "seed"), [(0.6, 1), (1.3, 1), (2.3, 1), (3.5, 1), (3.5, 2), (5.1, 1), (5.1, 2)])
def test_noise_around_a_constant_demand_gives_no_cycle(chunks: float, seed: int) -> None:
    assert cycles(constant(chunks, seed, Headrace())) == []


def test_it_cycles_a_tenth_as_often_as_hpa_and_has_fewer_chunks() -> None:
    def run(make: Callable[[], Law]) -> tuple[int, float]:
        results = [constant(chunks, 3, make()) for chunks in (0.6, 1.3, 2.3, 5.1)]
        return sum(len(cycles(result)) for result in results), sum(result.chunk_hours for result in results)

    ours, hpa = run(Headrace), run(lambda: Hpa(0.8 * SLOTS))
    assert ours[0] <= hpa[0] / 10
    assert ours[1] < hpa[1]
