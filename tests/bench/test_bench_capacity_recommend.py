"""Which range a measured capacity and a demand come to."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from headrace.bench.capacity.answer import Answer
from headrace.bench.capacity.demand import of_gamma, of_trace
from headrace.bench.capacity.recommend import recommend

ANSWER = Answer(
    verdict="PASS",
    limit="server",
    capacity=4.1,
    interval=(4.0, 4.2),
    precise=True,
    confirmed=3.9,
    cliff=False,
    reason="",
    findings=(),
    curve=(),
    requests=1000,
    seconds=600.0,
    input_tokens=1000.0,
    output_tokens=100.0,
    work=1200.0,
)


def test_random_arrivals_need_no_headroom_beyond_the_lower_end_of_the_interval() -> None:
    advice = recommend(ANSWER, of_gamma(9.0, 1.0, 10.0), chunk=2600.0, chunks=2, reference=True)
    assert advice.rate_per_chunk == 2.0
    assert (advice.min_chunks, advice.max_chunks) == (5, 5)
    assert advice.range == (13_000.0, 13_000.0)
    assert advice.max_tokens.both == pytest.approx(11_000) and advice.max_tokens.reference == pytest.approx(12_000)
    assert advice.used == pytest.approx(2400 / 2600)
    assert advice.headroom == pytest.approx(10 / 9 - 1)
    assert "no more than at random" in advice.reason


def test_bursts_raise_the_maximum_and_leave_the_minimum() -> None:
    calm = recommend(ANSWER, of_gamma(9.0, 1.0, 10.0), chunk=2600.0, chunks=2, reference=True)
    bursty = recommend(ANSWER, of_gamma(9.0, 4.0, 10.0), chunk=2600.0, chunks=2, reference=True)
    assert bursty.min_chunks == calm.min_chunks
    # 9 + 2.326 * sqrt(15 * 9 / 10) = 17.5 requests/s, of 2 each.
    assert bursty.max_chunks == 9


def test_a_baseline_raises_the_minimum_and_never_above_the_maximum() -> None:
    advice = recommend(ANSWER, of_gamma(3.0, 1.0, 10.0), chunk=2600.0, chunks=2, reference=True, baseline=20.0)
    assert (advice.min_chunks, advice.max_chunks) == (10, 10)


def test_a_provisioned_endpoint_elsewhere_is_rounded_in_input_and_output_tokens() -> None:
    advice = recommend(ANSWER, of_gamma(9.0, 1.0, 10.0), chunk=980.0, chunks=5, reference=False)
    assert advice.max_chunks == 12  # 9 requests/s of 0.8 a chunk
    assert advice.range[1] == 12 * 980.0
    assert advice.used == pytest.approx(0.8 * 1100 / 980)


def test_a_rate_that_was_only_confirmed_is_what_is_gone_by() -> None:
    answer = msgspec.structs.replace(ANSWER, capacity=None, interval=None, limit="range")
    assert recommend(answer, of_gamma(9.0, 1.0, 10.0), chunk=1.0, chunks=1, reference=True).rate_per_chunk == 3.9


def test_without_a_rate_there_is_no_range() -> None:
    answer = msgspec.structs.replace(ANSWER, interval=None, confirmed=None, reason="the SLO cannot be met")
    with pytest.raises(ValueError, match="no rate to make a range of: the SLO cannot be met"):
        recommend(answer, of_gamma(9.0, 1.0, 10.0), chunk=1.0, chunks=1, reference=True)


def test_a_trace_of_random_arrivals_has_its_mean_as_its_peak() -> None:
    arrivals = np.cumsum(np.random.default_rng(1).exponential(1 / 5, 50_000))
    demand = of_trace(arrivals, 10.0)
    assert demand.mean == pytest.approx(5, rel=0.02)
    assert demand.dispersion == pytest.approx(1, abs=0.15)
    assert demand.peak < 1.2 * demand.mean


def test_a_trace_that_is_busy_a_tenth_of_the_time_has_that_as_its_peak() -> None:
    random = np.random.default_rng(1)
    quiet = np.sort(random.uniform(0, 1000, 1000))
    busy = np.concatenate([random.uniform(start, start + 20, 1000) for start in range(0, 1000, 200)])
    demand = of_trace(np.sort(np.concatenate((quiet, busy))), 10.0)
    assert demand.peak == pytest.approx(51, rel=0.15)
    assert demand.typical < 2.5


def test_a_trace_too_short_for_a_peak_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 20 are needed"):
        of_trace(np.arange(10.0), 10.0)


@pytest.mark.parametrize(("rate", "cv"), [(0.0, 1.0), (1.0, 0.0)])
def test_a_demand_of_nothing_is_refused(rate: float, cv: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        of_gamma(rate, cv, 10.0)
