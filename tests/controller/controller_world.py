"""A controller without processes: on a toy fleet, with toy gateways, and a clock that the test turns."""

from __future__ import annotations

import asyncio
from math import ceil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from controller_fleet import T0_MS, ToyFleet, TurnedClock
from sqlalchemy import text

from database_url import database_url
from headrace.controller.asked import AskedConfig, AskedEntity, AskedRoute
from headrace.controller.clock import Clock
from headrace.controller.config import ControllerConfig
from headrace.controller.controller import Controller
from headrace.controller.endpoint import Endpoint, Entity, Options
from headrace.controller.gateways import RECONNECT_GRACE_S
from headrace.engines.base import ModelSettings
from headrace.gateway.snapshot import Ack, EntityTick, Hello, ReplicaTick, Snapshot, Tick
from headrace.models.registry import Registry
from headrace.paths import DataDir
from headrace.policy.work import RAW_TOKENS
from headrace.profiles.files import path_of, save
from headrace.profiles.profile import Profile

CHUNK = 1000
"""A reference request takes 2.3 s, so demand is seen within the shortest window, 10 s."""
REQUEST_WORK = 50
"""Reference tokens of one request that is offered: little beside a chunk, so that chance brings little."""
NULL = {"null": True}
"""The simulated engine's mode without timing."""


class ToyGateway:
    """One gateway: it acknowledges what it is told to, and reports what a test wants it to have counted."""

    def __init__(self, world: World, name: str = "g1") -> None:
        self.world = world
        self.name = name
        self.counters: dict[str, EntityTick] = {}
        self.on_replica: dict[str, int] = {}
        self.version = 0
        world.controller.gateways.hello(Hello(gateway=name, pid=1))

    def ack(self) -> None:
        self.version = self.world.snapshot.version
        self.world.controller.gateways.ack(self.name, Ack(version=self.version))

    def offer(self, endpoint: Endpoint, entity: Entity | None = None, *, work: float = 0.0, **gauges: Any) -> None:
        """Count more offered work, and set gauges: of a served entity, by default the first one."""
        entity_id = (entity or endpoint.current.entities[0]).id
        before = self.counters.get(entity_id) or empty_tick(endpoint.id, entity_id)
        arrivals = before.arrivals + ceil(work / REQUEST_WORK)
        self.counters[entity_id] = msgspec.structs.replace(
            before, arrivals=arrivals, offered_work=before.offered_work + work, **gauges
        )

    def report(self) -> bool:
        tick = Tick(
            gateway=self.name,
            at_ms=self.world.clock.ms,
            version=self.version,
            entities=tuple(self.counters.values()),
            replicas=tuple(ReplicaTick(name, count, 0.0, 0, 0) for name, count in self.on_replica.items()),
        )
        controller = self.world.controller
        controller.gateways.tick(self.name, tick, self.world.clock.now())
        return controller.reconciler.heard(tick)


def empty_tick(endpoint_id: str, entity_id: str) -> EntityTick:
    zeros = {name: 0 for name in EntityTick.__struct_fields__ if name not in ("endpoint", "entity")}
    return msgspec.convert({"endpoint": endpoint_id, "entity": entity_id, **zeros}, EntityTick)


class World:
    """A controller, with the ways to bring about what happens to one."""

    def __init__(self, folder: Path, *, places: int = 4, ms: int = T0_MS) -> None:
        self.data = DataDir(folder)
        self.data.create()
        self.clock = TurnedClock(ms)
        self.fleet = ToyFleet(self.clock, places)
        self.config = ControllerConfig(data_dir=str(folder), price_micro=3_600_000, database_url=database_url(folder))
        self.controller = self._controller()
        # No gateway serves from before, so there is none to wait for.
        self.clock.ms += int(RECONNECT_GRACE_S * 1000)

    def _controller(self) -> Controller:
        return Controller(self.config, self.fleet, clock=Clock(now=self.clock.now, now_ms=self.clock.now_ms))

    def restart(self) -> None:
        """The controller dies without a word; the fleet lives."""
        self.controller.database.close()
        self.controller = self._controller()

    @property
    def snapshot(self) -> Snapshot:
        assert self.controller.link.snapshot is not None
        return self.controller.link.snapshot

    def model(
        self,
        name: str = "toy",
        *,
        version: str = "1",
        chunk: int = CHUNK,
        threads: int = 1,
        status: str = "measured",
    ) -> str:
        settings = Registry(self.data.models).add(
            name, version=version, simulated=True, threads=threads, replace=True, engine_args=NULL
        )
        save(path_of(settings, self.data.profiles), profile_of(settings, chunk, status))
        return name

    def create(
        self,
        name: str,
        low: int,
        high: int,
        *,
        model: str = "toy",
        scale_to_zero: bool | None = None,
        options: Options | None = None,
    ) -> Endpoint:
        """An endpoint of ``low`` to ``high`` chunks."""
        asked = entity(None, low, high, model=model, scale_to_zero=scale_to_zero)
        config = AskedConfig(entities=(asked,))
        return self.controller.endpoints.create(name, config, creator="test", options=options or Options())

    def update(self, name: str, low: int, high: int, *, model: str = "toy") -> Endpoint:
        return self.controller.endpoints.update(name, AskedConfig(entities=(entity(None, low, high, model=model),)))

    def create_several(self, name: str, *entities: tuple[AskedEntity, int], options: Options | None = None) -> Endpoint:
        """An endpoint of several served entities, each with its percentage of the traffic."""
        asked = config(*entities)
        return self.controller.endpoints.create(name, asked, creator="test", options=options or Options())

    def update_several(self, name: str, *entities: tuple[AskedEntity, int]) -> Endpoint:
        return self.controller.endpoints.update(name, config(*entities))

    def get(self, name: str) -> Endpoint:
        return self.controller.endpoints.get(name)

    async def served(self, name: str, low: int, high: int) -> ToyGateway:
        """An endpoint of ``low`` to ``high`` chunks whose minimum is ready, and a gateway that reports."""
        self.create(name, low, high)
        return await self.brought_up(name)

    async def brought_up(self, name: str) -> ToyGateway:
        """What an endpoint waited for is ready; a gateway that reports on it."""
        await self.step()
        self.fleet.load()
        await self.step(1)
        gateway = ToyGateway(self)
        gateway.ack()
        for one in self.get(name).current.entities:
            gateway.offer(self.get(name), one)
        gateway.report()
        return gateway

    async def step(self, seconds: float = 0.0) -> None:
        """Let time pass, then one look; what it started beside itself has ended when this returns."""
        self.clock.ms += int(seconds * 1000)
        await self.controller.reconciler.step()
        await asyncio.gather(*self.controller.reconciler._stops.values())

    async def break_off(self, seconds: float) -> None:
        """A step that breaks off where it has an event to tell."""
        self._execute("ALTER TABLE events RENAME TO events_gone")
        with pytest.raises(Exception, match="events"):
            await self.step(seconds)
        self._execute("ALTER TABLE events_gone RENAME TO events")

    def _execute(self, statement: str) -> None:
        with self.controller.database.write() as session:
            session.execute(text(statement))

    def kinds(self) -> list[str]:
        return [event.kind for event in self.controller.events.list(limit=1000)]

    def phases(self, name: str, entity: str | None = None) -> list[str]:
        """Of the replicas of an endpoint, or of one of its served entities."""
        endpoint = self.get(name)
        named = {one.id for one in endpoint.entities.values() if entity in (None, one.name)}
        replicas = self.controller.roster.of(endpoint.id)
        return sorted(r.phase.value for r in replicas if entity is None or r.entity_id in named)

    def entity(self, name: str, entity: str) -> Entity:
        """A served entity of an endpoint, as it is sold now."""
        return next(one for one in self.get(name).current.entities if one.name == entity)


def entity(
    name: str | None, low: int, high: int, *, model: str = "toy", scale_to_zero: bool | None = None
) -> AskedEntity:
    """A served entity of ``low`` to ``high`` chunks."""
    return AskedEntity(
        name=name,
        model=model,
        version=None,
        min_tokens_s=low * CHUNK,
        max_tokens_s=high * CHUNK,
        scale_to_zero=low == 0 if scale_to_zero is None else scale_to_zero,
    )


def config(*entities: tuple[AskedEntity, int]) -> AskedConfig:
    """Each with its percentage; one with 0 has no route."""
    routes = tuple(AskedRoute(entity=str(one.name), percentage=part) for one, part in entities if part)
    return AskedConfig(entities=tuple(one for one, _ in entities), routes=routes)


def profile_of(model: ModelSettings, chunk: int, status: str = "measured") -> Profile:
    return msgspec.convert(
        {
            "id": f"{model.name}-{chunk}-{status}",
            "model": model.name,
            "model_version": model.version,
            "model_sha256": model.sha256,
            "engine": model.engine,
            "engine_version": None,
            "status": status,
            "chunk": chunk,
            "chunk_mean": chunk,
            "chunk_low": chunk,
            "chunk_high": chunk,
            "slots": model.slots,
            "weights": msgspec.to_builtins(RAW_TOKENS),
            "fit_error": 0.0,
            "shapes": [],
            "replicas_loaded": 1,
            "start_s": None,
            "memory_bytes": None,
            "hardware": None,
            "measured_at": None,
            "duration_s": 0.0,
            "method": "invented by a test",
        },
        Profile,
    )
