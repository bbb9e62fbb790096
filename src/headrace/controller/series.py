"""One point a second of each endpoint and of each of its served entities, in memory: what the page's chart shows."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec

from headrace.controller.gateways import Gauges, Totals

KEPT_SECONDS = 3600


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One second. Rates are per second over the time since the point before."""

    at_ms: int
    ready: int
    """Chunks."""
    loading: int
    draining: int
    wanted: int
    """By the last scaling decision."""
    billed: int
    capacity_tokens_s: int
    """Reference tokens/s: ready chunks, each times its size."""
    input_tokens_s: float
    output_tokens_s: float
    total_tokens_s: float
    """Input + output."""
    reference_tokens_s: float
    """Served."""
    offered_reference_tokens_s: float
    offered_chunks: float
    """The same in chunks of its served entities."""
    queued: int
    in_flight: int


RATES = (
    "input_tokens_s",
    "output_tokens_s",
    "total_tokens_s",
    "reference_tokens_s",
    "offered_reference_tokens_s",
    "offered_chunks",
)


class Chunks(NamedTuple):
    """Replicas by what they do now."""

    ready: int
    loading: int
    draining: int


class Sold(NamedTuple):
    """What a served entity is sold as, and what of it there should be and is billed, in chunks."""

    chunk: int
    """Reference tokens/s."""
    wanted: int
    billed: int


class Series:
    """A ring of points for each endpoint and each served entity, by its id."""

    def __init__(self, kept: int = KEPT_SECONDS) -> None:
        self._kept = kept
        self._points: dict[str, deque[Point]] = {}
        self._before: dict[str, tuple[int, Totals]] = {}

    def add(self, of: str, at_ms: int, totals: Totals, gauges: Gauges, chunks: Chunks, sold: Sold) -> Point:
        """Note a moment of a served entity. ``totals`` only needs to be consistent with the call before."""
        rates = self._rates(of, at_ms, totals)
        return self._keep(
            of,
            Point(
                at_ms=at_ms,
                ready=chunks.ready,
                loading=chunks.loading,
                draining=chunks.draining,
                wanted=sold.wanted,
                billed=sold.billed,
                capacity_tokens_s=chunks.ready * sold.chunk,
                offered_chunks=rates["offered_reference_tokens_s"] / sold.chunk,
                queued=gauges.queued,
                in_flight=gauges.in_flight,
                **rates,
            ),
        )

    def add_sum(
        self, of: str, at_ms: int, totals: Totals, gauges: Gauges, chunks: Chunks, billed: int, parts: Sequence[Point]
    ) -> Point:
        """Note a moment of an endpoint. ``parts``: of what it serves now; the rest may count what it served before."""
        return self._keep(
            of,
            Point(
                at_ms=at_ms,
                ready=chunks.ready,
                loading=chunks.loading,
                draining=chunks.draining,
                wanted=sum(part.wanted for part in parts),
                billed=billed,
                capacity_tokens_s=sum(part.capacity_tokens_s for part in parts),
                offered_chunks=sum(part.offered_chunks for part in parts),
                queued=gauges.queued,
                in_flight=gauges.in_flight,
                **self._rates(of, at_ms, totals),
            ),
        )

    def _rates(self, of: str, at_ms: int, totals: Totals) -> dict[str, float]:
        """Since the call before, by name of the point's field."""
        then_ms, before = self._before.get(of, (at_ms - 1000, totals))
        seconds = max(at_ms - then_ms, 1) / 1000
        inputs = (totals.input_tokens - before.input_tokens) / seconds
        outputs = (totals.output_tokens - before.output_tokens) / seconds
        self._before[of] = (at_ms, _copy(totals))
        return {
            "input_tokens_s": inputs,
            "output_tokens_s": outputs,
            "total_tokens_s": inputs + outputs,
            "reference_tokens_s": (totals.served_work - before.served_work) / seconds,
            # Corrections at settlement may outweigh what arrived in one second.
            "offered_reference_tokens_s": max((totals.offered_work - before.offered_work) / seconds, 0.0),
        }

    def _keep(self, of: str, point: Point) -> Point:
        self._points.setdefault(of, deque(maxlen=self._kept)).append(point)
        return point

    def points(self, of: str, seconds: int) -> list[Point]:
        """Of the last ``seconds``, oldest first."""
        points = self._points.get(of)
        if not points:
            return []
        since = points[-1].at_ms - seconds * 1000
        return [point for point in points if point.at_ms > since]

    def mean(self, of: str, seconds: int) -> Point | None:
        """The newest point, with rates over the last ``seconds``."""
        points = self.points(of, seconds)
        if not points:
            return None
        rates = {name: sum(getattr(point, name) for point in points) / len(points) for name in RATES}
        return msgspec.structs.replace(points[-1], **rates)

    def keep(self, of: Collection[str]) -> None:
        """Forget all others."""
        for gone in self._points.keys() - set(of):
            del self._points[gone], self._before[gone]


def _copy(totals: Totals) -> Totals:
    grown = Totals()
    for name in Totals.__dataclass_fields__:
        setattr(grown, name, getattr(totals, name))
    return grown
