"""One controller put together: the parts, and the loops that run beside the REST API."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from headrace.controller.access import Access
from headrace.controller.clock import Clock
from headrace.controller.config import ControllerConfig
from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.endpoints import Endpoints
from headrace.controller.events import EventLog
from headrace.controller.gateways import Gateways
from headrace.controller.keys import Key, Role, Tier
from headrace.controller.lifecycle import COMING, LIVING, Phase
from headrace.controller.link import Link
from headrace.controller.migrations import upgrade
from headrace.controller.offers import Offers
from headrace.controller.principals import Principal
from headrace.controller.reconcile import Fleet, Reconciler
from headrace.controller.roster import Roster
from headrace.controller.series import Chunks, Series, Sold
from headrace.controller.service_principals import ServicePrincipal
from headrace.controller.store import Store
from headrace.controller.words import counted
from headrace.decisions.writer import DecisionLog
from headrace.fleet.protocol import Child
from headrace.gateway.snapshot import Tick
from headrace.ledger.capacity import CapacityTimeline
from headrace.ledger.database import Database
from headrace.ledger.ingest import Ingest, Ingested
from headrace.models.registry import Registry
from headrace.paths import DataDir

STEP_INTERVAL_S = 1.0
"""Between two looks of the reconcile loop when nothing happens; a change wakes it at once."""
INGEST_INTERVAL_S = 1.0
SERIES_INTERVAL_S = 1.0
CREATE_TIMEOUT_S = 2.0
"""A gateway that is slow to take a new key or token harms nobody."""
REVOKE_TIMEOUT_S = 15.0
"""Longer than a gateway that was cut off counts as one that may still serve."""


class ServerFleet(Fleet, Protocol):
    """What the loop needs of a fleet, and what people ask of it."""

    async def log_tail(self, replica: str) -> str: ...


WALL_CLOCK = Clock(now=time.monotonic, now_ms=lambda: time.time_ns() // 1_000_000)

log = logging.getLogger(__name__)


class Controller:
    """Everything that the REST API speaks to. Made before the event loop serves; raises DatabaseError."""

    def __init__(
        self,
        config: ControllerConfig,
        fleet: ServerFleet,
        *,
        clock: Clock = WALL_CLOCK,
        processes: Callable[[], tuple[Child, ...]] = tuple,
    ) -> None:
        """``processes``: the supervisor's children, for the status."""
        self.config = config
        self.processes = processes
        self.data = DataDir(Path(config.data_dir))
        self.clock = clock
        self.started_ms = clock.now_ms()
        self.fleet = fleet
        self.measuring: set[str] = set()
        """Names of endpoints whose model is being measured."""
        self.database = Database(config.database_url or f"sqlite:///{self.data.database}")
        upgrade(self.database)
        self.store = Store(self.database)
        self.access = Access(self.database, clock.now_ms)
        self.keys = self.access.keys
        self.events = EventLog(self.database)
        self.timeline = CapacityTimeline(self.database)
        self.roster = Roster(self.database, self.store.entity)
        self.gateways = Gateways(clock.now())
        self.link = Link(self.gateways, self._heard, clock=clock.now)
        self.series = Series()
        self.wake = asyncio.Event()
        self.offers = Offers(
            Registry(self.data.models),
            self.data.profiles,
            fleet,
            price_micro=config.price_micro,
            currency=config.currency,
        )
        self.endpoints = Endpoints(
            store=self.store,
            offers=self.offers,
            events=self.events,
            timeline=self.timeline,
            now_ms=clock.now_ms,
            changed=self.wake.set,
        )
        self.decisions: DecisionLog | None = None
        """The decision log, where one is kept."""
        if config.record_decisions is not None:
            self.decisions = DecisionLog(Path(config.record_decisions), now=clock.now, now_ms=clock.now_ms)
        self.reconciler = Reconciler(
            database=self.database,
            store=self.store,
            roster=self.roster,
            access=self.access,
            events=self.events,
            timeline=self.timeline,
            gateways=self.gateways,
            fleet=fleet,
            link=self.link,
            clock=clock,
            scaling=config.scaling,
            decisions=self.decisions,
            profiles=self.data.profiles,
        )
        self._ingest = Ingest(self.database, self.data.journal, self.store.weights)
        self._ingesting = asyncio.Lock()
        self._loops: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take the first look, then keep looking."""
        if self.keys.ensure_admin(self.data.admin_key, self.clock.now_ms()):
            log.info("admin key written", extra={"fields": {"file": str(self.data.admin_key)}})
        found = {replica.id for replica in self.roster.all() if replica.phase in LIVING}
        await self.reconciler.step()
        adopted = sum(replica.id in found and replica.phase in LIVING for replica in self.roster.all())
        took_over = f", and adopted {counted(adopted, 'replica')} that ran" if adopted else ""
        self.events.add(
            self.clock.now_ms(), "controller_started", f"the controller started{took_over}", data={"adopted": adopted}
        )
        await self.link.start(self.data.socket("link"))
        self._loops = [
            asyncio.create_task(self._every(STEP_INTERVAL_S, self.reconciler.step, self.wake)),
            asyncio.create_task(self._every(INGEST_INTERVAL_S, self.ingest)),
            asyncio.create_task(self._every(SERIES_INTERVAL_S, self._add_points)),
        ]

    async def close(self) -> None:
        """Stop looking; what runs keeps running."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self.link.close()
        await self.reconciler.close()
        if self.decisions is not None:
            self.decisions.close()
        self.database.close()

    async def ingest(self) -> Ingested:
        """Bring the ledger up to what the journals hold now."""
        async with self._ingesting:
            return await asyncio.to_thread(self._ingest.run, self.clock.now_ms())

    async def create_key(
        self, *, role: Role, tiers: tuple[Tier, ...], weight: float, name: str, owner: Principal | None = None
    ) -> tuple[Key, str]:
        """A key and its text; when this returns, every connected gateway takes it, or was given time to."""
        now_ms = self.clock.now_ms()
        key, text = self.keys.create(role=role, tiers=tiers, weight=weight, name=name, now_ms=now_ms, owner=owner)
        await self.tell(CREATE_TIMEOUT_S)
        return key, text

    async def revoke(self, key_id: str) -> tuple[Key, list[str]]:
        """Revoke a key; the gateways that have not acknowledged that in time. Raises KeyError for an unknown id."""
        key = self.keys.revoke(key_id, self.clock.now_ms())
        return key, await self.tell(REVOKE_TIMEOUT_S)

    async def issue_token(self, service_principal: ServicePrincipal) -> str:
        """An access token; when this returns, every connected gateway takes it, or was given time to."""
        text = self.access.service_principals.issue(service_principal.id, self.clock.now_ms())
        await self.tell(CREATE_TIMEOUT_S)
        return text

    async def delete_service_principal(self, client_id: str) -> tuple[ServicePrincipal, list[str]]:
        """With its tokens and keys; the gateways that have not acknowledged that in time. Raises KeyError."""
        now_ms = self.clock.now_ms()
        for key in self.keys.valid():
            if key.owner == Principal("service_principal", client_id):
                self.keys.revoke(key.id, now_ms)
        deleted = self.access.service_principals.delete(client_id, now_ms)
        return deleted, await self.tell(REVOKE_TIMEOUT_S)

    async def tell(self, timeout_s: float) -> list[str]:
        """Publish what the store holds now; the gateways that have not acknowledged it in time."""
        version = await self.reconciler.publish()
        await self.link.acknowledged(version, timeout_s)
        return self.gateways.behind(version, self.clock.now())

    def chunks(self, endpoint: Endpoint, entity: Entity | None = None) -> Chunks:
        """What the replicas of a served entity do now, or all of the endpoint."""
        replicas = self.roster.of(endpoint.id)
        phases = [replica.phase for replica in replicas if entity is None or replica.entity_id == entity.id]
        return Chunks(
            ready=phases.count(Phase.READY),
            loading=sum(phase in COMING for phase in phases),
            draining=phases.count(Phase.DRAINING),
        )

    def _heard(self, tick: Tick) -> None:
        if self.reconciler.heard(tick):
            self.wake.set()

    async def _add_points(self) -> None:
        endpoints, now_ms = self.store.endpoints(), self.clock.now_ms()
        for endpoint in endpoints:
            newest, parts = self.timeline.newest(endpoint.id), []
            for entity in endpoint.current.entities:
                billed = newest[entity.id].billed_chunks if entity.id in newest else 0
                sold = Sold(entity.chunk, self.reconciler.watches.of(entity.id).wanted, billed)
                totals, gauges = self.gateways.totals(entity.id), self.gateways.gauges(entity.id)
                chunks = self.chunks(endpoint, entity)
                parts.append(self.series.add(entity.id, now_ms, totals, gauges, chunks, sold))
            totals, gauges = self.gateways.totals(endpoint.id), self.gateways.gauges(endpoint.id)
            billed = sum(point.billed_chunks for point in newest.values())
            self.series.add_sum(endpoint.id, now_ms, totals, gauges, self.chunks(endpoint), billed, parts)
        entity_ids = {entity_id for endpoint in endpoints for entity_id in endpoint.entities}
        self.series.keep(entity_ids | {endpoint.id for endpoint in endpoints})

    async def _every(
        self, interval_s: float, work: Callable[[], Awaitable[object]], wake: asyncio.Event | None = None
    ) -> None:
        """Again and again, whatever happens in between: the next time looks at everything anew."""
        wake = wake or asyncio.Event()
        while True:
            wake.clear()
            try:
                await work()
            except Exception:
                log.exception("a pass failed; it is tried again", extra={"fields": {"pass": work.__qualname__}})
            try:
                await asyncio.wait_for(wake.wait(), interval_s)
            except TimeoutError:
                continue
