"""Rate limits: what any 60 s may hold, whose limit holds, and when a refused request would be let through."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.policy.rate_limits import Charge, Exceeded, RateLimit, RateLimits

gaps = st.one_of(st.floats(0, 3), st.floats(0, 90))
"""Seconds between two requests: many in one window, and windows apart."""


def calls(limit: int, key: str = "endpoint", principal: str | None = None) -> RateLimit:
    return RateLimit(key, principal, limit, None)


def tokens(limit: int, key: str = "endpoint", principal: str | None = None) -> RateLimit:
    return RateLimit(key, principal, None, limit)


def most_in_a_minute(entries: Sequence[tuple[float, int]]) -> int:
    """The largest sum over (t - 60, t] of (time, amount)."""
    return max((sum(a for at, a in entries if t - 60 < at <= t) for t, _ in entries), default=0)


@given(st.integers(1, 6), st.lists(gaps, max_size=60))
def test_no_minute_holds_more_calls_than_the_limit(limit: int, steps: list[float]) -> None:
    limits, now, let_through = RateLimits([calls(limit)]), 1000.0, []
    for gap in steps:
        now += gap
        if isinstance(limits.admit(now, "user", "ann", 1), Charge):
            let_through.append((now, 1))
    assert most_in_a_minute(let_through) <= limit


@given(st.integers(1, 6), st.lists(gaps, max_size=60))
def test_a_call_is_let_through_where_61_seconds_hold_fewer_than_the_limit(limit: int, steps: list[float]) -> None:
    limits, now, let_through = RateLimits([calls(limit)]), 1000.0, []
    for gap in steps:
        now += gap
        found = limits.admit(now, "user", "ann", 1)
        if sum(at > now - 61 for at in let_through) < limit:
            assert isinstance(found, Charge)
        if isinstance(found, Charge):
            let_through.append(now)


@given(
    st.integers(100, 400),
    st.lists(st.tuples(gaps, st.integers(1, 150), st.integers(0, 150), st.integers(0, 3)), max_size=60),
)
def test_no_minute_settles_more_tokens_than_the_limit_and_what_outran_its_reservation(
    limit: int, steps: list[tuple[float, int, int, int]]
) -> None:
    """Each step asks with a reservation; the oldest ``ended`` requests in flight end, the step's with this usage."""
    limits, now = RateLimits([tokens(limit)]), 1000.0
    in_flight: list[tuple[Charge, int, int]] = []
    settled: list[tuple[float, int]] = []
    beyond = 0
    for gap, reserved, used, ended in steps:
        now += gap
        found = limits.admit(now, "user", "ann", reserved)
        if isinstance(found, Charge):
            in_flight.append((found, reserved, used))
            beyond += max(0, used - reserved) + max(0, reserved - limit)
        for charge, _, exact in in_flight[:ended]:
            charge.settle(now, exact)
            settled.append((now, exact))
        del in_flight[:ended]
    assert most_in_a_minute(settled) <= limit + beyond


@given(
    st.integers(1, 5),
    st.integers(100, 300),
    st.lists(st.tuples(gaps, st.integers(1, 400), st.integers(0, 400), st.booleans()), max_size=40),
)
def test_a_refused_request_is_let_through_when_it_was_told_to_come_back(
    most_calls: int, most_tokens: int, steps: list[tuple[float, int, int, bool]]
) -> None:
    limits, now = RateLimits([calls(most_calls), tokens(most_tokens)]), 1000.0
    for gap, asked, used, ends in steps:
        now += gap
        found = limits.admit(now, "user", "ann", asked)
        if isinstance(found, Exceeded):
            assert 0 < found.retry_after_s <= 61
            now += found.retry_after_s + 1e-6
            found = limits.admit(now, "user", "ann", asked)
        assert isinstance(found, Charge)
        found.settle(now, used if ends else asked)


def test_a_refused_request_would_not_have_been_let_through_before() -> None:
    limits = RateLimits([calls(1)])
    limits.admit(1000.25, "user", "ann", 1)
    refused = limits.admit(1010.0, "user", "ann", 1)
    assert isinstance(refused, Exceeded)
    assert (refused.key, refused.measure, refused.limit, refused.used, refused.retry_after_s) == (
        "endpoint",
        "calls",
        1,
        1,
        51.0,
    )
    assert isinstance(limits.admit(1060.999, "user", "ann", 1), Exceeded)
    assert isinstance(limits.admit(1061.0, "user", "ann", 1), Charge)


def test_tokens_of_requests_in_flight_count_as_reserved_however_long_they_take() -> None:
    limits = RateLimits([tokens(100)])
    slow = limits.admit(0.0, "user", "ann", 80)
    assert isinstance(slow, Charge)
    refused = limits.admit(200.0, "user", "ann", 30)
    assert isinstance(refused, Exceeded)
    assert (refused.used, refused.asked, refused.retry_after_s) == (80, 30, 61.0)
    slow.settle(200.5, 60)
    slow.settle(200.5, 60)
    assert isinstance(limits.admit(200.5, "user", "ann", 30), Charge), "60 settled and 30 more are within 100"


def test_a_request_larger_than_the_limit_is_let_through_when_nothing_else_counts() -> None:
    limits = RateLimits([tokens(100)])
    large = limits.admit(0.0, "user", "ann", 500)
    assert isinstance(large, Charge)
    large.settle(1.0, 450)
    refused = limits.admit(2.0, "user", "ann", 1)
    assert isinstance(refused, Exceeded)
    assert refused.retry_after_s == 60.0
    assert isinstance(limits.admit(62.0, "user", "ann", 500), Charge)


def test_a_refused_request_uses_up_no_limit() -> None:
    limits = RateLimits([calls(1, "user"), calls(2)])
    assert isinstance(limits.admit(0.0, "user", "ann", 1), Charge)
    for _ in range(5):
        assert isinstance(limits.admit(0.0, "user", "ann", 1), Exceeded)
    assert isinstance(limits.admit(0.0, "user", "bob", 1), Charge), "one of the endpoint's two is left"
    assert isinstance(limits.admit(0.0, "user", "cleo", 1), Exceeded)


@pytest.mark.parametrize(
    ("limits", "kind", "name", "most"),
    [
        ([calls(3, "user")], "user", "ann", 3),
        ([calls(3, "user")], "service_principal", "job", 3),
        ([calls(3, "user"), calls(5, "service_principal")], "service_principal", "job", 5),
        ([calls(3, "user"), calls(5, "user", "ann")], "user", "ann", 5),
        ([calls(3, "user"), calls(5, "user", "ann")], "user", "bob", 3),
        ([calls(3, "user"), calls(1, "user", "ann")], "user", "ann", 1),
        ([calls(3, "user"), calls(5, "service_principal", "job")], "service_principal", "job", 5),
        ([calls(5, "service_principal", "ann")], "user", "ann", None),
        ([calls(5, "user", "job")], "service_principal", "job", None),
        ([calls(2), calls(5, "user", "ann")], "user", "ann", 2),
        ([calls(3, "user"), tokens(9, "user", "ann")], "user", "ann", 3),
        ([calls(3, "user"), calls(2, "user")], "user", "ann", 2),
        ([calls(3, "service_principal")], "user", "ann", None),
    ],
)
def test_whose_limit_holds(limits: list[RateLimit], kind: str, name: str, most: int | None) -> None:
    """The endpoint's for all; a caller's own in place of that of each; calls and tokens each by itself."""
    found = RateLimits(limits)
    let_through = sum(isinstance(found.admit(0.0, kind, name, 1), Charge) for _ in range(8))
    assert let_through == (8 if most is None else most)


def test_callers_do_not_share_the_limit_of_each() -> None:
    limits = RateLimits([calls(1, "user")])
    for name in ("ann", "bob", "cleo"):
        assert isinstance(limits.admit(0.0, "user", name, 1), Charge)
    assert isinstance(limits.admit(0.0, "service_principal", "ann", 1), Charge), "another caller of the same name"
    assert isinstance(limits.admit(0.0, "user", "ann", 1), Exceeded)


def test_the_longest_wait_is_told_where_several_limits_are_used_up() -> None:
    limits = RateLimits([calls(1), tokens(10, "user")])
    first = limits.admit(0.0, "user", "ann", 10)
    assert isinstance(first, Charge)
    first.settle(20.0, 10)
    refused = limits.admit(30.0, "user", "ann", 10)
    assert isinstance(refused, Exceeded)
    assert (refused.key, refused.measure, refused.retry_after_s) == ("user", "tokens", 51.0)


@pytest.mark.parametrize("limit", [calls(0), tokens(0), calls(0, "user"), tokens(0, "user", "ann")])
def test_a_limit_of_zero_lets_nothing_through_and_names_no_time(limit: RateLimit) -> None:
    refused = RateLimits([calls(5), limit]).admit(0.0, "user", "ann", 1)
    assert isinstance(refused, Exceeded)
    assert (refused.limit, refused.retry_after_s) == (0, 0.0)


def test_what_was_used_stays_used_when_limits_change() -> None:
    limits = RateLimits([calls(4, "user"), tokens(100)])
    charges = [limits.admit(0.0, "user", "ann", 20) for _ in range(3)]
    limits.configure(10.0, [calls(3, "user", "ann"), tokens(60)])
    assert isinstance(limits.admit(10.0, "user", "ann", 1), Exceeded), "three calls were made"
    assert isinstance(limits.admit(10.0, "user", "bob", 1), Exceeded), "60 tokens are in flight"
    for charge in charges:
        assert isinstance(charge, Charge)
        charge.settle(11.0, 0)
    assert isinstance(limits.admit(11.0, "user", "bob", 60), Charge)
    limits.configure(62.0, [calls(3, "user")])
    assert isinstance(limits.admit(62.0, "user", "ann", 1), Charge)
