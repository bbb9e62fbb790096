"""Whether a server keeps up: its pace, the transient that is left out, and the backlog that grows.

A finite probe above capacity can still meet its limits while the queue builds. What is judged is the drift: the share
of arrivals that is added to the backlog, from the slope of the number in flight.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

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


def pace(probe: Probe, observed: Observed) -> tuple[float, float]:
    """Requests/s that ended, and relative standard error: of a closed loop while all its users were busy, if that was
    long enough to be told."""
    n = len(observed.scheduled_s)
    if n == 0:
        return 0.0, UNKNOWN_SE
    began_s, ended = float(observed.scheduled_s[0]), np.sort(observed.end_s)
    seconds = float(ended[-1]) - began_s
    whole = (n / seconds if seconds > 0 else 0.0, 1 / math.sqrt(n))
    if probe.users is None or n < 2 * probe.users:
        return whole
    busy = ended[probe.users - 1 : int(np.searchsorted(ended, observed.scheduled_s[-1], side="right"))]
    size = (len(busy) - 1) // BLOCKS
    if size < 1 or not busy[-1] > busy[0]:
        return whole
    # Of eight blocks of departures: bunches and unequal lengths are in their variance.
    blocks = np.diff(busy[::size][: BLOCKS + 1])
    return (len(busy) - 1) / float(busy[-1] - busy[0]), float(blocks.std(ddof=1) / blocks.mean()) / math.sqrt(BLOCKS)


def pooled(shares: NDArray[np.float64], errors: NDArray[np.float64]) -> tuple[float, float]:
    """Drift, and its standard error, of several probes at one rate."""
    weights = 1 / errors**2
    return float(weights @ shares / weights.sum()), 1 / math.sqrt(float(weights.sum()))


def grows(share: float, error: float) -> bool:
    """Beyond doubt."""
    return share - 3 * error > LEAST_DRIFT
