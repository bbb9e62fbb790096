"""Percentiles with intervals that assume nothing of the distribution's shape."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, betaincinv

LEVELS = (0.5, 0.9, 0.95, 0.99, 0.999)
CONFIDENCE = 0.95


class Percentile(msgspec.Struct, frozen=True):
    """Of a sample, with the interval that holds the true value with 95% confidence."""

    level: float
    value: float
    low: float | None
    """None where the sample is too small for an interval of this level (p99 needs 368 values)."""
    high: float | None


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """A sample in figures, in the unit of its values (seconds)."""

    count: int
    mean: float
    minimum: float
    maximum: float
    percentiles: tuple[Percentile, ...]

    def at(self, level: float) -> float:
        """Value of a level in ``LEVELS``."""
        return next(p.value for p in self.percentiles if p.level == level)


def describe(values: NDArray[np.float64], *, independent: bool = True) -> Distribution | None:
    """NaN values are left out; None where nothing is left.

    ``independent`` False leaves the intervals out: the values depend on one another, and the intervals would lie.
    """
    values = values[~np.isnan(values)]
    count = len(values)
    if not count:
        return None
    points = [rank(count, level) for level in LEVELS]
    intervals = [interval_ranks(count, level) if independent else (None, None) for level in LEVELS]
    wanted = {1, count, *points, *(edge for interval in intervals for edge in interval if edge is not None)}
    # Ten million gaps are put in order around the few ranks that are asked for, and not sorted.
    ordered = np.partition(values, [place - 1 for place in sorted(wanted)])

    def value(place: int | None) -> float | None:
        return None if place is None else float(ordered[place - 1])

    return Distribution(
        count=count,
        mean=float(values.mean()),
        minimum=float(ordered[0]),
        maximum=float(ordered[-1]),
        percentiles=tuple(
            Percentile(level, float(ordered[point - 1]), value(low), value(high))
            for level, point, (low, high) in zip(LEVELS, points, intervals, strict=True)
        ),
    )


def describe_weighted(values: NDArray[np.float64], weights: NDArray[np.uint16]) -> Distribution | None:
    """Each value as often as its weight says. Without intervals."""
    count = int(weights.sum(dtype=np.int64))
    if not count:
        return None
    order = np.argsort(values)
    ordered = values[order]
    reached = np.cumsum(weights[order], dtype=np.int64)
    ranks = [math.ceil(level * count) for level in LEVELS]
    found = ordered[np.searchsorted(reached, ranks)]
    return Distribution(
        count=count,
        mean=float(np.dot(values, weights) / count),
        minimum=float(ordered[0]),
        maximum=float(ordered[-1]),
        percentiles=tuple(Percentile(level, float(v), None, None) for level, v in zip(LEVELS, found, strict=True)),
    )


def rank(count: int, level: float) -> int:
    """From 1: of the smallest value that ``level`` of ``count`` values do not exceed."""
    return max(1, math.ceil(level * count - 1e-9))  # 0.95 * 20 is a little more than 19 in floating point


def interval_ranks(count: int, level: float, confidence: float = CONFIDENCE) -> tuple[int, int] | tuple[None, None]:
    """Ranks, from 1, of the values between which the true quantile lies with ``confidence``; None where there are too
    few values.

    The number of values below the true quantile is binomial (count, level), whatever their distribution: exact
    (David and Nagaraja, Order Statistics, 7.1). Each side may err by half of what confidence leaves.
    """
    side = (1 - confidence) / 2
    # Rank l fails when fewer than l values lie below the quantile: the largest l with P(B <= l - 1) <= side.
    low = _largest(count, lambda k: bool(bdtr(k - 1, count, level) <= side))
    # Rank u fails when at least u values lie below it: the smallest u with P(B >= u) <= side.
    high = _largest(count, lambda k: bool(1 - bdtr(k - 1, count, level) > side)) + 1
    return (low, high) if low >= 1 and high <= count else (None, None)


def _largest(count: int, holds: Callable[[int], bool]) -> int:
    """The largest k in 1..count for which a predicate that turns from true to false holds; 0 for none."""
    low, high = 0, count
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def proportion_interval(hits: int, count: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Clopper and Pearson's exact interval of a proportion."""
    side = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, count - hits + 1, side))
    high = 1.0 if hits == count else float(betaincinv(hits + 1, count - hits, 1 - side))
    return low, high
