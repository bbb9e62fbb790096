"""One point a second of each endpoint and of each of its served entities, in memory: what the page's chart shows."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import NamedTuple

import msgspec

from headrace.controller.gateways import Totals

KEPT_SECONDS = 3600


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One second. Rates are per second over the time since the point before."""

    at_ms: int
    ready: int
    """Chunks."""
    loading: int
    draining: int
    capacity_tokens_s: int
    """Reference tokens/s: ready chunks, each times its size."""
    input_tokens_s: float
    output_tokens_s: float
    total_tokens_s: float
    """Input + output."""
    reference_tokens_s: float
    """Served."""
    offered_reference_tokens_s: float
    queued: int
    in_flight: int


RATES = (
    "input_tokens_s",
    "output_tokens_s",
    "total_tokens_s",
    "reference_tokens_s",
    "offered_reference_tokens_s",
)


class Chunks(NamedTuple):
    """Replicas by what they do now."""

    ready: int
    loading: int
    draining: int


class Series:
    """A ring of points for each endpoint and each served entity, by its id."""

    def __init__(self, kept: int = KEPT_SECONDS) -> None:
        self._kept = kept
        self._points: dict[str, deque[Point]] = {}
        self._before: dict[str, tuple[int, Totals]] = {}

    def add(
        self, of: str, at_ms: int, chunks: Chunks, totals: Totals, *, capacity: int, queued: int, in_flight: int
    ) -> None:
        """Note a moment. ``totals`` only needs to be consistent with the call before."""
        then_ms, before = self._before.get(of, (at_ms - 1000, totals))
        seconds = max(at_ms - then_ms, 1) / 1000
        inputs = (totals.input_tokens - before.input_tokens) / seconds
        outputs = (totals.output_tokens - before.output_tokens) / seconds
        self._before[of] = (at_ms, _copy(totals))
        self._points.setdefault(of, deque(maxlen=self._kept)).append(
            Point(
                at_ms=at_ms,
                ready=chunks.ready,
                loading=chunks.loading,
                draining=chunks.draining,
                capacity_tokens_s=capacity,
                input_tokens_s=inputs,
                output_tokens_s=outputs,
                total_tokens_s=inputs + outputs,
                reference_tokens_s=(totals.served_work - before.served_work) / seconds,
                # Corrections at settlement may outweigh what arrived in one second.
                offered_reference_tokens_s=max((totals.offered_work - before.offered_work) / seconds, 0.0),
                queued=queued,
                in_flight=in_flight,
            )
        )

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
