"""Statistics of good and bad requests in a row: intervals for a share, sequential tests, and how much less a correlated
sample says than an independent one."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri

Verdict = Literal["PASS", "FAIL", "UNRESOLVED"]


def share_bounds(good: float, n: float, alpha: float) -> tuple[float, float]:
    """Clopper-Pearson: two one-sided bounds at level ``alpha`` each for the share behind ``good`` of ``n``.

    Counts may be fractions: those of a correlated sample, divided by its design effect.
    """
    bad = max(n - good, 0.0)
    lower = float(betaincinv(good, bad + 1, alpha)) if good > 0 else 0.0
    upper = float(betaincinv(good + 1, bad, 1 - alpha)) if bad > 0 else 1.0
    return lower, upper


def share_verdict(good: float, n: float, target: float, alpha: float) -> Verdict:
    """PASS: the share is at least ``target``; FAIL: it is not; each at level ``alpha``. UNRESOLVED: more is needed."""
    lower, upper = share_bounds(good, n, alpha)
    if lower >= target:
        return "PASS"
    return "FAIL" if upper < target else "UNRESOLVED"


def sequential_verdict(good: float, n: float, target: float, error: float) -> Verdict:
    """Wald's sequential probability ratio test of a share half as bad again against one half as bad as allowed.

    It may be asked after every request: both errors stay below ``error`` whenever it is first answered.
    (Wald 1945; with ``target`` 0.99: 0.985 against 0.995.)
    """
    half = (1 - target) / 2
    high, low = target + half, target - half
    ratio = good * math.log(high / low) + (n - good) * math.log((1 - high) / (1 - low))
    limit = math.log((1 - error) / error)
    if ratio >= limit:
        return "PASS"
    return "FAIL" if ratio <= -limit else "UNRESOLVED"


def design_effect(good: NDArray[np.bool_]) -> float:
    """By how much the variance of the mean exceeds that of as many independent requests; at least 1.

    The largest of four estimates, since a batching server correlates over requests in the same batch (which the first
    autocorrelation sees) as well as over busy periods (which only batch means see, when batches are longer than they):
    (1 + r) / (1 - r), and batch means over 20, 10 and 5 batches. Erring upward costs requests, erring downward costs
    truth.
    """
    n = len(good)
    if n < 20:
        return 1.0
    centred = good - good.mean()
    variance = float(centred @ centred) / n
    if variance == 0.0:
        return 1.0
    first = min(max(float(centred[1:] @ centred[:-1]) / (n * variance), 0.0), 0.95)
    effects = [1.0, (1 + first) / (1 - first)]
    for batches in (20, 10, 5):
        size = n // batches
        if size >= 2:
            means = centred[n - size * batches :].reshape(batches, size).mean(axis=1)
            effects.append(size * float(means.var(ddof=1)) / variance)
    return max(effects)


def requests_to_show(share: float, target: float, alpha: float, power: float) -> float:
    """Independent requests that show ``share`` to be above ``target`` at level ``alpha``, with probability
    ``power``."""
    if share <= target:
        return math.inf
    spread = -float(ndtri(alpha)) * math.sqrt(target * (1 - target)) + float(ndtri(power)) * math.sqrt(
        share * (1 - share)
    )
    # Not fewer than a sample without one bad request needs.
    return max((spread / (share - target)) ** 2, math.log(alpha) / math.log(target))
