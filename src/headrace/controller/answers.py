"""How requests have ended, added up over the gateways and their lives: what metrics are made of.

A gateway counts since its start; what it adds between two ticks is added here, so that these counts go on when it is
replaced, and never go down in a controller's life.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from headrace.gateway.snapshot import (
    DURATION_BOUNDS_S,
    TPOT_BOUNDS_S,
    TTFT_BOUNDS_S,
    AnswersTick,
    HistogramTick,
    LatencyTick,
)

LAST_S = 60.0
"""``AnswerCounts.recent`` is of so many seconds."""


class Histogram:
    """Counts by fixed bounds, not cumulative; the last is of what is above all bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, now: HistogramTick, before: HistogramTick | None) -> None:
        """What was counted between two ticks of one gateway; since its start where there is none before."""
        then = before.counts if before is not None else [0] * len(self.counts)
        for place, (count, less) in enumerate(zip(now.counts, then, strict=True)):
            self.counts[place] += count - less
        self.sum += now.sum - (before.sum if before is not None else 0.0)

    def join(self, other: Histogram) -> None:
        """Add what another one has counted."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


@dataclass(frozen=True, slots=True)
class Latency:
    """Fields as in ``LatencyTick``; seconds."""

    e2e: Histogram = field(default_factory=lambda: Histogram(DURATION_BOUNDS_S))
    queue: Histogram = field(default_factory=lambda: Histogram(DURATION_BOUNDS_S))
    service: Histogram = field(default_factory=lambda: Histogram(DURATION_BOUNDS_S))
    ttft: Histogram = field(default_factory=lambda: Histogram(TTFT_BOUNDS_S))
    tpot: Histogram = field(default_factory=lambda: Histogram(TPOT_BOUNDS_S))

    def add(self, now: LatencyTick, before: LatencyTick | None) -> None:
        for name in self.__slots__:
            histogram: Histogram = getattr(self, name)
            histogram.add(getattr(now, name), getattr(before, name) if before is not None else None)

    def join(self, other: Latency) -> None:
        for name in self.__slots__:
            histogram: Histogram = getattr(self, name)
            histogram.join(getattr(other, name))


@dataclass(frozen=True, slots=True)
class AnswerCounts:
    """Of one served entity since the controller's start."""

    statuses: Counter[int] = field(default_factory=Counter)
    """Requests by HTTP status; 499: the client left first."""
    latency: dict[str, Latency] = field(default_factory=dict)
    """By operation."""
    _recent: deque[tuple[float, Counter[int]]] = field(default_factory=deque)
    """``statuses`` at times of the last minute, and once before it."""

    def add(self, now: AnswersTick, before: AnswersTick | None, at: float) -> None:
        if not self._recent:
            self._recent.append((at, Counter(self.statuses)))
        self.statuses.update(now.statuses)
        self.statuses.subtract(before.statuses if before is not None else {})
        then = {one.operation: one for one in before.latency} if before is not None else {}
        for latency in now.latency:
            self.latency.setdefault(latency.operation, Latency()).add(latency, then.get(latency.operation))
        self._recent.append((at, Counter(self.statuses)))
        self._forget(at)

    def recent(self, now: float) -> Counter[int]:
        """Requests of the last minute, as far as gateways have told of them, by HTTP status."""
        self._forget(now)
        return self.statuses - self._recent[0][1] if self._recent else Counter()

    def join(self, other: AnswerCounts) -> None:
        """Add what was counted of another one; ``recent`` stays its own."""
        self.statuses.update(other.statuses)
        for operation, latency in other.latency.items():
            self.latency.setdefault(operation, Latency()).join(latency)

    def _forget(self, now: float) -> None:
        while len(self._recent) > 1 and self._recent[1][0] <= now - LAST_S:
            self._recent.popleft()


class Answers:
    """All served entities, by id."""

    def __init__(self) -> None:
        self._counts: dict[str, AnswerCounts] = {}

    def add(self, now: AnswersTick, before: AnswersTick | None, at: float) -> None:
        """One gateway's tick, and the one that it sent of this entity before."""
        self._counts.setdefault(now.entity, AnswerCounts()).add(now, before, at)

    def of(self, entity: str) -> AnswerCounts:
        return self._counts.get(entity) or AnswerCounts()
