"""What the scaling law looks at, gathered from what gateways report of one served entity.

The controller tells an ``Observer`` every tick of its gateways, the simulator what its endpoint core counts: both see
an entity through the same eyes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from headrace.policy.demand import Demand, Seen
from headrace.policy.scaling import Knobs, Observation, short_window, windows


class Report(Protocol):
    """Counters since a gateway's start and gauges of a moment: ``terms.Observation``, or a gateway's tick of it."""

    @property
    def arrivals(self) -> int: ...
    @property
    def offered_work(self) -> float: ...
    @property
    def queued(self) -> int: ...
    @property
    def queued_work(self) -> float: ...
    @property
    def oldest_wait_s(self) -> float: ...
    @property
    def in_flight(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bought:
    """What a served entity was bought as."""

    chunk: float
    """Reference tokens/s of one replica."""
    slots: int
    """Requests in flight per replica."""
    min_chunks: int
    max_chunks: int
    scale_to_zero: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """Its replicas, by what they do now."""

    ready: int
    pending: int
    """Asked for and not ready."""
    draining: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A ``Report`` as it is remembered."""

    arrivals: int
    offered_work: float
    queued: int
    queued_work: float
    oldest_wait_s: float
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """All that an ``Observer`` knows: one that is restored from it sees what this one would have seen."""

    since: float
    last_arrival: float | None = None
    window_s: float = 0.0
    reports: dict[str, Counted] = field(default_factory=dict)
    """By gateway life, in their order."""
    demand: Seen | None = None
    arrivals: Seen | None = None


class Observer:
    """Of one served entity. ``now`` is in seconds, monotonic, and never goes back between calls."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._reports: dict[str, Report] = {}
        """The last one of each gateway life."""
        self._demand: Demand | None = None
        """None until the first look, which says over which windows."""
        self._arrivals: Demand | None = None
        """Of requests, over the same windows."""
        self._window_s = 0.0
        self._last_arrival: float | None = None

    @classmethod
    def restored(cls, memory: Memory) -> Observer:
        observer = cls(memory.since)
        observer._reports.update(memory.reports)
        observer._demand = None if memory.demand is None else Demand.restored(memory.demand)
        observer._arrivals = None if memory.arrivals is None else Demand.restored(memory.arrivals)
        observer._window_s = memory.window_s
        observer._last_arrival = memory.last_arrival
        return observer

    def memory(self) -> Memory:
        """For ``restored``."""
        return Memory(
            since=self._since,
            last_arrival=self._last_arrival,
            window_s=self._window_s,
            reports={gateway: _counted(report) for gateway, report in self._reports.items()},
            demand=None if self._demand is None else self._demand.seen(),
            arrivals=None if self._arrivals is None else self._arrivals.seen(),
        )

    def report(self, now: float, gateway: str, report: Report) -> None:
        """A life of a gateway reports. Its first report is where its counting starts: what it counted before is history
        to an observer that has just begun."""
        before = self._reports.get(gateway, report)
        if report.arrivals > before.arrivals or report.queued:
            self._last_arrival = now
        self._reports[gateway] = report
        if self._demand is not None:
            self._demand.sample(now, gateway, report.offered_work)
        if self._arrivals is not None:
            self._arrivals.sample(now, gateway, report.arrivals)

    def observe(
        self,
        now: float,
        bought: Bought,
        chunks: Chunks,
        knobs: Knobs,
        *,
        connected: Collection[str],
        metrics_age_s: float | None,
    ) -> Observation:
        """What the law looks at now.

        ``connected``: the gateways that still report; what others had in hand counts no more. ``metrics_age_s``: since
        the last report of any gateway on anything, None where there was none.
        """
        fast_s, slow_s = windows(knobs, bought.chunk, bought.slots)
        if self._demand is None or slow_s > self._window_s:
            self._demand, self._arrivals, self._window_s = Demand(slow_s), Demand(slow_s), slow_s
        offered_slow = self._demand.rate(now, slow_s)
        requests_s = self._arrivals.rate(now, slow_s) if self._arrivals is not None else 0.0
        self._reports = {gateway: report for gateway, report in self._reports.items() if gateway in connected}
        reports = self._reports.values()
        return Observation(
            now=now,
            chunk=bought.chunk,
            slots=bought.slots,
            min_chunks=bought.min_chunks,
            max_chunks=bought.max_chunks,
            scale_to_zero=bought.scale_to_zero,
            ready=chunks.ready,
            pending=chunks.pending,
            draining=chunks.draining,
            offered_fast=self._demand.rate(now, fast_s),
            offered_slow=offered_slow,
            history_s=self._demand.history_s(now),
            backlog_work=sum(report.queued_work for report in reports),
            queued=sum(report.queued for report in reports),
            oldest_wait_s=max((report.oldest_wait_s for report in reports), default=0.0),
            in_flight=sum(report.in_flight for report in reports),
            last_arrival_age_s=now - (self._since if self._last_arrival is None else self._last_arrival),
            metrics_age_s=metrics_age_s,
            requested=self._last_arrival is not None,
            request_work=offered_slow / requests_s if requests_s > 0 else 0.0,
            offered_short=self._demand.rate(now, short_window(fast_s)),
        )


def _counted(report: Report) -> Counted:
    return Counted(
        arrivals=report.arrivals,
        offered_work=report.offered_work,
        queued=report.queued,
        queued_work=report.queued_work,
        oldest_wait_s=report.oldest_wait_s,
        in_flight=report.in_flight,
    )
