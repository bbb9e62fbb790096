"""The chunk: from repeated measurements of a replica's tokens/s to the number that is sold."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10, sqrt
from statistics import fmean, stdev

T_975 = {
    1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228,
    11: 2.201, 12: 2.179, 13: 2.160, 14: 2.145, 15: 2.131, 16: 2.120, 17: 2.110, 18: 2.101, 19: 2.093, 20: 2.086,
    25: 2.060, 30: 2.042, 40: 2.021, 60: 2.000, 120: 1.980,
}  # fmt: skip
"""The 97.5% quantile of Student's t by degrees of freedom. Between two entries the one below is used: it is wider."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its two-sided 95% interval by Student's t."""

    mean: float
    low: float
    high: float


def interval(samples: Sequence[float]) -> Interval:
    """The mean of independent samples and its 95% interval. Raises ValueError with fewer than two."""
    if len(samples) < 2:
        raise ValueError(f"an interval needs at least two samples, not {len(samples)}")
    mean = fmean(samples)
    half = t_975(len(samples) - 1) * stdev(samples) / sqrt(len(samples))
    return Interval(mean, mean - half, mean + half)


def t_975(freedom: int) -> float:
    """The 97.5% quantile of Student's t for at least one degree of freedom, or a little more."""
    known = list(T_975)
    return T_975[known[bisect_right(known, freedom) - 1]]


def chunk_of(low: float) -> int:
    """The chunk for the lower end of an interval of tokens/s: down to two significant digits, and a whole number.

    Raises ValueError below 1: measurements so few or so far apart promise nothing.
    """
    if not isfinite(low) or low < 1:
        raise ValueError(
            f"the lower end of the 95% interval is {low:.3g} reference tokens/s, and a chunk is at least 1: "
            "measure for longer, or with nothing else running"
        )
    step: int = 10 ** max(0, floor(log10(low)) - 1)
    return floor(low / step) * step


def nearest_chunks(tokens_per_s: float, chunk: int) -> tuple[int, int]:
    """The whole chunks next to a figure that is not: (below or at, above or at) in tokens/s."""
    below = floor(tokens_per_s / chunk) * chunk
    return below, below if below == tokens_per_s else below + chunk
