"""What is said to follow a decision is what the law then does, to the second."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_seen import seen

from headrace.policy.outlook import Outlook, outlook
from headrace.policy.scaling import Decision, Knobs, Observation, State, decide

KNOBS = Knobs(fast_window_s=10, slow_window_s=20, down_window_s=15, idle_to_zero_s=40)


def look(obs: Observation, state: State, knobs: Knobs = KNOBS) -> tuple[Decision, Outlook]:
    decision = decide(obs, knobs, state)
    return decision, outlook(obs, knobs, decision)


@given(st.lists(st.floats(0, 450), min_size=1, max_size=40))
def test_with_the_same_demand_chunks_are_given_back_when_it_was_said_and_not_before(rates: list[float]) -> None:
    state, now = State(), 1000.0
    for rate in rates:
        decision, follows = look(seen(now, rate), state)
        state, now = decision.state, now + 1
    said, last = follows.until, decision.chunks
    for _ in range(60):
        decision, _ = look(seen(now, rates[-1]), state)
        if decision.chunks < last:
            assert said is not None and now - 1 < said <= now
            return
        assert said is None or now < said
        state, now = decision.state, now + 1
    assert follows.standing == "steady"


def test_what_is_needed_stands_and_has_no_end() -> None:
    _, follows = look(seen(1000, 150), State(target=2))
    assert follows == Outlook("steady")


def test_an_idle_endpoint_says_when_it_goes_to_zero() -> None:
    quiet = {"min_chunks": 0, "scale_to_zero": True, "last_arrival_age_s": 10.0}
    decision, follows = look(seen(1000, 0, **quiet), State(target=1))
    assert follows == Outlook("idle", 1030.0)
    before = seen(1029, 0, **quiet | {"last_arrival_age_s": 39.0})
    after = seen(1030, 0, **quiet | {"last_arrival_age_s": 40.0})
    assert (look(before, decision.state)[0].chunks, look(after, decision.state)[0].chunks) == (1, 0)


@pytest.mark.parametrize("busy", [{"queued": 1}, {"in_flight": 1}, {"scale_to_zero": False}])
def test_what_has_a_request_or_may_not_sleep_does_not_go_to_zero(busy: dict[str, object]) -> None:
    quiet = {"min_chunks": 0, "scale_to_zero": True, "last_arrival_age_s": 10.0}
    assert look(seen(1000, 0, **quiet | busy), State(target=1))[1].standing == "steady"


@pytest.mark.parametrize("age", [None, 60.0])
def test_without_reports_it_is_frozen(age: float | None) -> None:
    assert look(seen(1000, 50, metrics_age_s=age), State(target=3))[1] == Outlook("frozen")


def test_switched_off_is_said() -> None:
    assert look(seen(1000, 50), State(target=3), replace(KNOBS, autoscaling=False))[1] == Outlook("off")
