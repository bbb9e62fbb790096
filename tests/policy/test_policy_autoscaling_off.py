"""Autoscaling that is off keeps the minimum of the range, and forgets what it saw."""

from __future__ import annotations

from dataclasses import replace

import pytest
from policy_seen import seen

from headrace.policy.scaling import Knobs, State, decide, replay

OFF = Knobs(autoscaling=False)


@pytest.mark.parametrize("rate", [0.0, 90.0, 1e6])
@pytest.mark.parametrize("age", [None, 0.5, 60.0])
def test_the_minimum_stands_whatever_is_offered_and_whoever_reports(rate: float, age: float | None) -> None:
    obs = seen(1000, rate, min_chunks=2, backlog_work=rate, metrics_age_s=age)
    decision = decide(obs, OFF, State(target=4))
    assert decision.chunks == 2
    assert decision.reason == "4 -> 2 chunks: autoscaling is off, so the count is the minimum of the range"
    assert replay(decision.inputs) == decision
    assert decide(obs, OFF, decision.state).reason.startswith("2 chunks kept: autoscaling is off")


def test_at_a_minimum_of_zero_one_chunk_is_kept_so_that_something_is_served() -> None:
    assert decide(seen(1000, 0, min_chunks=0, scale_to_zero=True), OFF, State()).chunks == 1


def test_switched_on_again_it_goes_up_at_once_and_down_only_after_a_whole_window() -> None:
    state = decide(seen(1000, 0, min_chunks=2), OFF, State(target=4)).state
    knobs = replace(OFF, autoscaling=True, down_window_s=15)
    assert decide(seen(1001, 300, min_chunks=1), knobs, state).chunks == 4
    first = decide(seen(1001, 0, min_chunks=1), knobs, state)
    assert first.chunks == 2
    assert decide(seen(1010, 0, min_chunks=1), knobs, first.state).chunks == 2
