"""Whether a server keeps up: the transient that is left out, and the backlog that grows.

A finite probe above capacity can still meet its limits while the queue builds. What is judged is the drift: the share
of arrivals that is added to the backlog, from the slope of the number in flight.
"""

from __future__ import annotations

import math

import numpy as np

from headrace.bench.capacity.protocol import Observed, Probe

WARM_UP_SHARE = 0.1
"""Of the requests of an open loop, at its start: the queue is not yet what it will be."""
WARM_UP_LATENCIES = 5.0
"""And at least as many median latencies: by then those in flight have been replaced a few times."""
BLOCKS = 8
UNKNOWN_SE = 10.0
"""A drift this uncertain says nothing."""
LEAST_DRIFT = 0.01
"""Smaller ones are not called a growing backlog."""


def settled(probe: Probe, observed: Observed) -> int:
    """Requests at the start that are not judged: those of the transient, at most half."""
    n = len(observed.scheduled_s)
    if n == 0:
        return 0
    if probe.users is not None:
        return min(probe.users, n // 2)
    latency = float(np.median(observed.end_s - observed.scheduled_s))
    filled = int(np.searchsorted(observed.scheduled_s, observed.scheduled_s[0] + WARM_UP_LATENCIES * latency))
    return min(max(math.ceil(WARM_UP_SHARE * n), filled), n // 2)


def drift(probe: Probe, observed: Observed) -> tuple[float, float]:
    """Share of arrivals that stay in the backlog, and its standard error.

    Least squares over the number in flight after the transient. Its error is that of a random walk with the variance
    per arrival that the steps between blocks show, at least that of Poisson arrivals: near capacity a backlog wanders
    with the square root of time, which a test on residuals would take for growth. (Of a random walk with variance s per
    step over n steps, the slope has variance 1.2 s / n.)
    """
    skip, n = settled(probe, observed), len(observed.scheduled_s)
    arrivals = n - skip
    if probe.rate is None or arrivals < 2 * BLOCKS:
        return 0.0, UNKNOWN_SE
    # Taken at the arrivals themselves: the k-th of them finds k, less those that have ended, in flight.
    ended = np.searchsorted(np.sort(observed.end_s), observed.scheduled_s[skip:], side="right")
    flight = np.arange(skip, n) - ended
    number = np.arange(arrivals) - (arrivals - 1) / 2
    slope = float(number @ flight / (number @ number))
    size = arrivals // BLOCKS
    blocks = flight[arrivals - size * BLOCKS :].reshape(BLOCKS, size).mean(axis=1)
    # Means of neighbouring blocks of b steps of a random walk differ with variance 2/3 b s.
    step = max(float(np.diff(blocks).var(ddof=1)) / (size * 2 / 3), 1.0)
    return slope, math.sqrt(1.2 * step / arrivals)


def grows(share: float, error: float) -> bool:
    """Beyond doubt."""
    return share - 3 * error > LEAST_DRIFT
