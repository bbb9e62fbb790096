"""A whole run in figures, on a run whose figures are known."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from made_run import changed, failing, poisson, run, spec, unstreamed

from headrace.bench import slo
from headrace.bench.client.records import Outcome, TokensFrom
from headrace.bench.results.definitions import DEFINITIONS
from headrace.bench.results.figures import Counts, Figures, Latencies, TokenRates
from headrace.bench.results.summary import summarize
from headrace.bench.workload.spec import ClosedLoop, Constant
from headrace.policy.work import RAW_TOKENS

EVEN = np.arange(0.003, 100.0, 0.05)
OBJECTIVE = slo.parse("ttft_p90=150ms")


def test_even_traffic_has_the_rates_and_latencies_that_it_was_made_with() -> None:
    records = run(EVEN, lag_s=0.001, ttft_s=0.1, tpot_s=0.01, input_tokens=100, output_tokens=11)
    summary = summarize(records, spec=spec(Constant(20.0), duration_s=100.0), slo=OBJECTIVE, weights=RAW_TOKENS)
    assert summary.valid and summary.findings == ()
    found = summary.headline
    assert found is summary.steady
    assert found.tokens_per_s.input == pytest.approx(2000, rel=0.01)
    assert found.tokens_per_s.output == pytest.approx(220, rel=0.01)
    assert found.tokens_per_s.input_and_output == pytest.approx(2220, rel=0.01)
    assert found.tokens_per_s.reference == pytest.approx(2220, rel=0.01)
    assert found.completed_per_s == pytest.approx(20.0, rel=0.01)
    assert found.in_flight == pytest.approx(4.0, rel=0.01)
    latencies = found.latencies
    for field, value in (
        ("ttft_scheduled", 0.101),
        ("ttft_sent", 0.1),
        ("tpot", 0.01),
        ("itl_event", 0.01),
        ("itl_token", 0.01),
        ("e2e_scheduled", 0.201),
        ("e2e_sent", 0.2),
        ("lag", 0.001),
    ):
        distribution = getattr(latencies, field)
        assert distribution.at(0.5) == pytest.approx(value, abs=1e-9), field
        assert distribution.at(0.999) == pytest.approx(value, abs=1e-9), field


def test_the_steady_window_leaves_a_warm_up_out_that_the_whole_load_shows() -> None:
    due = poisson(20.0, 200.0)
    records = run(due, ttft_s=np.where(due < 40.0, 3.0, 0.1))
    summary = summarize(records, spec=spec(duration_s=200.0), slo=OBJECTIVE)
    assert summary.steady is not None and summary.steady.latencies.ttft_scheduled is not None
    assert summary.whole.latencies.ttft_scheduled is not None
    assert summary.steady.latencies.ttft_scheduled.maximum == pytest.approx(0.1)
    assert summary.whole.latencies.ttft_scheduled.at(0.9) == pytest.approx(3.0)
    assert summary.steady.attainments[0].share == 1.0
    assert summary.whole.attainments[0].share == pytest.approx(0.8, abs=0.03)


def test_tokens_that_come_together_are_split_per_token_and_flagged() -> None:
    records = run(EVEN, tpot_s=0.01, output_tokens=12, tokens_per_event=4)
    guessed = changed(records, tokens_from=np.where(np.arange(len(EVEN)) % 2, TokensFrom.SPREAD, TokensFrom.USAGE))
    latencies = summarize(guessed, spec=spec(Constant(20.0), duration_s=100.0)).whole.latencies
    assert latencies.itl_event is not None and latencies.itl_event.at(0.5) == pytest.approx(0.04)
    assert latencies.itl_token is not None and latencies.itl_token.at(0.5) == pytest.approx(0.01)
    assert latencies.tpot is not None and latencies.tpot.at(0.5) == pytest.approx(0.01)
    assert latencies.several_token_events == 1.0
    assert latencies.guessed_events == pytest.approx(0.5, abs=0.01)


def test_usage_below_the_events_does_not_make_tokens_slower_than_they_came() -> None:
    lied = changed(run(EVEN, tpot_s=0.01, output_tokens=11), output_tokens=2)
    tpot = summarize(lied, spec=spec(Constant(20.0), duration_s=100.0)).whole.latencies.tpot
    assert tpot is not None and tpot.at(0.5) == pytest.approx(0.01)


def test_answers_that_are_no_streams_have_an_end_and_no_first_token() -> None:
    records = unstreamed(EVEN, e2e_s=1.0, input_tokens=100, output_tokens=50)
    summary = summarize(records, spec=spec(Constant(20.0), duration_s=100.0), weights=RAW_TOKENS)
    latencies = summary.whole.latencies
    assert latencies.ttft_scheduled is latencies.tpot is latencies.itl_event is None
    assert latencies.e2e_sent is not None and latencies.e2e_sent.at(0.99) == pytest.approx(1.0)
    assert summary.whole.tokens_per_s.input_and_output == pytest.approx(3000, rel=0.02)
    assert summary.whole.tokens_per_s.reference == pytest.approx(3000, rel=0.02)


def test_attainment_counts_failures_and_shows_429s_apart() -> None:
    records = run(EVEN)
    place = np.arange(len(EVEN)) % 10
    records = failing(records, place == 0, Outcome.REJECTED, status=429)
    records = failing(records, place == 1, Outcome.TIMED_OUT)
    whole = summarize(records, spec=spec(Constant(20.0), duration_s=100.0), slo=OBJECTIVE).whole
    (attained,) = whole.attainments
    assert (attained.good, attained.judged, attained.rejected, attained.open_fate) == (1600, 1800, 200, 0)
    assert attained.share == pytest.approx(8 / 9)
    assert attained.low is not None and attained.high is not None and attained.low < 8 / 9 < attained.high
    assert attained.share_with_rejected == pytest.approx(0.8)
    assert attained.goodput_per_s == pytest.approx(16.0, rel=0.01)
    assert whole.counts == Counts(
        requests=2000, ok=1600, rejected=200, unavailable=0, failed=0, timed_out=200, unfinished=0
    )


def test_load_that_is_kept_on_flows_but_is_not_judged() -> None:
    due = np.arange(0.003, 150.0, 0.05)
    records = changed(run(due, ttft_s=np.where(due > 100.0, 5.0, 0.1)), measured=due <= 100.0)
    whole = summarize(records, spec=spec(Constant(20.0), duration_s=100.0), slo=OBJECTIVE).whole
    assert whole.counts.requests == 2000
    assert whole.attainments[0].share == 1.0
    assert whole.end_s == pytest.approx(100.0, abs=0.1)


def test_a_run_in_which_nothing_was_answered_has_no_latencies_and_is_not_valid() -> None:
    records = failing(run(EVEN), np.arange(len(EVEN)), Outcome.FAILED, error="connection refused")
    summary = summarize(records, spec=spec(Constant(20.0), duration_s=100.0), weights=RAW_TOKENS)
    assert summary.whole.latencies.ttft_scheduled is None and summary.whole.input_tokens is None
    assert summary.whole.tokens_per_s.input_and_output == 0
    assert not summary.valid


def test_an_empty_run_is_summarized_and_not_valid() -> None:
    summary = summarize(run(np.empty(0)), spec=spec(duration_s=10.0), slo=OBJECTIVE, weights=RAW_TOKENS)
    assert not summary.valid and summary.whole.counts.requests == 0


def test_the_notebooks_figure_is_its_formula() -> None:
    records = run(np.repeat(np.arange(0.0, 100.0), 4), ttft_s=0.5, tpot_s=0.05, planned=False)  # each takes 1 s
    summary = summarize(records, spec=spec(ClosedLoop(users=4), requests=400))
    assert summary.notebook is not None
    assert summary.notebook.tokens_per_s == pytest.approx((100 + 11) * 4 / 1.0)
    assert summarize(run(EVEN), spec=spec(requests=2000)).notebook is None


@pytest.mark.parametrize("kind", [Counts, Latencies, TokenRates, Figures])
def test_every_figure_has_a_definition(kind: type[msgspec.Struct]) -> None:
    named = {f"tokens_{name.replace('_and_', '_')}" if kind is TokenRates else name for name in kind.__struct_fields__}
    no_figures = {"start_s", "end_s", "parts", "counts", "latencies", "tokens_per_s", "attainments"}
    means = {"input_tokens", "output_tokens", "work"}
    assert named - no_figures - means <= set(DEFINITIONS)
