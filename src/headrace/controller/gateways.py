"""What the gateways say: which snapshot each decides by, and what they count, added up over all of them.

Synchronous and without a clock of its own; ``link`` feeds it from sockets. ``now`` is in seconds, monotonic.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from headrace.controller.answers import Answers
from headrace.gateway.snapshot import Ack, AnswersTick, EntityTick, Hello, JournalTick, ReplicaTick, Tick

RECONNECT_GRACE_S = 5.0
"""A gateway that was cut off for less than this may still be serving: it counts as one that has not acknowledged. One
that lives connects again much sooner."""


@dataclass(slots=True)
class Totals:
    """Over all gateways since the controller's start. Fields as in ``EntityTick``."""

    arrivals: int = 0
    offered_work: float = 0.0
    dispatched: int = 0
    dispatched_work: float = 0.0
    served_work: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    completed: int = 0
    rejected: int = 0
    rejected_work: float = 0.0
    abandoned: int = 0
    failed: int = 0

    def add(self, tick: EntityTick, before: EntityTick | None) -> None:
        """What one gateway counted since its tick ``before``; since its start where None."""
        for counter in _COUNTERS:
            grown = getattr(tick, counter) - (getattr(before, counter) if before else 0)
            if grown:
                setattr(self, counter, getattr(self, counter) + grown)


_COUNTERS = tuple(counter.name for counter in fields(Totals))


@dataclass(frozen=True, slots=True)
class Gauges:
    """At this moment, over all connected gateways."""

    queued: int = 0
    queued_work: float = 0.0
    oldest_wait_s: float = 0.0
    in_flight: int = 0
    in_flight_work: float = 0.0
    limiter_debt: float = 0.0


@dataclass(slots=True)
class _Gateway:
    id: str
    pid: int
    connected: bool = True
    cut_off_at: float = 0.0
    version: int = 0
    """Acknowledged."""
    tick: Tick | None = None
    entities: dict[str, EntityTick] = field(default_factory=dict)
    """The last tick of each, by id."""
    counted: dict[str, list[EntityTick]] = field(default_factory=dict)
    """Those of the last tick, by id of the endpoint and of the served entity."""
    replicas: dict[str, ReplicaTick] = field(default_factory=dict)
    """Those of the last tick, by id."""
    answers: dict[str, AnswersTick] = field(default_factory=dict)
    """The last that it told of the requests that have ended, by id of the served entity."""

    def in_flight(self, replica: str) -> int:
        tick = self.replicas.get(replica)
        return 0 if tick is None else tick.in_flight


class Gateways:
    """All gateways that were connected since the controller's start."""

    def __init__(self, began: float = float("-inf")) -> None:
        """``began``: when this controller did. Gateways that served before it connect within the grace."""
        self._began = began
        self._gateways: dict[str, _Gateway] = {}
        self._totals: dict[str, Totals] = {}
        """By id of endpoint and of served entity."""
        self._last_arrival: dict[str, float] = {}
        """By served entity."""
        self._last_tick: float | None = None
        self.answers = Answers()

    # Telling

    def hello(self, hello: Hello) -> None:
        known = self._gateways.get(hello.gateway)
        if known is None:
            self._gateways[hello.gateway] = _Gateway(hello.gateway, hello.pid)
        else:
            known.connected, known.version, known.tick = True, 0, None

    def gone(self, gateway: str, now: float) -> None:
        """Its connection is lost."""
        known = self._gateways[gateway]
        known.connected, known.cut_off_at = False, now

    def ack(self, gateway: str, ack: Ack) -> None:
        self._gateways[gateway].version = max(self._gateways[gateway].version, ack.version)

    def tick(self, gateway: str, tick: Tick, now: float) -> None:
        known = self._gateways[gateway]
        # The first tick of a gateway carries what it counted before this controller knew it: that is history, not
        # demand. An entity that appears later was counted from zero.
        first = not known.entities and known.tick is None
        known.counted, known.replicas = {}, {replica.id: replica for replica in tick.replicas}
        for entity in tick.entities:
            before = known.entities.get(entity.entity, entity if first else None)
            for counted in (entity.endpoint, entity.entity):
                known.counted.setdefault(counted, []).append(entity)
                if entity != before:
                    self._totals.setdefault(counted, Totals()).add(entity, before)
            if entity.arrivals > (before.arrivals if before else 0) or entity.queued:
                self._last_arrival[entity.entity] = now
            known.entities[entity.entity] = entity
        for answers in tick.answers:
            self.answers.add(answers, known.answers.get(answers.entity, answers if first else None), now)
            known.answers[answers.entity] = answers
        known.tick = tick
        self._last_tick = now

    # Asking

    def connected(self) -> list[str]:
        return [gateway.id for gateway in self._gateways.values() if gateway.connected]

    def acknowledged(self, version: int, now: float) -> bool:
        """Every gateway that serves, or may be serving, decides by this snapshot or a newer one."""
        return all(gateway.version >= version for gateway in self._serving(now))

    def behind(self, version: int, now: float) -> list[str]:
        """Gateways that have not acknowledged it."""
        return [gateway.id for gateway in self._serving(now) if gateway.version < version]

    def idle(self, replica: str, version: int, now: float) -> bool:
        """No gateway has a request on the replica, and none will send another: its tick is of this snapshot."""
        if now - self._began < RECONNECT_GRACE_S:
            return False
        for gateway in self._serving(now):
            if not gateway.connected or gateway.tick is None or gateway.tick.version < version:
                return False
            if gateway.in_flight(replica):
                return False
        return True

    def in_flight(self, replica: str) -> int:
        """Requests on a replica."""
        return sum(gateway.in_flight(replica) for gateway in self._reporting())

    def outstanding_work(self, replica: str) -> float:
        """Reference tokens dispatched to a replica and not settled."""
        ticks = [gateway.replicas[replica] for gateway in self._reporting() if replica in gateway.replicas]
        return sum(tick.outstanding_work for tick in ticks)

    def totals(self, of: str) -> Totals:
        """Of an endpoint with all that it ever served, or of one served entity, by its id."""
        return self._totals.get(of, Totals())

    def gauges(self, of: str) -> Gauges:
        """Of an endpoint or of one served entity, by its id."""
        ticks = [tick for gateway in self._reporting() for tick in gateway.counted.get(of, ())]
        return Gauges(
            queued=sum(tick.queued for tick in ticks),
            queued_work=sum(tick.queued_work for tick in ticks),
            oldest_wait_s=max((tick.oldest_wait_s for tick in ticks), default=0.0),
            in_flight=sum(tick.in_flight for tick in ticks),
            in_flight_work=sum(tick.in_flight_work for tick in ticks),
            limiter_debt=sum(tick.limiter_debt for tick in ticks),
        )

    def journals(self) -> list[JournalTick]:
        """Of all connected gateways."""
        return [gateway.tick.journal for gateway in self._reporting() if gateway.tick is not None]

    def last_arrival_age_s(self, entity: str, now: float) -> float | None:
        """Since a request arrived or waited; None where there was none in this controller's life."""
        at = self._last_arrival.get(entity)
        return None if at is None else now - at

    def metrics_age_s(self, now: float) -> float | None:
        """Since the newest tick; None before the first."""
        return None if self._last_tick is None else now - self._last_tick

    def _serving(self, now: float) -> list[_Gateway]:
        return [g for g in self._gateways.values() if g.connected or now - g.cut_off_at < RECONNECT_GRACE_S]

    def _reporting(self) -> list[_Gateway]:
        return [gateway for gateway in self._gateways.values() if gateway.connected and gateway.tick is not None]
