"""Offered work per second from counters: no jump for a restart, a silence or a correction."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.policy.demand import Demand


def test_the_rate_is_what_came_within_the_window() -> None:
    demand = Demand(100)
    for second in range(21):
        demand.sample(second, "g", 50.0 * min(second, 10))
    assert demand.rate(20, 5) == 0
    assert demand.rate(20, 20) == pytest.approx(25)
    assert demand.rate(10, 10) == pytest.approx(50)
    assert demand.history_s(20) == 20


def test_gateways_add_up_and_a_restarted_one_is_another() -> None:
    demand = Demand(100)
    demand.sample(0, "life-1", 1e6)  # a controller that starts later than the gateway
    demand.sample(0, "other", 0)
    demand.sample(1, "life-1", 1e6 + 10)
    demand.sample(1, "other", 10)
    demand.sample(2, "life-2", 0)
    demand.sample(3, "life-2", 30)
    assert demand.rate(3, 10) == pytest.approx(5)


def test_a_correction_lowers_the_rate_and_never_below_zero() -> None:
    demand = Demand(100)
    for at, offered in ((0, 0.0), (1, 100.0), (2, 40.0)):
        demand.sample(at, "g", offered)
    assert demand.rate(2, 10) == pytest.approx(4)
    assert demand.rate(2, 1) == 0


def test_work_reported_after_a_silence_is_spread_over_it() -> None:
    demand = Demand(100)
    demand.sample(0, "g", 0)
    demand.sample(50, "g", 500)
    assert demand.rate(50, 10) == pytest.approx(10)


@given(st.lists(st.tuples(st.floats(0.01, 5), st.floats(0, 1000)), min_size=1, max_size=50))
def test_over_all_the_history_nothing_is_lost(steps: list[tuple[float, float]]) -> None:
    demand, now, offered = Demand(1000), 0.0, 0.0
    demand.sample(now, "g", offered)
    for gap, gain in steps:
        now, offered = now + gap, offered + gain
        demand.sample(now, "g", offered)
    assert demand.rate(now, 500) * 500 == pytest.approx(offered)
