"""What comes out of a simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace.policy.billing import HOUR_MS, CapacityPoint, hourly_lines
from headrace.policy.scaling import Observation
from headrace.policy.terms import Reason


@dataclass(frozen=True, slots=True)
class Limits:
    """What a good answer is."""

    ttft_s: float
    """From the arrival at the gateway to the first token."""
    tpot_s: float
    """Mean time of the tokens after the first."""


@dataclass(slots=True)
class Request:
    """One request and what became of it. Times are in seconds since the beginning."""

    arrived_s: float
    input_tokens: int
    output_tokens: int
    work: float
    """Reference tokens."""
    dispatched_s: float | None = None
    first_s: float | None = None
    """Its first token."""
    ended_s: float | None = None
    refused: Reason | None = None

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_s is None else self.first_s - self.arrived_s

    @property
    def tpot_s(self) -> float | None:
        """None without a second token."""
        if self.ended_s is None or self.first_s is None or self.output_tokens < 2:
            return None
        return (self.ended_s - self.first_s) / (self.output_tokens - 1)

    @property
    def e2e_s(self) -> float | None:
        return None if self.ended_s is None else self.ended_s - self.arrived_s

    def good(self, limits: Limits) -> bool:
        """It was answered within the limits."""
        if self.ttft_s is None or self.ttft_s > limits.ttft_s:
            return False
        return self.tpot_s is None or self.tpot_s <= limits.tpot_s


@dataclass(frozen=True, slots=True)
class Scaled:
    """The law decided for another number of chunks."""

    at_s: float
    before: int
    chunks: int
    reason: str
    seen: Observation
    inputs: dict[str, Any]
    """Of Headrace's law: ``policy.scaling.replay`` makes the same decision of it. Of others: their setting."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The chunks from ``at_s`` until the next moment."""

    at_s: float
    ready: int
    pending: int
    draining: int


@dataclass(frozen=True, slots=True)
class Result:
    """``until_s``: the end of what is counted in chunks and money; requests are followed to their ends."""

    until_s: float
    requests: Sequence[Request]
    decisions: Sequence[Scaled]
    moments: Sequence[Moment]
    points: Sequence[CapacityPoint]

    def attainment(self, limits: Limits) -> float:
        """The part of all requests, refused ones included, that was good."""
        return sum(request.good(limits) for request in self.requests) / max(1, len(self.requests))

    @property
    def refused(self) -> int:
        return sum(request.refused is not None for request in self.requests)

    @property
    def billed_chunk_ms(self) -> int:
        return sum(line.chunk_ms for line in hourly_lines(self.points, 0, round(self.until_s * 1000)))

    @property
    def chunk_hours(self) -> float:
        """Billed."""
        return self.billed_chunk_ms / HOUR_MS

    @property
    def held_chunk_hours(self) -> float:
        """Of the machine: what loads is not billed, but nobody else can have it."""
        return sum((m.ready + m.pending + m.draining) * s for m, s in self._lasting()) / 3600

    def ready_at(self, at_s: float) -> int:
        """Chunks ready."""
        return next((moment.ready for moment in reversed(self.moments) if moment.at_s <= at_s), 0)

    def reached(self, chunks: int, since_s: float) -> float | None:
        """Seconds from ``since_s`` until so many chunks were ready; None: never."""
        if self.ready_at(since_s) >= chunks:
            return 0.0
        return next((m.at_s - since_s for m in self.moments if m.at_s > since_s and m.ready >= chunks), None)

    def most(self, since_s: float, until_s: float) -> int:
        """The most chunks that were ready or pending at once."""
        return max((m.ready + m.pending for m, _ in self._lasting() if since_s <= m.at_s < until_s), default=0)

    def _lasting(self) -> list[tuple[Moment, float]]:
        ends = [moment.at_s for moment in self.moments[1:]] + [self.until_s]
        return [
            (moment, max(0.0, min(end, self.until_s) - moment.at_s))
            for moment, end in zip(self.moments, ends, strict=True)
        ]
