"""How much comes in, and how it bursts: what a range must be made for.

Arrivals at random (Poisson) wander too, but a capacity is measured under them and has that in it. What counts here is
by how much the rate itself wanders: the variance of counts beyond that of Poisson arrivals.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

PEAK = 0.99
"""Share of the time that a range's maximum is to be enough for."""


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """In requests/s."""

    mean: float
    typical: float
    """Median over time."""
    peak: float
    """Not exceeded in 99% of the windows, but for the chance of Poisson arrivals."""
    dispersion: float
    """Variance over mean of the number of arrivals in a window: 1 for Poisson."""
    window_s: float
    """A burst shorter than this may wait; a longer one must be served."""


def of_gamma(rate: float, cv: float, window_s: float) -> Demand:
    """Independent gaps with a coefficient of variation ``cv``. (Renewal theory: the dispersion is cv squared.)

    Raises ValueError for figures that are not positive.
    """
    if not (rate > 0 and cv > 0 and window_s > 0):
        raise ValueError("a demand needs a positive rate, coefficient of variation and window")
    wander = math.sqrt(max(cv * cv - 1, 0.0) * rate / window_s)
    return Demand(
        mean=rate, typical=rate, peak=rate + float(ndtri(PEAK)) * wander, dispersion=cv * cv, window_s=window_s
    )


def of_trace(arrivals_s: NDArray[np.float64], window_s: float) -> Demand:
    """Of arrival times as they were, sorted, in seconds.

    Raises ValueError when they do not fill 20 windows: a peak cannot be told from so few.
    """
    if not window_s > 0:
        raise ValueError("the window of a demand must be positive")
    length = float(arrivals_s[-1] - arrivals_s[0]) if len(arrivals_s) else 0.0
    windows = int(length / window_s)
    if windows < 20:
        raise ValueError(
            f"the trace lasts {length:.4g} s, which is {windows} windows of {window_s:.4g} s; at least 20 are needed: "
            "give a longer trace, or a rate and a coefficient of variation"
        )
    place = ((arrivals_s - arrivals_s[0]) / window_s).astype(int)
    counts = np.bincount(place, minlength=windows)[:windows]
    mean = float(counts.mean())
    dispersion = float(counts.var(ddof=1)) / mean
    # The counts wander by the rate and by chance; their variances add, and only the first is the rate's.
    own = math.sqrt(max(dispersion - 1, 0.0) / dispersion) if dispersion > 0 else 0.0
    typical, peak = (mean + own * (float(np.quantile(counts, share)) - mean) for share in (0.5, PEAK))
    return Demand(
        mean=mean / window_s,
        typical=typical / window_s,
        peak=max(peak, mean) / window_s,
        dispersion=dispersion,
        window_s=window_s,
    )
