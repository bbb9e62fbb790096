"""The start of a search, in a closed loop: can one stream meet the limits at all, and where is the capacity about?

A closed loop slows down with the server, so its rates are no capacity. They are cheap, cannot overload, and are near
it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.bench.capacity.evidence import Told
from headrace.bench.capacity.protocol import Probe
from headrace.bench.capacity.result import Result
from headrace.bench.capacity.statistics import share_bounds, share_verdict

LEAST_GAIN = 1.05
"""Twice the users that bring less throughput than this have saturated the server."""
LEAST_ERROR = 0.03
"""Of the saturated throughput, relative: more users yet would bring up to another 5% where each request in the batch
makes a step so much longer, and the next minute is never like the last."""
OPEN_SHARE = 0.7
"""Of the closed loop's throughput: random arrivals queue where users would wait."""


@dataclass(frozen=True, slots=True)
class Saturation:
    """What the closed loop showed of the most that the server does."""

    rate: float
    """Requests/s."""
    error: float
    """Relative standard error."""


def floor(unit: int, seed: int) -> Probe:
    """One stream: the best latency that there is."""
    return Probe("floor", seed, min_requests=8, max_requests=max(12, 3 * unit), users=1)


def impossible(result: Result, targets: Sequence[float]) -> bool:
    """One stream alone misses a target, or gets no answer at all."""
    return not result.n or any(
        share_verdict(counts.good, counts.n, target, 0.01) == "FAIL"
        for counts, target in zip(result.counts, targets, strict=True)
    )


def holds(result: Result, targets: Sequence[float]) -> bool:
    """Not clearly missed: enough for a scout."""
    return (
        not result.invalid
        and not result.limited
        and all(
            share_bounds(counts.good, counts.n, 0.2)[1] >= target
            for counts, target in zip(result.counts, targets, strict=True)
        )
    )


def next_users(told: Sequence[Told], targets: Sequence[float], most_users: int) -> int | None:
    """Doubled, until a level fails, is invalid or refused, or brings no more throughput. None: scouted."""
    closed = [(probe.users or 0, result) for probe, result in told if probe.users is not None]
    users, last = closed[-1]
    if users >= most_users or not holds(last, targets):
        return None
    if len(closed) > 1 and last.throughput < LEAST_GAIN * closed[-2][1].throughput:
        return None
    return min(2 * users, most_users)


def saturation(told: Sequence[Told]) -> Saturation | None:
    """Where the closed loop ended since more users brought no more throughput. None where latency, the client or the
    range ended it: what the server would do with more users is not known then.
    """
    closed = [result for probe, result in told if probe.users is not None]
    if len(closed) < 2 or any(result.invalid or result.limited or not result.n for result in closed[-2:]):
        return None
    before, last = closed[-2:]
    if last.throughput >= LEAST_GAIN * before.throughput:
        return None
    best = max(before, last, key=lambda result: result.throughput)
    return Saturation(best.throughput, math.hypot(LEAST_ERROR, best.throughput_error))


def level(users: int, unit: int, seed: int) -> Probe:
    enough = 3 * users + min(unit, 20)
    return Probe("scout", seed, min_requests=enough, max_requests=max(enough, 4 * users + 2 * unit), users=users)


def start_rate(told: Sequence[Told], targets: Sequence[float]) -> float:
    """Where the open loop begins."""
    closed = [result for probe, result in told if probe.users is not None and not result.invalid]
    rates = [result.throughput for result in closed if holds(result, targets)]
    best = max(rates, default=0.0) or max((result.throughput for result in closed), default=0.0)
    return OPEN_SHARE * best if best > 0 and math.isfinite(best) else 1.0
