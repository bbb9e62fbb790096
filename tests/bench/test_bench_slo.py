"""Reading objectives, and telling good answers from others."""

from __future__ import annotations

import pytest
from made_run import changed, failing, run, unstreamed

from headrace.bench import slo
from headrace.bench.client.records import Outcome
from headrace.bench.errors import BenchError
from headrace.bench.slo import Criterion, Slo


def test_limits_of_one_quantile_make_one_joint_criterion_and_others_their_own() -> None:
    assert slo.parse("ttft_p99=2s,tpot_p99=100ms,e2e_p90=0.5m") == Slo(
        (Criterion(attainment=0.99, ttft_s=2.0, tpot_s=0.1), Criterion(attainment=0.9, e2e_s=30.0))
    )


def test_spaces_case_and_fractions_of_a_percent_are_read() -> None:
    assert slo.parse(" TTFT_p99.9 = 450ms , ") == Slo((Criterion(attainment=0.999, ttft_s=0.45),))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ttft_mean=2s", "a mean is no criterion"),
        ("ttft_p99=2", "no unit"),
        ("ttft_p99=2h", "no unit 'h'"),
        ("itl_p99=2s", "there are ttft, tpot, e2e"),
        ("ttft=2s", "expected metric_pQUANTILE=LIMIT"),
        ("ttft_p99=-2s", "expected metric_pQUANTILE=LIMIT"),
        ("ttft_p100=2s", "between 0 and 100"),
        ("ttft_p99=0s", "more than 0"),
        ("ttft_p90=2s,ttft_p90.0=1s", "ttft_p90 twice"),
        (",", "holds no limit"),
        ("mlperf:gpt", "there are mlperf:llama2-70b"),
    ],
)
def test_what_is_no_objective_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(BenchError, match=said):
        slo.parse(text)


@pytest.mark.parametrize(
    ("name", "ttft_s", "tpot_s"),
    [
        ("llama2-70b", 2.0, 0.2),
        ("llama2-70b-interactive", 0.45, 0.04),
        ("llama3.1-8b", 2.0, 0.1),
        ("llama3.1-8b-interactive", 0.5, 0.03),
        ("llama3.1-405b", 6.0, 0.175),
        ("llama3.1-405b-interactive", 4.5, 0.08),
    ],
)
def test_presets_are_the_limits_of_mlperf_at_p99(name: str, ttft_s: float, tpot_s: float) -> None:
    assert slo.parse(f"mlperf:{name}").criteria == (Criterion(attainment=0.99, ttft_s=ttft_s, tpot_s=tpot_s),)


def test_words_say_the_whole_criterion() -> None:
    (criterion,) = slo.parse("ttft_p99=2s,tpot_p99=100ms").criteria
    assert slo.describe(criterion) == "99% of requests with TTFT at most 2 s and TPOT at most 100 ms"


def test_good_is_within_every_limit_from_when_a_request_was_due() -> None:
    records = run([0, 1, 2, 3], lag_s=[0, 0.5, 0, 0], ttft_s=[0.1, 0.1, 0.7, 0.1], tpot_s=[0.01, 0.01, 0.01, 0.2])
    assert slo.good(records, Criterion(attainment=0.9, ttft_s=0.5)).tolist() == [True, False, False, True]
    assert slo.good(records, Criterion(attainment=0.9, tpot_s=0.1)).tolist() == [True, True, True, False]
    assert slo.good(records, Criterion(attainment=0.9, ttft_s=0.5, tpot_s=0.1)).tolist() == [True, False, False, False]
    assert slo.good(records, Criterion(attainment=0.9, e2e_s=0.65)).tolist() == [True, False, False, False]


def test_an_answer_of_one_token_meets_any_tpot() -> None:
    assert slo.good(run([0], output_tokens=1), Criterion(attainment=0.9, tpot_s=1e-6)).all()


def test_an_answer_in_one_event_is_judged_by_the_most_its_tpot_can_be() -> None:
    records = run([0], ttft_s=1.0, output_tokens=11, tokens_per_event=11)
    assert not slo.good(records, Criterion(attainment=0.9, tpot_s=0.099)).any()
    assert slo.good(records, Criterion(attainment=0.9, tpot_s=0.101)).all()


def test_an_answer_that_is_no_stream_shows_its_first_token_at_its_end() -> None:
    records = unstreamed([0.0], e2e_s=1.1)
    assert not slo.good(records, Criterion(attainment=0.9, ttft_s=1.0)).any()
    assert slo.good(records, Criterion(attainment=0.9, ttft_s=1.2)).all()


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMED_OUT, Outcome.UNAVAILABLE])
def test_failures_are_judged_and_not_good(outcome: Outcome) -> None:
    records = failing(run([0, 1]), [1], outcome)
    criterion = Criterion(attainment=0.9)
    assert slo.good(records, criterion).tolist() == [True, False]
    assert slo.judged(records, criterion).tolist() == [True, True]


def test_a_429_and_load_that_is_only_kept_on_are_not_judged() -> None:
    records = changed(failing(run([0, 1, 2]), [1], Outcome.REJECTED, status=429), measured=[True, True, False])
    assert slo.judged(records, Criterion(attainment=0.9, ttft_s=1.0)).tolist() == [True, False, False]


def test_a_cut_off_request_is_judged_only_if_it_was_already_too_late() -> None:
    cut = failing(run([0.0, 9.0]), [0, 1], Outcome.UNFINISHED)
    records = changed(cut, end_s=[10.0, 10.0])
    criterion = Criterion(attainment=0.9, ttft_s=2.0)
    assert slo.judged(records, criterion).tolist() == [True, False]
    assert not slo.good(records, criterion).any()
