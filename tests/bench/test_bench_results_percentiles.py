"""Percentiles: known values, known intervals, and coverage."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.bench.results import percentiles


def test_a_percentile_is_the_smallest_value_that_its_part_does_not_exceed() -> None:
    found = percentiles.describe(np.arange(100.0, 0.0, -1.0))
    assert found is not None
    assert [found.at(level) for level in (0.5, 0.9, 0.95, 0.99)] == [50.0, 90.0, 95.0, 99.0]
    assert (found.count, found.mean, found.minimum, found.maximum) == (100, 50.5, 1.0, 100.0)


def test_values_that_did_not_happen_are_left_out() -> None:
    found = percentiles.describe(np.array([np.nan, 2.0, np.nan]))
    assert found is not None and found.count == 1 and found.at(0.99) == 2.0
    assert percentiles.describe(np.array([np.nan])) is None


@pytest.mark.parametrize(("level", "fewest"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368), (0.999, 3688)])
def test_an_interval_needs_as_many_values_as_its_level_says(level: float, fewest: int) -> None:
    assert percentiles.interval_ranks(fewest - 1, level) == (None, None)
    low, high = percentiles.interval_ranks(fewest, level)
    assert low is not None and high == fewest


def test_ranks_of_the_median_of_100_values_are_those_of_the_tables() -> None:
    assert percentiles.interval_ranks(100, 0.5) == (40, 61)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_the_interval_holds_the_true_quantile_in_at_least_95_percent_of_samples(level: float) -> None:
    generator = np.random.default_rng(7)
    low, high = percentiles.interval_ranks(500, level)
    assert low is not None and high is not None
    ordered = np.sort(generator.random((4000, 500)), axis=1)
    held = (ordered[:, low - 1] <= level) & (level <= ordered[:, high - 1])
    assert 0.943 <= held.mean() <= 0.99  # 0.95 less two standard errors


def test_weighted_values_count_as_often_as_they_weigh() -> None:
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([1, 8, 1], np.uint16)
    weighted, spelt = percentiles.describe_weighted(values, weights), percentiles.describe(np.repeat(values, weights))
    assert weighted is not None and spelt is not None
    assert [p.value for p in weighted.percentiles] == [p.value for p in spelt.percentiles]
    assert weighted.mean == pytest.approx(spelt.mean)


def test_dependent_values_get_no_interval() -> None:
    found = percentiles.describe(np.arange(1000.0), independent=False)
    assert found is not None and all(p.low is None and p.high is None for p in found.percentiles)


def test_a_proportion_has_the_interval_of_clopper_and_pearson() -> None:
    assert percentiles.proportion_interval(0, 10) == pytest.approx((0.0, 0.30850), abs=1e-5)
    assert percentiles.proportion_interval(5, 10) == pytest.approx((0.18709, 0.81291), abs=1e-5)
    assert percentiles.proportion_interval(10, 10) == pytest.approx((0.69150, 1.0), abs=1e-5)
