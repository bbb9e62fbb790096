"""Gaps between events, whatever order the events of answers lie in."""

from __future__ import annotations

import numpy as np
import pytest
from made_run import changed, run

from headrace.bench.results import timings


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_gaps_are_those_of_the_chosen_answers_alone(order: list[int]) -> None:
    records = run(np.arange(4.0), tpot_s=[0.01, 0.02, 0.03, 0.04], output_tokens=6, tokens_per_event=2)
    shuffled = changed(records, **{name: records.requests[name][order] for name in records.requests.dtype.names or ()})
    chosen = np.isin(shuffled.requests["number"], [1, 3])
    gaps, tokens = timings.gaps_s(shuffled, chosen)
    assert sorted(gaps) == pytest.approx([0.04, 0.04, 0.08, 0.08])
    assert tokens.tolist() == [2, 2, 2, 2]


def test_one_event_has_no_gap_and_an_answer_without_events_none() -> None:
    records = changed(run(np.arange(3.0), output_tokens=4), events=[1, 0, 4])
    gaps, _ = timings.gaps_s(records, np.ones(3, np.bool_))
    assert gaps == pytest.approx([0.01] * 3)


def test_nothing_has_no_gaps() -> None:
    gaps, tokens = timings.gaps_s(run(np.empty(0)), np.empty(0, np.bool_))
    assert len(gaps) == len(tokens) == 0
