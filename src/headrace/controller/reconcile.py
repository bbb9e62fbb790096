"""The reconcile loop: makes what runs be what was bought. The only writer of the number of replicas.

Level-triggered: each step looks at everything (store, fleet, gateways) and does what is missing, whatever has happened
since the step before. A step that dies half-way, or a controller that restarts, is caught up by the next step.

What is awaited in a step is short (a start, a publication). Stopping takes as long as a process does: it runs beside.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from headrace.config import ScalingConfig
from headrace.controller.access import Access
from headrace.controller.clock import Clock
from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.events import EventLog
from headrace.controller.failures import Failures
from headrace.controller.following import Following
from headrace.controller.gateways import Gateways
from headrace.controller.lifecycle import LIVING, DrainCause, Phase, Replica
from headrace.controller.offers import Capacity
from headrace.controller.rollout import Advance, advance, restarts, starts, step
from headrace.controller.roster import Roster
from headrace.controller.sizing import Sizing
from headrace.controller.snapshots import Views
from headrace.controller.store import Store
from headrace.controller.telling import Telling
from headrace.controller.watches import Watches
from headrace.controller.words import with_log
from headrace.decisions.writer import DecisionLog
from headrace.engines.base import EngineError, EngineTraits, ModelSettings
from headrace.engines.catalogue import engine_for
from headrace.fleet.base import FleetError, FleetReplica
from headrace.gateway.snapshot import Snapshot, Tick
from headrace.ledger.capacity import CapacityTimeline
from headrace.ledger.database import Database

DRAIN_DEADLINE_S = 300.0
"""As long as a request may take at most, and a little more: then a draining replica ends with what it has."""
LABEL = "endpoint"
"""On every replica that this loop starts: the endpoint's id."""

log = logging.getLogger(__name__)


class Fleet(Capacity, Protocol):
    """What the loop needs of ``fleet.base.Fleet``."""

    def room(self, model: ModelSettings) -> int: ...
    def replicas(self) -> tuple[FleetReplica, ...]: ...
    async def start(self, replica: str, model: ModelSettings, *, labels: Mapping[str, str] | None) -> object: ...
    async def stop(self, replica: str) -> None: ...


class Publisher(Protocol):
    """What the loop needs of ``Link``."""

    @property
    def snapshot(self) -> Snapshot | None: ...
    async def publish(self, snapshot: Snapshot) -> None: ...


class Reconciler:
    """See the module. Everything but the fleet and the link is in memory and in the store."""

    def __init__(
        self,
        *,
        database: Database,
        store: Store,
        roster: Roster,
        access: Access,
        events: EventLog,
        timeline: CapacityTimeline,
        gateways: Gateways,
        fleet: Fleet,
        link: Publisher,
        clock: Clock,
        scaling: ScalingConfig,
        traits_of: Callable[[ModelSettings], EngineTraits] = lambda model: engine_for(model.engine).traits(model),
        decisions: DecisionLog | None = None,
        profiles: Path | None = None,
    ) -> None:
        """``profiles``: where the times of starts are kept, beside the profiles; None: they are not."""
        self._database = database
        self._store = store
        self._roster = roster
        self._timeline = timeline
        self._gateways = gateways
        self._fleet = fleet
        self._link = link
        self._clock = clock
        self._views = Views(access, traits_of)
        self._tell = Telling(store=store, roster=roster, events=events, timeline=timeline)
        self.watches = Watches(roster, Failures(database), clock.now, decisions)
        self._sizing = Sizing(
            roster=roster,
            gateways=gateways,
            fleet=fleet,
            watches=self.watches,
            telling=self._tell,
            clock=clock,
            scaling=scaling,
        )
        self._following = Following(
            roster=roster,
            timeline=timeline,
            watches=self.watches,
            telling=self._tell,
            clock=clock,
            profiles=profiles,
        )
        self._stops: dict[str, asyncio.Task[None]] = {}
        self._restored = False
        self._turn = asyncio.Lock()
        self._torn = False
        """A step broke off, as on a full disk: what is in memory may not be what is in the store."""

    def heard(self, tick: Tick) -> bool:
        """A gateway reported; whether a step should follow at once: requests wait, and nothing serves them."""
        now = self._clock.now()
        urgent = False
        for counters in tick.entities:
            endpoint = self._store.get(counters.endpoint)
            entity = endpoint.entities.get(counters.entity) if endpoint is not None else None
            if entity is not None:
                self.watches.of(entity.id).scaler.sample(tick.gateway, counters, now)
                replicas = self._roster.of(counters.endpoint)
                serving = any(r.phase is Phase.READY and r.entity_id == entity.id for r in replicas)
                urgent |= counters.queued > 0 and not serving
        return urgent

    async def step(self) -> None:
        """One look at everything, and what follows from it."""
        async with self._turn:
            if self._torn:
                self._roster.reload()
                self._timeline.reload()
                self.watches.reload()
            self._torn = True
            with self._database.together():
                self._look()
            for endpoint in self._store.endpoints():
                await self._move(endpoint)
            with self._database.together():
                self._retire_deleted()
                self._timeline.beat(self._clock.now_ms())
            await self._publish()
            self._finish_drains()
            self._torn = False

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

    def _look(self) -> None:
        """At what runs, and at what is asked of it."""
        seen = {replica.id: replica for replica in self._fleet.replicas()}
        self._following.look(seen)
        self.watches.save()
        for stranger in seen.values():
            if LABEL in stranger.labels and stranger.state != "exited" and not self._roster.knows(stranger.id):
                log.warning("ending a replica that nobody knows of", extra={"fields": {"replica": stranger.id}})
                self._stop(stranger.id)
        self._sizing.decide(self._store.endpoints())

    # Doing

    async def _move(self, endpoint: Endpoint) -> None:
        if self._store.get(endpoint.id) is not endpoint:
            return  # changed during a start of this step: the next one looks at it anew
        replicas, now_ms = self._roster.of(endpoint.id), self._clock.now_ms()
        steps = []
        for entity in endpoint.target.entities:
            watch = self.watches.of(entity.id)
            may_start = watch.backoff.may_start(now_ms)
            todo = step(entity, replicas, watch.granted, may_start=may_start, in_flight=self._gateways.in_flight)
            self._drain(todo.drain, "scale_down")
            for replica in todo.revive:
                replica.revive()
                self._roster.save(replica)
            steps.append(todo)
        await self._start_all(endpoint, starts(steps))
        if self._store.get(endpoint.id) is not endpoint:
            return
        await self._start_all(endpoint, restarts(endpoint, self._roster.of(endpoint.id), steps))
        if self._store.get(endpoint.id) is not endpoint:
            return
        on = advance(endpoint, self._roster.of(endpoint.id), steps, self._fleet, self._gateways.in_flight)
        self._update(endpoint, on)
        self._drain(on.replaced, "replaced")
        self._tell.capacity(endpoint.id, self._clock.now_ms())

    async def _start_all(self, endpoint: Endpoint, entities: Iterable[Entity]) -> None:
        for entity in entities:
            may_start = self.watches.of(entity.id).backoff.may_start(self._clock.now_ms())
            if may_start and self._fleet.room(entity.model) > 0:
                await self._start(endpoint, entity)

    def _update(self, endpoint: Endpoint, on: Advance) -> None:
        """Take the update of a config further."""
        now_ms, config = self._clock.now_ms(), endpoint.target
        if on.activate:
            self._sizing.hand_over(endpoint)
            self._store.activate(endpoint.id, now_ms)
            self._tell.activated(endpoint, config, on, now_ms)
        if on.conclude or (on.activate and endpoint.update == "UPDATE_FAILED"):
            self._store.conclude(endpoint.id, "NOT_UPDATING", "")
        elif endpoint.update == "IN_PROGRESS" and not on.activate:
            why, tail = self.watches.why_failed(endpoint, now_ms), self._tail(endpoint)
            if why:
                stays = endpoint.pending is not None and endpoint.active is not None
                self._store.conclude(endpoint.id, "UPDATE_FAILED", with_log(why, tail), drop_pending=stays)
                self._tell.update_failed(endpoint, why, tail, now_ms)

    def _tail(self, endpoint: Endpoint) -> str:
        """Last words of the replica that failed last."""
        backoffs = [self.watches.of(entity.id).backoff for entity in endpoint.target.entities]
        return max(backoffs, key=lambda backoff: backoff.at_ms).tail

    async def _start(self, endpoint: Endpoint, entity: Entity) -> None:
        replica = self._roster.new(endpoint, entity, self._clock.now_ms())
        try:
            await self._fleet.start(replica.id, replica.model, labels={LABEL: endpoint.id})
        except (FleetError, EngineError) as error:
            now_ms, backoff = self._clock.now_ms(), self.watches.of(entity.id).backoff
            replica.phase, replica.message = Phase.FAILED, str(error)
            backoff.failed(now_ms, replica.runs_as, started_ms=now_ms, served_ms=0, message=replica.message, tail="")
            with self._database.together():
                self._roster.save(replica)
                self.watches.save()
                self._tell.replica(replica, now_ms, backoff)

    def _drain(self, replicas: Sequence[Replica], cause: DrainCause) -> None:
        for replica in replicas:
            replica.drain(cause, self._clock.now_ms())
            self._roster.save(replica)

    def _retire_deleted(self) -> None:
        """Replicas of endpoints that are no more, and the memory of entities that are no more."""
        for replica in self._roster.all():
            if self._store.get(replica.endpoint_id) is None and replica.phase in LIVING - {Phase.DRAINING}:
                self._drain([replica], "deleted")
        endpoints = self._store.endpoints()
        alive = {entity_id for endpoint in endpoints for entity_id in endpoint.entities}
        self._roster.keep({endpoint.id for endpoint in endpoints})
        self.watches.keep(alive | {replica.entity_id for replica in self._roster.all()})

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
        endpoints = self._store.endpoints()
        self._restored = self._restored or all(map(self.watches.settled, endpoints))
        entities = [(endpoint, entity) for endpoint in endpoints for entity in endpoint.current.entities]
        snapshot = self._views.snapshot(
            endpoints,
            self._roster.all(),
            failing=frozenset(entity.id for endpoint, entity in entities if self.watches.failing(endpoint, entity)),
            shut_out=frozenset(entity.id for _, entity in entities if self.watches.of(entity.id).shut_out),
            version=before.version if before else 0,
            restored=self._restored,
        )
        if snapshot != before:
            snapshot = msgspec.structs.replace(snapshot, version=self._store.count("snapshot"))
            await self._link.publish(snapshot)
        return snapshot.version
