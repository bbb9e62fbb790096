"""What an endpoint's capacity costs: whole chunk-milliseconds times a whole micro-price.

    billed(t) = max(min, ready + draining after our own scale-down)     while the endpoint exists and is ready
    billed(t) = ready + draining after our own scale-down               while it exists and is not ready

Not billed: chunks that load, replacements after a failure until they are ready, the surplus of a roll-out, and, while
the endpoint is not ready, chunks that are missing. Integers throughout, rounded once per hourly line, half up:

    amount = (chunk_ms * price_micro_per_chunk_hour + 1,800,000) // 3,600,000
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityPoint:
    """An endpoint's capacity from ``at_ms`` until the next point."""

    at_ms: int
    """Unix time."""
    ready: int
    """Chunks ready, without those that a roll-out has too many."""
    draining_own: int
    """Chunks that finish their requests after a scale-down of ours."""
    min_chunks: int
    endpoint_ready: bool
    """False from its making until its minimum first serves, while a failure leaves it without a ready chunk, and while
    an update keeps it short of its minimum."""
    price_micro_per_chunk_hour: int
    config_version: int
    exists: bool = True

    @property
    def billed_chunks(self) -> int:
        if not self.exists:
            return 0
        provided = self.ready + self.draining_own
        return max(self.min_chunks, provided) if self.endpoint_ready else provided


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A time over which a line's inputs did not change."""

    from_ms: int
    to_ms: int
    chunks: int
    """Billed."""
    ready: int
    draining_own: int
    min_chunks: int
    endpoint_ready: bool

    @property
    def chunk_ms(self) -> int:
        return self.chunks * (self.to_ms - self.from_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An hour (UTC) of one config version at one price; ``spans`` are its inputs, from which it can be recomputed."""

    hour_start_ms: int
    config_version: int
    price_micro_per_chunk_hour: int
    spans: tuple[Span, ...]

    @property
    def chunk_ms(self) -> int:
        return sum(span.chunk_ms for span in self.spans)

    @property
    def amount_micro(self) -> int:
        """Millionths of the currency's unit."""
        return amount_micro(self.chunk_ms, self.price_micro_per_chunk_hour)


def amount_micro(chunk_ms: int, price_micro_per_chunk_hour: int) -> int:
    """The price of capacity, rounded half up to the micro-unit."""
    return (chunk_ms * price_micro_per_chunk_hour + HOUR_MS // 2) // HOUR_MS


def hourly_lines(points: Iterable[CapacityPoint], from_ms: int, to_ms: int) -> list[Line]:
    """The lines of a bill over [from_ms, to_ms), in order of time; hours in which nothing was billed have none.

    ``points`` are in order of time; before the first there was no endpoint. Of two at one instant the later counts.
    Raises ValueError where they are out of order, or a count or a price is negative.
    """
    lines: dict[tuple[int, int, int], list[Span]] = {}
    for point, start, end in _pieces(points, from_ms, to_ms):
        hour = start - start % HOUR_MS
        span = Span(
            from_ms=start,
            to_ms=end,
            chunks=point.billed_chunks,
            ready=point.ready,
            draining_own=point.draining_own,
            min_chunks=point.min_chunks,
            endpoint_ready=point.endpoint_ready,
        )
        spans = lines.setdefault((hour, point.config_version, point.price_micro_per_chunk_hour), [])
        if spans and spans[-1] == replace(span, from_ms=spans[-1].from_ms, to_ms=start):
            spans[-1] = replace(spans[-1], to_ms=end)
        else:
            spans.append(span)
    return [
        Line(hour_start_ms=hour, config_version=version, price_micro_per_chunk_hour=price, spans=tuple(spans))
        for (hour, version, price), spans in lines.items()
        if any(span.chunks for span in spans)
    ]


def _pieces(points: Iterable[CapacityPoint], from_ms: int, to_ms: int) -> Iterator[tuple[CapacityPoint, int, int]]:
    """(point, start, end) of every stretch within [from_ms, to_ms) and one hour in which an endpoint existed."""
    ordered = list(points)
    for point, following in zip(ordered, [*ordered[1:], None], strict=False):
        if min(point.ready, point.draining_own, point.min_chunks, point.price_micro_per_chunk_hour) < 0:
            raise ValueError(f"counts and prices must not be negative: {point}")
        if following is not None and following.at_ms < point.at_ms:
            raise ValueError(f"capacity points must be in order of time: {following.at_ms} follows {point.at_ms}")
        start = max(point.at_ms, from_ms)
        end = to_ms if following is None else min(following.at_ms, to_ms)
        while point.exists and start < end:
            hour_end = start - start % HOUR_MS + HOUR_MS
            yield point, start, min(end, hour_end)
            start = hour_end
