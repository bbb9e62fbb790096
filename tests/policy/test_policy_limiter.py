"""GCRA with debt: the laws of the rate limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.policy.limiter import Limiter

work = st.floats(1, 500)
rates = st.floats(1, 1000)


@given(rates, st.floats(500, 2000), st.lists(work, min_size=1, max_size=50), work, st.floats(0, 1e6))
def test_the_retry_instant_is_exact(rate: float, burst: float, charges: list[float], asked: float, now: float) -> None:
    limiter = Limiter(rate, burst, now)
    for charge in charges:
        limiter.charge(now, charge)
    wait = limiter.ready_in(now, asked)
    if wait > 0:
        assert not limiter.has_room(now, asked)
        assert not limiter.has_room(now + max(0.0, wait - 0.001), asked)
    assert limiter.reserve(now + wait, asked)


@given(rates, st.lists(st.tuples(st.floats(0, 5), work, st.floats(0, 2)), max_size=60))
def test_reservations_alone_never_exceed_rate_times_time_and_burst(
    rate: float, steps: list[tuple[float, float, float]]
) -> None:
    limiter, now, charged = Limiter(rate, 500, 0), 0.0, 0.0
    for gap, asked, used in steps:
        now += gap
        if limiter.reserve(now, asked):
            charged += asked
            assert charged <= rate * now + 500 + 1e-3 * rate
            limiter.settle(now, asked, asked * min(1.0, used))
            charged -= asked * (1 - min(1.0, used))


@given(rates, st.lists(st.tuples(st.floats(0, 5), work, work, st.booleans()), max_size=60))
def test_overshoot_is_bounded_by_what_streams_in_flight_may_still_use(
    rate: float, steps: list[tuple[float, float, float, bool]]
) -> None:
    """Each stream reserves ``asked`` and may use up to ``asked + beyond``; it takes it when the next step says so."""
    limiter, now, beyond_in_flight = Limiter(rate, 500, 0), 0.0, []
    charged = allowed = 0.0
    for gap, asked, beyond, take in steps:
        now += gap
        if limiter.reserve(now, asked):
            charged += asked
            beyond_in_flight.append(beyond)
            allowed = sum(beyond_in_flight)
        if take and beyond_in_flight:
            charged += beyond_in_flight[0]
            limiter.charge(now, beyond_in_flight.pop(0))
        assert charged <= rate * now + 500 + allowed + 1e-3 * rate


@given(rates, work, st.floats(0, 1e4))
def test_a_refund_never_lifts_the_balance_above_the_burst(rate: float, refund: float, later: float) -> None:
    limiter = Limiter(rate, 600, 0)
    limiter.refund(later, refund)
    assert limiter.debt(later) == 0
    assert limiter.reserve(later, 600)
    assert not limiter.has_room(later, 1 + 1e-5 * rate)


def test_debt_is_carried_until_the_rate_has_paid_for_it() -> None:
    limiter = Limiter(rate=100, burst=500, now=0)
    assert limiter.reserve(0, 500)
    limiter.charge(0, 1000)
    assert limiter.debt(0) == 1500
    assert limiter.ready_in(0, 100) == pytest.approx(11)


def test_another_rate_keeps_the_debt() -> None:
    limiter = Limiter(rate=100, burst=500, now=0)
    limiter.charge(0, 400)
    limiter.configure(1, rate=50, burst=500)
    assert limiter.debt(1) == 300
    assert limiter.ready_in(1, 300) == pytest.approx(2)


def test_work_larger_than_the_burst_goes_when_there_is_no_debt() -> None:
    limiter = Limiter(rate=100, burst=500, now=0)
    limiter.charge(0, 100)
    assert limiter.ready_in(0, 800) == pytest.approx(1)
    assert limiter.reserve(1, 800)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (1, 0), (-1, 1)])
def test_a_limiter_needs_a_positive_rate_and_burst(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        Limiter(rate, burst, 0)
    with pytest.raises(ValueError, match="positive"):
        Limiter(1, 1, 0).configure(0, rate, burst)


def test_work_ahead_is_admitted_first_even_where_the_limiter_has_long_been_idle() -> None:
    limiter = Limiter(rate=100, burst=500, now=0)
    assert limiter.ready_in(50, 300, ahead=200) == 0
    assert limiter.ready_in(50, 300, ahead=700) == pytest.approx(5)
