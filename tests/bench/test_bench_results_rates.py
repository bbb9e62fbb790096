"""Rates by integration over time, on traffic whose flow is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_run import changed, failing, run, unstreamed

from headrace.bench.client.records import Outcome
from headrace.bench.results import rates
from headrace.policy.work import RAW_TOKENS, Weights

EDGES = np.array([10.0, 20.0])


def test_a_request_counts_with_the_part_that_lies_in_the_interval() -> None:
    records = run([5.0, 12.0, 19.0, 30.0], ttft_s=2.0, tpot_s=0.5)  # each lasts 7 s
    assert rates.in_flight(records, EDGES)[0] == pytest.approx((2.0 + 7.0 + 1.0) / 10)


def test_even_arrivals_give_exact_rates_whatever_the_length_of_answers() -> None:
    records = run(np.arange(0.03, 40, 0.1), ttft_s=0.5, tpot_s=0.25, input_tokens=300, output_tokens=21)
    assert rates.input_rate(records, EDGES)[0] == pytest.approx(3000.0)
    assert rates.output_rate(records, EDGES)[0] == pytest.approx(210.0)
    assert rates.in_flight(records, EDGES)[0] == pytest.approx(10 * 5.5)


def test_output_is_exact_where_events_carry_many_tokens() -> None:
    records = run(np.arange(0.03, 40, 0.1), output_tokens=4000, tokens_per_event=2000, tpot_s=1e-4)
    assert rates.output_rate(records, EDGES)[0] == pytest.approx(40_000.0)


def test_input_flows_evenly_from_sending_to_first_token() -> None:
    records = run([8.0], ttft_s=4.0, input_tokens=400)
    assert rates.input_rate(records, np.array([8.0, 9.0, 10.0, 11.0, 12.0, 13.0])) == pytest.approx(
        [100, 100, 100, 100, 0]
    )


def test_input_of_a_request_that_got_no_token_is_not_counted() -> None:
    records = failing(run([11.0, 12.0], input_tokens=400), [1], Outcome.TIMED_OUT)
    assert rates.input_rate(records, EDGES)[0] == pytest.approx(40.0)


def test_tokens_of_an_answer_that_was_later_cut_still_arrived() -> None:
    records = changed(run([12.0], output_tokens=11), outcome=Outcome.FAILED)
    assert rates.output_rate(records, EDGES)[0] == pytest.approx(1.1)


def test_an_answer_that_is_no_stream_brings_its_output_at_its_end_and_its_input_until_then() -> None:
    whole = unstreamed([15.0], e2e_s=10.0, input_tokens=100, output_tokens=50)
    assert rates.output_rate(whole, EDGES)[0] == 0.0
    assert rates.output_rate(whole, np.array([20.0, 30.0]))[0] == pytest.approx(5.0)
    assert rates.input_rate(whole, EDGES)[0] == pytest.approx(5.0)
    assert rates.work_rate(whole, EDGES, RAW_TOKENS)[0] == pytest.approx((100 + 50) / 2 / 10)


def test_output_that_showed_no_event_counts_at_the_end_of_its_answer() -> None:
    silent = replace(changed(run([15.0]), events=0), event_s=np.empty(0), event_tokens=np.empty(0, np.uint16))
    assert rates.output_rate(silent, EDGES)[0] == pytest.approx(1.1)


def test_work_is_the_policys_weight_of_each_request() -> None:
    weights = Weights(w_in=1.0, w_out=5.0, w_pp=1e-3, w_dd=2e-3, w_c=0.1)
    records = changed(run(np.arange(0, 40, 0.1), input_tokens=300, output_tokens=20), cached_tokens=100)
    each = weights.work(200, 100, 20)
    assert rates.request_work(records, weights)[0] == pytest.approx(np.full(400, each))
    assert rates.work_rate(records, EDGES, weights)[0] == pytest.approx(10 * each)


def test_a_sum_over_small_intervals_is_the_whole() -> None:
    generator = np.random.default_rng(3)
    records = run(np.sort(generator.random(5000) * 30), ttft_s=generator.random(5000), tpot_s=0.02)
    fine = np.linspace(0.0, 40.0, 401)
    assert rates.in_flight(records, fine).sum() * 0.1 == pytest.approx(
        (records.requests["end_s"] - records.requests["sent_s"]).sum()
    )
    assert rates.input_rate(records, fine).sum() * 0.1 == pytest.approx(500_000)
    assert rates.output_rate(records, fine).sum() * 0.1 == pytest.approx(55_000)


def test_requests_that_were_never_sent_are_in_no_rate() -> None:
    records = changed(run([11.0]), sent_s=np.nan, first_s=np.nan, end_s=np.nan, events=1, outcome=Outcome.UNFINISHED)
    assert rates.in_flight(records, EDGES)[0] == 0.0
    assert rates.input_rate(records, EDGES)[0] == 0.0
