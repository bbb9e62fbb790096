"""Arrivals: what theory says of them, the same from the same seed, and the same at every rate."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import gammainc, kolmogorov

from headrace.bench.errors import BenchError
from headrace.bench.workload import arrivals as module
from headrace.bench.workload.arrivals import due_times
from headrace.bench.workload.spec import (
    Amount,
    Constant,
    Gamma,
    OpenLoop,
    Poisson,
    Replay,
    Stage,
    Stages,
)

Times = NDArray[np.float64]

RAMP = Stages((Stage(100, 0, 20), Stage(50, 20, 20), Stage(100, 20, 5)))
TRACE = np.array([3.0, 3.5, 3.5, 7.0, 11.0])

OPEN_LOOPS: list[OpenLoop] = [Constant(7.0), Poisson(7.0), Gamma(7.0, 4.0), Gamma(7.0, 0.5), RAMP, Replay()]


def p_value(sample: Times, cdf: Callable[[Times], Times]) -> float:
    """Kolmogorov and Smirnov: the chance of a distance from the distribution as large as this."""
    expected = cdf(np.sort(sample))
    steps = np.arange(sample.size + 1) / sample.size
    distance = max(np.max(steps[1:] - expected), np.max(expected - steps[:-1]))
    return float(kolmogorov(distance * math.sqrt(sample.size)))


def test_constant_arrivals_are_evenly_spaced_from_the_start() -> None:
    assert due_times(Constant(4.0), Amount(requests=5), seed=9).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_poisson_gaps_are_exponential(seed: int) -> None:
    due = due_times(Poisson(50.0), Amount(requests=40_000), seed)
    gaps = np.diff(due, prepend=0.0)
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.02)
    assert p_value(gaps, lambda gap: -np.expm1(-50 * gap)) > 0.01


@pytest.mark.parametrize("cv", [0.3, 1.0, 2.0, 5.0])
def test_gamma_gaps_have_the_coefficient_of_variation_that_is_asked_for(cv: float) -> None:
    gaps = np.diff(due_times(Gamma(20.0, cv), Amount(requests=200_000), seed=5))
    assert gaps.mean() == pytest.approx(1 / 20, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)
    shape = 1 / cv**2
    least = 1e-6  # s; the many gaps below are lost to rounding, in sums of thousands of seconds

    def cdf(gap: Times) -> Times:
        below = gammainc(shape, shape * 20 * least)
        return np.asarray((gammainc(shape, shape * 20 * gap) - below) / (1 - below))

    assert p_value(gaps[gaps > least], cdf) > 0.01


@pytest.mark.parametrize("cv", [0.3, 1.0, 4.0, 10.0])
def test_bursts_do_not_raise_the_rate_at_the_start(cv: float) -> None:
    """A schedule that began with a whole gap would have (cv^2 - 1) / 2 requests too many: 50 of 100 at a CV of 10."""
    runs = 3000
    counts = [due_times(Gamma(10.0, cv), Amount(duration_s=10.0), seed).size for seed in range(runs)]
    error = np.std(counts) / math.sqrt(runs)
    assert abs(np.mean(counts) - 100) < 4 * error


def test_the_count_of_a_poisson_schedule_varies_as_poisson_says() -> None:
    counts = [due_times(Poisson(10.0), Amount(duration_s=10.0), seed).size for seed in range(2000)]
    assert np.mean(counts) == pytest.approx(100, rel=0.01)
    assert np.var(counts) == pytest.approx(100, rel=0.15)


@pytest.mark.parametrize("made", [Constant, Poisson, lambda rate: Gamma(rate, 3.0)])
def test_a_seed_gives_the_same_pattern_at_every_rate(made: Callable[[float], OpenLoop]) -> None:
    slow = due_times(made(2.0), Amount(requests=30_000), seed=4)
    fast = due_times(made(16.0), Amount(requests=30_000), seed=4)
    np.testing.assert_array_equal(slow, fast * 8)


@pytest.mark.parametrize("arrivals", OPEN_LOOPS)
@given(seed=st.integers(0, 1 << 40), seconds=st.floats(0.5, 200), beyond_s=st.floats(0.1, 100))
@settings(max_examples=30, deadline=None)
def test_a_schedule_is_sorted_and_what_is_kept_on_leaves_it_as_it_was(
    arrivals: OpenLoop, seed: int, seconds: float, beyond_s: float
) -> None:
    amount = Amount(duration_s=seconds)
    due = due_times(arrivals, amount, seed, TRACE)
    longer = due_times(arrivals, amount, seed, TRACE, beyond_s=beyond_s)
    np.testing.assert_array_equal(longer[: due.size], due)
    assert np.all(np.diff(longer) >= 0)
    assert np.all(longer >= 0)
    assert np.all(due < seconds)
    assert np.all(longer < seconds + beyond_s)
    np.testing.assert_array_equal(longer, due_times(arrivals, amount, seed, TRACE, beyond_s=beyond_s))


@pytest.mark.parametrize("arrivals", OPEN_LOOPS)
def test_a_number_of_requests_is_kept_exactly_and_load_goes_on_after_the_last(arrivals: OpenLoop) -> None:
    due = due_times(arrivals, Amount(requests=40), 3, TRACE)
    assert due.size == 40
    longer = due_times(arrivals, Amount(requests=40), 3, TRACE, beyond_s=30.0)
    np.testing.assert_array_equal(longer[:40], due)
    assert longer.size > 40
    assert longer[-1] < due[-1] + 30


def test_the_tighter_of_two_limits_ends_a_schedule() -> None:
    assert due_times(Constant(10.0), Amount(requests=1000, duration_s=2.0), 0).size == 20
    assert due_times(Constant(10.0), Amount(requests=5, duration_s=2.0), 0).size == 5


def test_different_seeds_give_different_schedules() -> None:
    first, second = (due_times(Poisson(1.0), Amount(requests=10), seed) for seed in (1, 2))
    assert not np.any(first == second)


@given(processes=st.integers(1, 9), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_processes_that_take_every_nth_request_share_a_schedule_without_a_word(processes: int, seed: int) -> None:
    """Each makes the whole for itself; together they hold every arrival once."""
    shares = [due_times(Poisson(30.0), Amount(duration_s=20.0), seed)[share::processes] for share in range(processes)]
    whole = due_times(Poisson(30.0), Amount(duration_s=20.0), seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(shares)), whole)


def test_stages_bring_the_requests_that_their_rates_add_up_to() -> None:
    counts = [due_times(RAMP, Amount(), seed).size for seed in range(300)]
    expected = 100 * 10 + 50 * 20 + 100 * 12.5
    assert np.mean(counts) == pytest.approx(expected, abs=4 * math.sqrt(expected / 300))


def test_arrivals_in_a_ramp_follow_its_rate_exactly() -> None:
    """Given their count, arrivals of a Poisson process lie as its rate says: as t squared, for a ramp from zero."""
    due = due_times(Stages((Stage(100.0, 0.0, 400.0),)), Amount(), seed=8)
    assert p_value(due / 100, lambda share: share**2) > 0.01


def test_the_count_in_a_part_of_a_stage_varies_as_poisson_says() -> None:
    """Rejection in steps or gaps frozen at their start would not."""
    runs = [due_times(RAMP, Amount(), seed) for seed in range(2000)]
    counts = [int(np.count_nonzero((due >= 40) & (due < 60))) for due in runs]
    assert np.mean(counts) == pytest.approx(200, rel=0.01)
    assert np.var(counts) == pytest.approx(200, rel=0.15)


def test_nothing_arrives_in_a_stage_of_no_load() -> None:
    due = due_times(Stages((Stage(10, 5, 5), Stage(20, 0, 0), Stage(10, 5, 5))), Amount(), seed=0)
    assert not np.any((due >= 10) & (due < 30))
    assert np.any(due < 10)
    assert np.any(due >= 30)


def test_stages_that_end_at_zero_keep_nothing_on() -> None:
    down = Stages((Stage(10, 5, 0),))
    np.testing.assert_array_equal(due_times(down, Amount(), 0, beyond_s=100.0), due_times(down, Amount(), 0))


def test_a_trace_is_replayed_from_zero_at_its_own_speed_or_another() -> None:
    assert due_times(Replay(), Amount(), 0, TRACE).tolist() == [0.0, 0.5, 0.5, 4.0, 8.0]
    assert due_times(Replay(time_scale=2.0), Amount(), 0, TRACE).tolist() == [0.0, 1.0, 1.0, 8.0, 16.0]


def test_a_trace_is_replayed_at_a_mean_rate() -> None:
    due = due_times(Replay(rate=10.0), Amount(), 0, TRACE)
    assert (due.size - 1) / due[-1] == pytest.approx(10.0)
    np.testing.assert_allclose(due / due[-1], (TRACE - 3) / 8)


def test_a_trace_comes_round_again_after_a_mean_gap() -> None:
    due = due_times(Replay(), Amount(requests=7), 0, TRACE)
    assert due.tolist() == [0.0, 0.5, 0.5, 4.0, 8.0, 10.0, 10.5]


@pytest.mark.parametrize(
    ("arrivals", "amount", "words"),
    [
        (Poisson(0.0), Amount(requests=1), "rate is 0; expected a number above 0"),
        (Poisson(math.nan), Amount(requests=1), "rate is nan"),
        (Constant(math.inf), Amount(requests=1), "rate is inf"),
        (Gamma(1.0, -2.0), Amount(requests=1), "coefficient of variation is -2"),
        (Poisson(1.0), Amount(requests=0), "0 requests are asked for"),
        (Poisson(1.0), Amount(duration_s=-1.0), "duration is -1"),
        (Poisson(1.0), Amount(), "neither a number of requests nor a duration"),
        (Replay(time_scale=0.0), Amount(), "time scale of the trace is 0"),
        (Replay(rate=-1.0), Amount(), "mean rate of the trace is -1"),
        (Replay(rate=2.0, time_scale=3.0), Amount(), "expected one of the two"),
        (Stages(()), Amount(), "no stages"),
        (Stages((Stage(0.0, 1.0, 1.0),)), Amount(), "length of stage 1 is 0"),
        (Stages((Stage(1.0, 1.0, -1.0),)), Amount(), "stage 1 has a rate of -1"),
        (Stages((Stage(1.0, 0.0, 0.0),)), Amount(), "all stages have a rate of 0"),
    ],
)
def test_what_is_no_schedule_is_refused_with_the_reason(arrivals: OpenLoop, amount: Amount, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        due_times(arrivals, amount, 0, TRACE)


def test_a_dataset_without_times_cannot_be_replayed() -> None:
    with pytest.raises(BenchError, match="no arrival times to replay"):
        due_times(Replay(), Amount(), 0, None)
    with pytest.raises(BenchError, match="1 requests over 0 s"):
        due_times(Replay(), Amount(), 0, np.array([4.0]))


def test_a_schedule_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REQUESTS", 100_000)
    with pytest.raises(BenchError, match="more than 100,000 requests"):
        due_times(Poisson(1e6), Amount(duration_s=3600.0), 0)
