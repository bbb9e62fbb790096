"""Lengths: distributions as asked for, by the number of a request and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.bench.errors import BenchError
from headrace.bench.workload.lengths import DrawnPairs, ListedPairs, check, quantile
from headrace.bench.workload.spec import Lengths, LogNormal, Normal, Uniform

SHARES = (np.arange(200_000) + 0.5) / 200_000


def test_normal_lengths_have_their_mean_and_deviation() -> None:
    drawn = quantile(Normal(1000, 100), SHARES)
    assert drawn.mean() == pytest.approx(1000, abs=0.1)
    assert drawn.std() == pytest.approx(100, rel=0.001)


def test_lengths_outside_their_limits_are_drawn_again_and_not_piled_up_there() -> None:
    """The reference draws again and again, as the definition says."""
    lengths = Normal(100, 50, low=60, high=180)
    drawn = np.rint(np.random.default_rng(3).normal(100, 50, 2_000_000))
    kept = drawn[(drawn >= 60) & (drawn <= 180)]
    ours = quantile(lengths, SHARES)
    assert (ours.min(), ours.max()) == (60, 180)
    assert ours.mean() == pytest.approx(kept.mean(), abs=0.15)
    assert np.mean(ours == 60) == pytest.approx(np.mean(kept == 60), rel=0.1)
    assert np.mean(ours == 180) == pytest.approx(np.mean(kept == 180), rel=0.15)


def test_log_normal_lengths_have_their_median_and_spread() -> None:
    drawn = quantile(LogNormal(500, 0.7), SHARES)
    assert np.median(drawn) == pytest.approx(500, abs=1)
    assert np.log(drawn).std() == pytest.approx(0.7, rel=0.01)
    assert drawn.mean() == pytest.approx(500 * math.exp(0.7**2 / 2), rel=0.005)


def test_uniform_lengths_have_both_ends_and_all_between_alike() -> None:
    values, counts = np.unique(quantile(Uniform(3, 7), SHARES), return_counts=True)
    assert values.tolist() == [3, 4, 5, 6, 7]
    assert np.ptp(counts) <= 1


@pytest.mark.parametrize("lengths", [Uniform(12, 12), Normal(12, 0.0), LogNormal(12, 0.0)])
def test_a_distribution_without_spread_is_a_fixed_length(lengths: Lengths) -> None:
    assert set(quantile(lengths, SHARES[::1000]).tolist()) == {12}


@given(number=st.integers(0, 1 << 31), seed=st.integers(0, 1 << 60))
@settings(max_examples=50, deadline=None)
def test_a_request_has_the_same_lengths_whoever_asks_and_whenever(number: int, seed: int) -> None:
    pairs = DrawnPairs(Normal(300, 90), LogNormal(60, 1.0), seed)
    again = DrawnPairs(Normal(300, 90), LogNormal(60, 1.0), seed)
    for other in (number + 1, 0, number * 2):
        again.pair(other)
    assert pairs.pair(number) == again.pair(number)


def test_input_and_output_lengths_are_independent_and_so_are_neighbours() -> None:
    pairs = DrawnPairs(Uniform(1, 10_000), Uniform(1, 10_000), seed=1)
    drawn = np.array([pairs.pair(number) for number in range(50_000)])
    limit = 4 / math.sqrt(50_000)
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < limit
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < limit


def test_another_output_length_leaves_the_inputs_as_they_are() -> None:
    first, second = (DrawnPairs(Normal(300, 90), Uniform(high, high), 5) for high in (1, 400))
    assert [first.pair(number)[0] for number in range(100)] == [second.pair(number)[0] for number in range(100)]


def test_pairs_of_a_dataset_come_in_its_order_and_again_from_the_start() -> None:
    pairs = ListedPairs(np.array([10, 20, 30]), np.array([1, 2, 3]), seed=0, shuffle=False)
    assert [pairs.pair(number) for number in range(4)] == [(10, 1), (20, 2), (30, 3), (10, 1)]


def test_shuffled_pairs_stay_pairs_and_come_once_a_round_in_a_new_order() -> None:
    inputs = np.arange(1, 101)
    pairs = ListedPairs(inputs, inputs * 2, seed=3, shuffle=True)
    rounds = [[pairs.pair(number) for number in range(turn * 100, turn * 100 + 100)] for turn in range(3)]
    for turn in rounds:
        assert sorted(turn) == [(length, 2 * length) for length in range(1, 101)]
    assert rounds[0] != rounds[1] != rounds[2]


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        (Uniform(0, 5), "between 0 and 5 tokens; expected 1 or more"),
        (Uniform(9, 5), "between 9 and 5 tokens"),
        (Normal(-5, 10), "centre of -5 tokens"),
        (Normal(50, -1), "spread of -1"),
        (LogNormal(math.nan, 1.0), "centre of nan"),
        (Normal(100, 5, low=200, high=300), "less than 0.1% of their distribution"),
    ],
)
def test_what_is_no_length_is_refused_with_the_reason(lengths: Lengths, words: str) -> None:
    with pytest.raises(BenchError, match=f"input lengths .*{words}"):
        check(lengths, "input")
