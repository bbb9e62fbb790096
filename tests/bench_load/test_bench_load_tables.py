"""Goals are judged by what was measured, in the rounds that have both sides."""

from __future__ import annotations

import pytest
from measure import Figures
from tables import Goal, goals, spread, tokens_table, told


def case(**rows: Figures) -> dict[str, Figures]:
    return rows


def test_a_goal_is_met_by_the_median_and_not_by_the_best_round() -> None:
    assert Goal("many", 10, None, (5.0, 10.0, 20.0)).met
    assert not Goal("many", 10, None, (5.0, 9.0, 20.0)).met
    assert not Goal("few", None, 0.5, (0.1, 0.6, 0.7)).met


def test_what_was_not_measured_has_no_goal() -> None:
    assert goals([{}]) == []


def test_a_peer_s_cost_is_held_against_ours_of_the_same_round() -> None:
    rounds = [
        {"requests": case(headrace={"request_us": 100.0}, aiperf={"request_us": 2000.0})},
        {"requests": case(headrace={"request_us": 50.0})},
    ]
    (to_aiperf,) = [goal for goal in goals(rounds) if "aiperf" in goal.what]
    assert to_aiperf.measured == (20.0,) and to_aiperf.met


def test_an_added_ttft_that_the_machine_makes_is_held_against_the_bare_loop() -> None:
    def at(ours: float, bare: float) -> Goal:
        rows = case(headrace={"added_ttft_p99_us": ours}, bare={"added_ttft_p99_us": bare})
        (goal,) = [goal for goal in goals([{"seventy": rows}]) if "TTFT" in goal.what]
        return goal

    assert at(400, 100).met and at(400, 100).at_most == 0.5
    assert at(1400, 1000).met and at(1400, 1000).measured == pytest.approx((1.4,))
    assert not at(1600, 1000).met


def test_wrong_token_counts_are_told_apart_by_how_many_an_event_has() -> None:
    one, several = {"told": 100.0, "wrong_tokens": 0.0}, {"told": 50.0, "wrong_tokens": 50.0}
    table = tokens_table([{"requests": case(x=one), "seventy": case(x=one), "common": case(x=several)}], ["x"])
    assert "0 of 200" in table and "50 of 50" in table


def test_a_table_has_the_median_and_the_extremes_and_no_column_that_nobody_has() -> None:
    assert spread([3.0, 1.0, 2.0]) == "2 [1, 3]"
    text = told([{"together": case(x={"event_us": 0.5})}], ["x"])
    assert "0.5" in text and "2,000,000" in text
    assert "streams/s/core" not in text
