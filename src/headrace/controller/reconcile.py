"""The reconcile loop: makes what runs be what was bought. The only writer of the number of replicas.

Level-triggered: each step looks at everything (store, fleet, gateways) and does what is missing, whatever has happened
since the step before. A step that dies half-way, or a controller that restarts, is caught up by the next step.

What is awaited in a step is short (a start, a publication). Stopping takes as long as a process does: it runs beside.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

import msgspec

from headrace.config import ScalingConfig
from headrace.controller.allotment import Want, allot, rivals, takers
from headrace.controller.backoff import Backoff
from headrace.controller.endpoint import Endpoint
from headrace.controller.events import EventLog
from headrace.controller.fleets import pool_of
from headrace.controller.gateways import Gateways
from headrace.controller.keys import Keys
from headrace.controller.lifecycle import LIVING, DrainCause, Phase, Replica
from headrace.controller.provided import capacity_point
from headrace.controller.rollout import Step, chunks_wanted, of, step
from headrace.controller.roster import Roster
from headrace.controller.scaler import Scaler, knobs_of
from headrace.controller.snapshots import build
from headrace.controller.store import Store
from headrace.controller.words import counted
from headrace.engines.base import EngineError, EngineTraits, ModelSettings
from headrace.engines.catalogue import engine_for
from headrace.fleet.base import FleetError, FleetReplica
from headrace.gateway.snapshot import Snapshot, Tick
from headrace.ledger.capacity import CapacityTimeline

DRAIN_DEADLINE_S = 300.0
"""As long as a request may take at most, and a little more: then a draining replica ends with what it has."""
SILENCE_S = 30.0
"""A server that is not ours and did not answer for so long fails the update that waits for it."""
LABEL = "endpoint"
"""On every replica that this loop starts: the endpoint's id."""

log = logging.getLogger(__name__)


class Fleet(Protocol):
    """What the loop needs of ``fleet.base.Fleet``."""

    def capacity(self, model: ModelSettings) -> int: ...
    def room(self, model: ModelSettings) -> int: ...
    def replicas(self) -> tuple[FleetReplica, ...]: ...
    async def start(self, replica: str, model: ModelSettings, *, labels: Mapping[str, str] | None) -> object: ...
    async def stop(self, replica: str) -> None: ...


class Publisher(Protocol):
    """What the loop needs of ``Link``."""

    @property
    def snapshot(self) -> Snapshot | None: ...
    async def publish(self, snapshot: Snapshot) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Time for decisions (seconds, monotonic) and for records (Unix milliseconds)."""

    now: Callable[[], float]
    now_ms: Callable[[], int]


@dataclass(slots=True)
class Watch:
    """What the loop remembers of one endpoint."""

    scaler: Scaler
    backoff: Backoff = field(default_factory=Backoff)
    wanted: int = 0
    """Chunks by the last decision, within the target's range."""
    granted: int = 0
    """Of them, what the machine holds."""
    rivals: tuple[str, ...] = ()
    """Names of the endpoints that have the rest of it, where that is less than wanted."""
    reason: str = ""
    """Of the last decision."""


class Reconciler:
    """See the module. Everything but the fleet and the link is in memory and in the store."""

    def __init__(
        self,
        *,
        store: Store,
        roster: Roster,
        keys: Keys,
        events: EventLog,
        timeline: CapacityTimeline,
        gateways: Gateways,
        fleet: Fleet,
        link: Publisher,
        clock: Clock,
        scaling: ScalingConfig,
        traits_of: Callable[[ModelSettings], EngineTraits] = lambda model: engine_for(model.engine).traits(model),
    ) -> None:
        self._store = store
        self._roster = roster
        self._keys = keys
        self._events = events
        self._timeline = timeline
        self._gateways = gateways
        self._fleet = fleet
        self._link = link
        self._clock = clock
        self._scaling = scaling
        self._traits_of = traits_of
        self._watches: dict[str, Watch] = {}
        self._stops: dict[str, asyncio.Task[None]] = {}
        self._restored = False
        self._turn = asyncio.Lock()
        self._first_look = True

    def watch(self, endpoint_id: str) -> Watch:
        return self._watches.setdefault(endpoint_id, Watch(Scaler(self._clock.now())))

    def failing(self, endpoint: Endpoint) -> bool:
        """Its replicas fail again and again, or do not answer: no start that is under way can be relied on."""
        silent = any(replica.silent_ms is not None for replica in self._roster.of(endpoint.id))
        backoff = self.watch(endpoint.id).backoff
        sold = (endpoint.active or endpoint.target).entity.runs_as
        return silent or (backoff.failing and backoff.runs_as == sold)

    def heard(self, tick: Tick) -> bool:
        """A gateway reported; whether a step should follow at once: requests wait, and nothing serves them."""
        now = self._clock.now()
        urgent = False
        for counters in tick.entities:
            if self._store.get(counters.endpoint) is not None:
                self.watch(counters.endpoint).scaler.sample(tick, counters.endpoint, now)
                serving = any(r.phase is Phase.READY for r in self._roster.of(counters.endpoint))
                urgent |= counters.queued > 0 and not serving
        return urgent

    async def step(self) -> None:
        """One look at everything, and what follows from it."""
        async with self._turn:
            self._observe()
            for endpoint in self._store.endpoints():
                self._decide(endpoint)
            granted = self._allot()
            for endpoint in self._store.endpoints():
                await self._move(endpoint, granted[endpoint.id])
            self._retire_deleted()
            await self._publish()
            self._finish_drains()
            self._timeline.beat(self._clock.now_ms())

    async def publish(self) -> int:
        """Tell the gateways what the store holds now; the version that says so."""
        async with self._turn:
            return await self._publish()

    async def close(self) -> None:
        """Stop no replica: they outlive the controller."""
        for stop in self._stops.values():
            stop.cancel()
        await asyncio.gather(*self._stops.values(), return_exceptions=True)
        self._timeline.beat(self._clock.now_ms())

    # Looking

    def _observe(self) -> None:
        """Follow the fleet, in the order in which things happened: the capacity timeline takes their times."""
        now_ms = self._clock.now_ms()
        seen = {replica.id: replica for replica in self._fleet.replicas()}
        if self._first_look:
            self._lose(seen.keys(), now_ms)
        for replica in sorted(self._roster.all(), key=lambda r: _newest_ms(seen.get(r.id))):
            phase, ready_ms, silent = replica.phase, replica.ready_ms, replica.silent_ms is not None
            at_ms = replica.observe(seen.get(replica.id), now_ms)
            if at_ms is not None:
                self._roster.save(replica)
                if replica.phase is not phase:
                    served_ms = at_ms - ready_ms if ready_ms is not None else 0
                    self._tell_of(replica, at_ms, served_ms, seen.get(replica.id))
                    self._note_capacity(replica.endpoint_id, at_ms)
            elif replica.phase is Phase.READY and ready_ms is not None:
                self.watch(replica.endpoint_id).backoff.steady(replica.runs_as, now_ms - ready_ms)
            if replica.silent_ms is not None and not silent:
                message = f"replica {replica.id} failed: {replica.message}"
                self._event(replica.endpoint_id, now_ms, "replica_failed", message, {"replica": replica.id})
        for stranger in seen.values():
            if LABEL in stranger.labels and stranger.state != "exited" and not self._roster.knows(stranger.id):
                log.warning("ending a replica that nobody knows of", extra={"fields": {"replica": stranger.id}})
                self._stop(stranger.id)

    def _lose(self, seen: Collection[str], now_ms: int) -> None:
        """What ran when the controller before this one died, and does not run now, ended by its last beat."""
        self._first_look = False
        beat_ms = self._timeline.last_beat_ms() or now_ms
        for replica in self._roster.all():
            if replica.id not in seen:
                replica.lose(beat_ms)
                self._roster.save(replica)
                self._tell_of(replica, beat_ms, 0, None)
                self._note_capacity(replica.endpoint_id, beat_ms)

    def _tell_of(self, replica: Replica, at_ms: int, served_ms: int, seen: FleetReplica | None) -> None:
        """Events of a replica's life."""
        data = {"replica": replica.id, "pid": replica.pid, "cpus": list(replica.cpus)}
        match replica.phase:
            case Phase.READY:
                took = f" in {replica.load_s:.1f} s" if replica.load_s is not None else ""
                self._event(replica.endpoint_id, at_ms, "replica_ready", f"replica {replica.id} is ready{took}", data)
            case Phase.STOPPED:
                self._event(replica.endpoint_id, at_ms, "replica_stopped", f"replica {replica.id} has ended", data)
            case Phase.FAILED:
                backoff = self.watch(replica.endpoint_id).backoff
                backoff.failed(
                    at_ms,
                    replica.runs_as,
                    served_ms=served_ms,
                    message=replica.message,
                    tail=seen.tail if seen is not None else "",
                )
                data |= {"exit_code": replica.exit_code, "failures": backoff.failures, "tail": backoff.tail}
                message = f"replica {replica.id} failed: {replica.message}"
                self._event(replica.endpoint_id, at_ms, "replica_failed", message, data)

    # Deciding

    def _decide(self, endpoint: Endpoint) -> None:
        watch = self.watch(endpoint.id)
        knobs = knobs_of(self._scaling, endpoint.options.scaling)
        decision = watch.scaler.decide(endpoint, self._roster.of(endpoint.id), self._gateways, knobs, self._clock.now())
        before = decision.inputs["state"]["target"]
        watch.wanted = chunks_wanted(endpoint, decision.chunks)
        watch.reason = decision.reason
        if decision.chunks != before and not (before is None and decision.chunks == len(self._serving(endpoint))):
            data = {"from": before, "to": decision.chunks, "reason": decision.reason, "inputs": decision.inputs}
            self._event(endpoint.id, self._clock.now_ms(), "scaled", decision.reason, data)

    def _serving(self, endpoint: Endpoint) -> list[Replica]:
        return of(self._roster.of(endpoint.id), endpoint.active or endpoint.target)

    def _allot(self) -> dict[str, int]:
        wants = []
        for endpoint in self._store.endpoints():
            entity = endpoint.target.entity
            capacity = self._fleet.capacity(entity.model)
            wants.append(
                Want(
                    endpoint=endpoint.id,
                    pool=pool_of(entity.model),
                    # Where not even one fits, two shares of a whole never do.
                    share=Fraction(1, capacity) if capacity else Fraction(2),
                    minimum=entity.min_chunks,
                    wanted=self.watch(endpoint.id).wanted,
                    running=len(of(self._roster.of(endpoint.id), endpoint.target)),
                )
            )
        granted = allot(wants)
        names = {endpoint.id: endpoint.name for endpoint in self._store.endpoints()}
        short = rivals(wants, granted)
        for want in wants:
            self.watch(want.endpoint).rivals = tuple(names[rival] for rival in short.get(want.endpoint, ()))
        for loser, others in takers(wants, granted).items():
            needs = [f"endpoint {names[w.endpoint]} needs its minimum of {counted(w.minimum, 'chunk')}" for w in others]
            why = " and ".join(needs) or "the machine has become smaller"
            data = {"granted": granted[loser], "wanted": self.watch(loser).wanted, "to": [w.endpoint for w in others]}
            message = f"down to {counted(granted[loser], 'chunk')}, though it should have {data['wanted']}: {why}"
            self._event(loser, self._clock.now_ms(), "place_taken", message, data)
        return granted

    # Doing

    async def _move(self, endpoint: Endpoint, granted: int) -> None:
        watch = self.watch(endpoint.id)
        watch.granted = granted
        replicas = self._roster.of(endpoint.id)
        todo = step(
            endpoint,
            replicas,
            granted,
            self._fleet.room(endpoint.target.entity.model),
            may_start=watch.backoff.may_start(self._clock.now_ms()),
            in_flight=self._gateways.in_flight,
        )
        self._update(endpoint, todo, self._why_failed(endpoint))
        for replica, cause in todo.drain:
            self._drain(replica, cause)
        for replica in todo.revive:
            replica.revive()
            self._roster.save(replica)
        for _ in range(todo.start):
            await self._start(endpoint, todo)
        self._note_capacity(endpoint.id, self._clock.now_ms())

    def _why_failed(self, endpoint: Endpoint) -> str:
        """Why an update that waits for the endpoint's replicas has failed; empty while it may succeed."""
        backoff = self.watch(endpoint.id).backoff
        config = endpoint.target
        # What failed before this config was asked for says nothing of it: the cause may have been put right since.
        if backoff.failing and backoff.runs_as == config.entity.runs_as and backoff.at_ms >= config.created_ms:
            return f"{counted(backoff.failures, 'replica')} in a row failed; the last: {backoff.message}"
        for replica in of(self._roster.of(endpoint.id), config):
            if replica.silent_ms is not None and self._clock.now_ms() - replica.silent_ms >= SILENCE_S * 1000:
                return f"replica {replica.id} was not ready for {SILENCE_S:.0f} s: {replica.message}"
        return ""

    def _update(self, endpoint: Endpoint, todo: Step, why_failed: str) -> None:
        """Take the update of a config further."""
        now_ms = self._clock.now_ms()
        data = {"config_version": todo.config.version}
        if todo.activate:
            self._store.activate(endpoint.id, now_ms)
            how = "is active" if todo.conclude else "is active before it can serve, as both do not fit the machine"
            self._event(endpoint.id, now_ms, "config_active", f"config version {todo.config.version} {how}", data)
        if todo.conclude or (todo.activate and endpoint.update == "UPDATE_FAILED"):
            self._store.conclude(endpoint.id, "NOT_UPDATING", "")
        elif why_failed and endpoint.update == "IN_PROGRESS" and endpoint.pending and not todo.activate:
            self._store.conclude(endpoint.id, "UPDATE_FAILED", why_failed, drop_pending=endpoint.active is not None)
            kept = f"; config version {endpoint.active.version} stays" if endpoint.active else "; it is tried again"
            tail = self.watch(endpoint.id).backoff.tail
            self._event(endpoint.id, now_ms, "config_failed", f"{why_failed}{kept}", data | {"tail": tail})

    async def _start(self, endpoint: Endpoint, todo: Step) -> None:
        replica = self._roster.new(endpoint, todo.config, self._clock.now_ms())
        try:
            await self._fleet.start(replica.id, replica.model, labels={LABEL: endpoint.id})
        except (FleetError, EngineError) as error:
            replica.phase, replica.message = Phase.FAILED, str(error)
            self._roster.save(replica)
            self._tell_of(replica, self._clock.now_ms(), 0, None)

    def _drain(self, replica: Replica, cause: DrainCause) -> None:
        replica.drain(cause, self._clock.now_ms())
        self._roster.save(replica)

    def _retire_deleted(self) -> None:
        """Replicas of endpoints that are no more."""
        for replica in self._roster.all():
            if self._store.get(replica.endpoint_id) is None and replica.phase in LIVING - {Phase.DRAINING}:
                self._drain(replica, "deleted")
        for endpoint_id in [known for known in self._watches if self._store.get(known) is None]:
            if not self._roster.of(endpoint_id):
                del self._watches[endpoint_id]

    def _finish_drains(self) -> None:
        """End those that nobody uses any more: every gateway knows of the drain and has nothing left on them."""
        snapshot = self._link.snapshot
        assert snapshot is not None
        for replica in self._roster.all():
            if replica.phase is not Phase.DRAINING or replica.id in self._stops:
                continue
            if replica.drain_version is None:
                replica.drain_version = snapshot.version
            idle = self._gateways.idle(replica.id, replica.drain_version, self._clock.now())
            drained_for_s = (self._clock.now_ms() - (replica.draining_ms or 0)) / 1000
            if replica.stopping or idle or drained_for_s > DRAIN_DEADLINE_S:
                replica.stopping = True
                self._stop(replica.id)

    def _stop(self, replica_id: str) -> None:
        if replica_id not in self._stops:
            self._stops[replica_id] = asyncio.create_task(self._end(replica_id))

    async def _end(self, replica_id: str) -> None:
        try:
            await self._fleet.stop(replica_id)
        except FleetError as error:
            log.warning("cannot end a replica", extra={"fields": {"replica": replica_id, "why": str(error)}})
        finally:
            del self._stops[replica_id]

    # Telling

    async def _publish(self) -> int:
        before = self._link.snapshot
        self._restored = self._restored or all(map(self._has_settled, self._store.endpoints()))
        snapshot = build(
            self._store.endpoints(),
            self._roster.all(),
            self._keys.valid(),
            self._traits_of,
            failing={endpoint.id for endpoint in self._store.endpoints() if self.failing(endpoint)},
            version=before.version if before else 0,
            restored=self._restored,
        )
        if snapshot != before:
            snapshot = msgspec.structs.replace(snapshot, version=self._store.count("snapshot"))
            await self._link.publish(snapshot)
        return snapshot.version

    def _has_settled(self, endpoint: Endpoint) -> bool:
        """Its minimum is ready, or it fails."""
        if endpoint.update == "UPDATE_FAILED" or self.failing(endpoint):
            return True
        ready = sum(r.phase is Phase.READY for r in self._serving(endpoint))
        return endpoint.active is not None and ready >= endpoint.active.entity.min_chunks

    def _note_capacity(self, endpoint_id: str, at_ms: int) -> None:
        endpoint = self._store.get(endpoint_id)
        if endpoint is not None:
            self._timeline.note(endpoint_id, capacity_point(endpoint, self._roster.of(endpoint_id), at_ms))

    def _event(self, endpoint_id: str, at_ms: int, kind: str, message: str, data: Mapping[str, object]) -> None:
        endpoint = self._store.get(endpoint_id)
        name = endpoint.name if endpoint else self._store.names().get(endpoint_id, "")
        self._events.add(at_ms, kind, message, endpoint=(endpoint_id, name), data=dict(data))
        log.info(message, extra={"fields": {"endpoint": name, "event": kind}})


def _newest_ms(seen: FleetReplica | None) -> int:
    """When the fleet's last news of a replica happened; 0 where it has none."""
    return 0 if seen is None else seen.exited_ms or seen.ready_ms or seen.started_ms
