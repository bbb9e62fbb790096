"""Ratios from interleaved pairs: two things measured next to each other, many times, on a machine that is not quiet."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """Median of the ratios of pairs with a distribution-free interval; a target is met by the bound, not the median."""

    median: float
    low: float
    high: float
    confidence: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}] ({self.confidence:.0%}, {self.pairs} pairs)"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """``ours[i] / theirs[i]`` over pairs that were measured next to each other.

    The interval is that of order statistics for the median: of the sorted ratios, from the l-th smallest to the l-th
    largest, l as large as 95% coverage allows; with fewer than six pairs there is none, and ValueError is raised.
    """
    if len(ours) != len(theirs) or len(ours) < 6:
        raise ValueError(f"at least six pairs are needed; got {len(ours)} and {len(theirs)}")
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    n = len(ratios)
    outside, rank = 2 * 0.5**n, 1
    while rank < n // 2 and (more := outside + 2 * math.comb(n, rank) * 0.5**n) <= 0.05:
        outside, rank = more, rank + 1
    return Ratio(statistics.median(ratios), ratios[rank - 1], ratios[n - rank], 1 - outside, n)
