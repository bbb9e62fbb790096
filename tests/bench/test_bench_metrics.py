"""Figures of a run, against values worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.bench.metrics import DEFINITIONS, percentiles, quantile, summarize
from headrace.bench.samples import Sample
from headrace.policy.work import RAW_TOKENS, Weights


def ok(number: int, *, scheduled: float, sent: float, first: float, last: float, tokens: tuple[int, int]) -> Sample:
    return Sample(
        number=number,
        outcome="ok",
        scheduled_s=scheduled,
        sent_s=sent,
        first_s=first,
        last_s=last,
        end_s=last + 0.5,
        status=200,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
    )


def test_latencies_count_from_the_schedule_and_from_the_sending() -> None:
    summary = summarize([ok(0, scheduled=1.0, sent=3.0, first=4.0, last=8.0, tokens=(10, 5))], None)
    assert summary.ttft_scheduled is not None and summary.ttft_scheduled.p50 == 3.0
    assert summary.ttft_sent is not None and summary.ttft_sent.p50 == 1.0
    assert summary.tpot is not None and summary.tpot.p50 == 1.0
    assert summary.e2e_scheduled is not None and summary.e2e_scheduled.p50 == 7.5
    assert summary.e2e_sent is not None and summary.e2e_sent.p50 == 5.5
    assert summary.late is not None and summary.late.max == 2.0


def test_rates_are_named_and_over_the_time_from_first_sending_to_last_end() -> None:
    samples = [
        ok(0, scheduled=0, sent=0, first=1, last=3.5, tokens=(100, 20)),
        ok(1, scheduled=0, sent=0, first=1, last=9.5, tokens=(200, 30)),
    ]
    summary = summarize(samples, Weights(w_in=1, w_out=4, w_pp=0, w_dd=0, w_c=0))
    assert summary.elapsed_s == 10
    assert summary.tokens_per_s.input == 30
    assert summary.tokens_per_s.output == 5
    assert summary.tokens_per_s.input_and_output == 35
    assert summary.tokens_per_s.reference == pytest.approx((300 + 4 * 50) / 10)
    assert summary.requests_per_s == 0.2


def test_cached_input_is_weighed_as_such() -> None:
    sample = Sample(
        number=0, outcome="ok", scheduled_s=0, sent_s=0, end_s=1, input_tokens=10, cached_tokens=8, output_tokens=1
    )
    assert summarize([sample], Weights(w_in=1, w_out=1, w_pp=0, w_dd=0, w_c=0)).reference_tokens == 3


def test_refusals_and_failures_are_counted_apart_and_add_no_tokens() -> None:
    bad = [
        Sample(number=n, outcome=outcome, scheduled_s=0, sent_s=0, end_s=1, status=status, error=error, output_tokens=7)
        for n, (outcome, status, error) in enumerate(
            [
                ("rejected", 429, "over the range"),
                ("rejected", 429, "over the range"),
                ("unavailable", 503, "no replica"),
                ("failed", None, "connection refused"),
                ("unfinished", 200, None),
            ]
        )
    ]
    summary = summarize([*bad, ok(9, scheduled=0, sent=0, first=1, last=2, tokens=(4, 2))], RAW_TOKENS)
    assert (summary.ok, summary.rejected, summary.unavailable, summary.failed, summary.unfinished) == (1, 2, 1, 1, 1)
    assert summary.output_tokens == 2
    assert summary.statuses == {"429": 2, "200": 2, "503": 1, "none": 1}
    assert summary.errors == {"over the range": 2, "no replica": 1, "connection refused": 1}


def test_a_run_without_an_answer_has_no_latencies() -> None:
    summary = summarize([], None)
    assert summary.ttft_sent is None
    assert summary.tokens_per_s.input_and_output == 0
    assert summary.tokens_per_s.reference is None


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_the_smallest_value_that_this_part_does_not_exceed(values: list[float], part: float) -> None:
    chosen = quantile(sorted(values), part)
    enough = part * len(values) - 1e-9
    assert sum(value <= chosen for value in values) >= enough
    assert sum(value < chosen for value in values) < part * len(values) + 1e-9


def test_percentiles_of_a_hundred_values() -> None:
    figures = percentiles(float(n) for n in range(1, 101))
    assert figures is not None
    assert (figures.p50, figures.p90, figures.p95, figures.p99, figures.max) == (50, 90, 95, 99, 100)


def test_every_figure_has_a_definition() -> None:
    for name in ("ttft_scheduled", "ttft_sent", "tpot", "e2e_scheduled", "e2e_sent", "late", "tokens_per_s"):
        assert DEFINITIONS[name]
