"""Virtual token counters: whose turn it is, and what of a member is remembered while it is away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.policy.virtual_counters import SPARE_MEMBERS, VirtualCounters


def test_one_that_comes_back_is_lifted_to_the_least_of_those_that_wait() -> None:
    counters = VirtualCounters()
    for member in "ab":
        counters.enter(member)
    counters.charge("a", 30.0)
    counters.charge("b", 20.0)
    assert counters.counter("new") == 20.0
    counters.enter("new")
    assert counters.first() == "b"  # of equals the one that waits longer


def test_one_that_got_more_than_the_others_is_not_set_back_by_leaving() -> None:
    counters = VirtualCounters()
    for member in "ab":
        counters.enter(member)
    counters.charge("a", 30.0)
    counters.leave("a")
    counters.enter("a")
    assert counters.counter("a") == 30.0
    assert counters.first() == "b"


def test_of_an_empty_queue_the_last_to_leave_stands_for_those_who_waited() -> None:
    counters = VirtualCounters()
    counters.enter("a")
    counters.charge("a", 30.0)
    counters.leave("a")
    assert counters.counter("b") == 30.0
    counters.pass_through("b", 5.0)
    assert counters.counter("c") == 35.0


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("elc"), st.floats(-10, 50)), max_size=150))
def test_the_first_is_the_active_member_with_the_least(steps: list[tuple[str, str, float]]) -> None:
    counters, active = VirtualCounters(), list[str]()
    for member, step, amount in steps:
        if step == "c":
            counters.charge(member, amount)
        elif member in active:
            counters.leave(member)
            active.remove(member)
        else:
            counters.enter(member)
            active.append(member)
        least = min(active, key=lambda one: (counters.counter(one), active.index(one)), default=None)
        assert counters.first() == least


@pytest.mark.parametrize("waiters", [1, 3])
def test_members_that_would_be_lifted_anyway_are_forgotten(waiters: int) -> None:
    counters = VirtualCounters()
    for number in range(waiters):
        counters.enter(f"waiter {number}")
    for number in range(4 * SPARE_MEMBERS):
        member = f"passer-by {number}"
        counters.enter(member)
        counters.leave(member)
        for waiter in range(waiters):
            counters.charge(f"waiter {waiter}", 10.0)
    assert len(counters) <= 2 * SPARE_MEMBERS
    assert counters.counter("passer-by 0") == counters.counter("waiter 0")


def test_one_that_is_ahead_of_the_others_is_remembered_while_it_is_away() -> None:
    counters = VirtualCounters()
    counters.enter("waiter")
    counters.enter("greedy")
    counters.charge("greedy", 1e6)
    counters.leave("greedy")
    for number in range(4 * SPARE_MEMBERS):
        counters.enter(f"passer-by {number}")
        counters.leave(f"passer-by {number}")
    assert counters.counter("greedy") == 1e6


def test_a_correction_for_one_that_was_forgotten_starts_where_it_would_come_back() -> None:
    counters = VirtualCounters()
    counters.pass_through("a", 100.0)
    counters.charge("stranger", 7.0)
    assert counters.counter("stranger") == 107.0


def test_members_that_pass_through_an_empty_queue_are_forgotten_too() -> None:
    counters = VirtualCounters()
    for number in range(4 * SPARE_MEMBERS):
        counters.pass_through(f"key {number}", 1.0)
    assert len(counters) <= SPARE_MEMBERS + 1
