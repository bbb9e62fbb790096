"""What a capacity search is told of a probe: as much as is certain, and never the quick answers first."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_run import changed, failing, run

from headrace.bench import slo as objectives
from headrace.bench.capacity.observe import WRITTEN_WITHIN_S, observe, too_late_s
from headrace.bench.capacity.protocol import Observed, Probe
from headrace.bench.client.records import Outcome, Records
from headrace.bench.slo import Criterion
from headrace.policy.work import RAW_TOKENS

CRITERIA = objectives.parse("ttft_p90=1s").criteria
OPEN = Probe("bracket", seed=1, min_requests=1, max_requests=1000, rate=1.0)
CLOSED = Probe("scout", seed=1, min_requests=1, max_requests=4, users=2)


def seen(records: Records, now_s: float, probe: Probe = OPEN, **more: object) -> Observed:
    return observe(records, probe, CRITERIA, now_s=now_s, elapsed_s=now_s + 0.5, **more)  # type: ignore[arg-type]


def without(records: Records, *numbers: int) -> Records:
    """Those requests are not in the records: they are under way."""
    keep = ~np.isin(records.requests["number"], numbers)
    return Records(
        requests=records.requests[keep],
        event_s=records.event_s,
        event_tokens=records.event_tokens,
        errors=records.errors,
        planned_s=records.planned_s,
    )


def test_requests_count_up_to_the_first_that_is_still_under_way() -> None:
    """Requests 3 and 4 have been answered, but to count them before 2 would be to count the quick ones."""
    records = without(run(np.arange(10.0)), 2)
    observed = seen(records, now_s=5.0)
    assert observed.scheduled_s.tolist() == [0.0, 1.0]
    assert observed.good[0].tolist() == [True, True]


def test_a_request_that_is_not_due_yet_is_not_waited_for() -> None:
    records = without(run(np.arange(10.0)), 5, 6, 7, 8, 9)
    assert len(seen(records, now_s=4.5).scheduled_s) == 5


def test_a_request_that_is_too_late_to_be_good_is_bad_before_it_ends() -> None:
    records = without(run(np.arange(10.0)), 2)
    soon, late = 2.0 + 3.0 + WRITTEN_WITHIN_S, 2.0 + 3.0 + WRITTEN_WITHIN_S + 0.01
    assert len(seen(records, now_s=soon, late_s=3.0).scheduled_s) == 2
    observed = seen(records, now_s=late, late_s=3.0)
    assert observed.good[0].tolist() == [True, True, False, True, True, True, True]
    assert observed.end_s[2] == late


def test_failures_are_bad_and_refusals_are_counted_apart() -> None:
    records = failing(run(np.arange(6.0)), [1], Outcome.FAILED, status=500)
    records = failing(records, [2], Outcome.TIMED_OUT)
    records = failing(records, [3, 4], Outcome.REJECTED, status=429)
    observed = seen(records, now_s=10.0)
    assert observed.rejected == 2
    assert observed.scheduled_s.tolist() == [0.0, 1.0, 2.0, 5.0]
    assert observed.good[0].tolist() == [True, False, False, True]


def test_what_the_end_of_the_probe_cut_off_is_open_and_not_bad() -> None:
    records = run(np.arange(6.0))
    records = failing(records, [4, 5], Outcome.UNFINISHED)
    assert len(seen(records, now_s=5.5).scheduled_s) == 4


def test_slow_answers_are_bad_by_each_criterion_that_they_miss() -> None:
    criteria = objectives.parse("ttft_p90=1s,e2e_p50=150ms").criteria
    records = run(np.arange(4.0), ttft_s=[0.1, 2.0, 0.1, 0.1], tpot_s=[0.0, 0.0, 0.01, 0.0])
    observed = observe(records, OPEN, criteria, now_s=9.0, elapsed_s=9.0)
    assert [each.tolist() for each in observed.good] == [[True, False, True, True], [True, False, False, True]]


def test_users_of_a_closed_loop_are_judged_in_the_order_in_which_they_were_free() -> None:
    records = run([3.0, 1.0, 2.0], ttft_s=[2.0, 0.1, 0.1], planned=False)
    observed = seen(records, now_s=9.0, probe=CLOSED)
    assert observed.scheduled_s.tolist() == [1.0, 2.0, 3.0]
    assert observed.good[0].tolist() == [True, True, False]


def test_a_probe_is_finished_when_it_has_its_requests_and_its_time_or_ended_by_itself() -> None:
    probe = Probe("refine", seed=1, min_requests=1, max_requests=4, rate=1.0, min_s=8.0)
    records = run(np.arange(10.0))
    assert not seen(records, now_s=2.9, probe=probe).finished
    assert not seen(records, now_s=7.9, probe=probe).finished
    assert seen(records, now_s=8.0, probe=probe).finished
    assert seen(records, now_s=1.0, probe=probe, ended=True).finished


def test_means_are_of_answers_alone_and_work_needs_weights() -> None:
    records = failing(run(np.arange(3.0), input_tokens=[100, 300, 9999], output_tokens=10), [2], Outcome.FAILED)
    observed = seen(records, now_s=9.0, weights=RAW_TOKENS)
    assert (observed.input_tokens, observed.output_tokens, observed.work) == (200.0, 10.0, 210.0)
    assert seen(records, now_s=9.0).work is None


def test_before_the_first_answer_there_is_nothing() -> None:
    nothing = without(run(np.arange(3.0)), 0, 1, 2)
    observed = seen(nothing, now_s=1.0, weights=RAW_TOKENS)
    assert (len(observed.scheduled_s), observed.rejected, observed.work, observed.finished) == (0, 0, None, False)


@given(
    slow=st.lists(st.booleans(), min_size=1, max_size=30),
    ended=st.lists(st.booleans(), min_size=30, max_size=30),
    now_s=st.floats(0.0, 40.0),
)
def test_what_is_told_early_is_the_beginning_of_what_is_told_in_the_end(
    slow: list[bool], ended: list[bool], now_s: float
) -> None:
    records = run(np.arange(float(len(slow))), ttft_s=np.where(slow, 2.0, 0.1))
    under_way = [number for number in range(len(slow)) if not ended[number]]
    early, final = seen(without(records, *under_way), now_s=now_s), seen(records, now_s=1e6)
    count = len(early.scheduled_s)
    assert early.good[0].tolist() == final.good[0][:count].tolist()
    assert early.scheduled_s.tolist() == final.scheduled_s[:count].tolist()
    assert count <= min(under_way, default=len(slow))
    assert len(final.scheduled_s) == len(slow)


@pytest.mark.parametrize(
    ("criteria", "late_s"),
    [
        ([Criterion(attainment=0.9, e2e_s=5.0)], 5.0),
        ([Criterion(attainment=0.9, ttft_s=2.0, tpot_s=0.1)], 2.0 + 0.1 * 64),
        ([Criterion(attainment=0.9, ttft_s=2.0, tpot_s=0.1, e2e_s=3.0)], 3.0),
        ([Criterion(attainment=0.9, ttft_s=2.0)], math.inf),
        ([Criterion(attainment=0.9, e2e_s=5.0), Criterion(attainment=0.5, e2e_s=9.0)], 9.0),
    ],
)
def test_too_late_is_when_no_criterion_can_be_met_any_more(criteria: list[Criterion], late_s: float) -> None:
    assert too_late_s(criteria, longest_output=64) == pytest.approx(late_s)


def test_with_answers_of_unknown_length_only_their_end_can_be_too_late() -> None:
    assert too_late_s([Criterion(attainment=0.9, ttft_s=2.0, tpot_s=0.1)], math.inf) == math.inf


def test_numbers_beyond_the_schedule_are_load_that_is_kept_on_and_not_counted() -> None:
    records = run(np.arange(5.0))
    kept_on = changed(records, number=[0, 1, 2, 3, 7])
    observed = seen(kept_on, now_s=3.5)
    assert observed.scheduled_s.tolist() == [0.0, 1.0, 2.0, 3.0]
