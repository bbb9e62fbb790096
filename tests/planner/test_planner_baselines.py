"""The laws of others, by hand: what their documentation and source say they do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.planner.frontier import Point, cost_at, frontier
from headrace.planner.hpa import Hpa
from headrace.planner.laws import Law
from headrace.planner.ray_serve import RayServe
from headrace.policy.scaling import Observation


def seen(now: float, ongoing: int, ready: int, pending: int = 0) -> Observation:
    return Observation(
        now=now,
        chunk=1000,
        slots=8,
        min_chunks=1,
        max_chunks=20,
        scale_to_zero=False,
        ready=ready,
        pending=pending,
        draining=0,
        offered_fast=0,
        offered_slow=0,
        history_s=now,
        backlog_work=0,
        queued=0,
        oldest_wait_s=0,
        in_flight=ongoing,
        last_arrival_age_s=0,
        metrics_age_s=0,
    )


def run(law: Law, ongoing: list[int], ready: int) -> list[int]:
    """One look a second, every decision carried out at once."""
    counts: list[int] = []
    for second, count in enumerate(ongoing):
        ready = law.decide(seen(float(second), count, ready)).chunks
        counts.append(ready)
    return counts


def test_hpa_looks_every_fifteen_seconds_and_keeps_within_its_tolerance() -> None:
    assert run(Hpa(8), [16] * 30, ready=2) == [2] * 30
    assert run(Hpa(8), [17] * 30, ready=2) == [2] * 30  # 1.06 of the target
    assert run(Hpa(8), [16] * 7 + [18] * 30, ready=2) == [2] * 15 + [3] * 22


def test_hpa_goes_up_by_four_or_double_whichever_is_more() -> None:
    counts = run(Hpa(8), [160] * 46, ready=1)
    assert [counts[second] for second in (0, 15, 30, 45)] == [5, 10, 20, 20]


def test_hpa_goes_down_to_the_highest_recommendation_of_five_minutes() -> None:
    counts = run(Hpa(8), [80] + [40] * 14 + [8] * 345, ready=10)
    assert counts[:301] == [10] * 301
    assert counts[315] == 1
    soon = run(Hpa(8, down_window_s=60), [80] + [8] * 90, ready=10)
    assert (soon[60], soon[75]) == (10, 1)


def test_hpa_may_average_its_metric() -> None:
    assert run(Hpa(8, average_s=30), [0] * 15 + [32] * 31, ready=1)[45] == 4
    assert run(Hpa(8, average_s=30), [0] * 15 + [32] * 31, ready=1)[30] == 3


def test_ray_serve_goes_up_only_after_its_delay_and_down_only_after_its_own() -> None:
    counts = run(RayServe(8), [64] * 60, ready=2)
    assert counts == [2] * 30 + [8] * 30
    counts = run(RayServe(8), [8] * 700, ready=4)
    assert counts == [4] * 600 + [1] * 100


def test_ray_serve_forgets_its_delay_when_it_wants_to_stay() -> None:
    ongoing = [32] * 5 + [8] * 60 + [32] * 5  # the mean wants three for 15 s
    assert set(run(RayServe(8), ongoing, ready=2)) == {2}


def test_ray_serve_looks_back_half_a_minute() -> None:
    law = RayServe(8, up_delay_s=0)
    assert run(law, [8] * 30 + [32] * 30, ready=1)[-1] == 4
    assert run(RayServe(8, up_delay_s=0), [8] * 30 + [32] * 15, ready=1)[-1] == 3


def test_a_downscaling_factor_does_not_keep_one_replica_too_many() -> None:
    counts = run(RayServe(8, down_delay_s=0, down_factor=0.3), [8] * 40, ready=3)
    assert counts[-1] == 1


def test_ray_serve_starts_from_zero_without_a_delay() -> None:
    assert RayServe(8).decide(seen(0, 1, ready=0)).chunks == 1
    assert RayServe(8).decide(seen(0, 0, ready=0)).chunks == 0
    nothing_below_the_minimum = replace(seen(0, 0, ready=3), min_chunks=2)
    assert RayServe(8, down_delay_s=0).decide(nothing_below_the_minimum).chunks == 2


def test_only_points_that_no_other_beats_are_on_the_frontier() -> None:
    points = [Point(3, 0.97), Point(1, 0.9), Point(2, 0.95), Point(2.5, 0.94), Point(2, 0.93)]
    assert frontier(points) == [Point(1, 0.9), Point(2, 0.95), Point(3, 0.97)]


@pytest.mark.parametrize(
    ("attainment", "cost"), [(0.5, 1.0), (0.9, 1.0), (0.925, 1.5), (0.95, 2.0), (0.97, 3.0), (0.98, None)]
)
def test_cost_is_interpolated_and_never_extrapolated(attainment: float, cost: float | None) -> None:
    found = cost_at([Point(3, 0.97), Point(1, 0.9), Point(2, 0.95)], attainment)
    assert found == (None if cost is None else pytest.approx(cost))
