"""What stands in for a fleet and for a gateway's reports, so that nothing but the controller takes time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import msgspec

from headrace.controller.controller import Controller
from headrace.engines.base import ModelSettings
from headrace.fleet.base import FleetReplica
from headrace.gateway.snapshot import Ack, EntityTick, Hello, ReplicaTick, Tick

PLACES = 10_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class StandInFleet:
    """Records of simulated replicas: one that is started loads until ``load`` is called."""

    def __init__(self) -> None:
        self._replicas: dict[str, FleetReplica] = {}

    def capacity(self, model: ModelSettings) -> int:
        return PLACES

    def room(self, model: ModelSettings) -> int:
        return PLACES - len(self._replicas)

    def shares(self, model: ModelSettings) -> Mapping[str, Fraction]:
        return {"places": Fraction(1, PLACES)}

    def replicas(self) -> tuple[FleetReplica, ...]:
        return tuple(self._replicas.values())

    async def start(
        self, replica: str, model: ModelSettings, *, labels: Mapping[str, str] | None = None
    ) -> FleetReplica:
        self._replicas[replica] = FleetReplica(
            id=replica, state="loading", url=None, secret="s" * 64, started_ms=now_ms(), labels=dict(labels or {})
        )
        return self._replicas[replica]

    async def stop(self, replica: str) -> None:
        del self._replicas[replica]

    async def log(self, replica: str) -> str:
        return ""

    def load(self) -> int:
        """All that load have loaded; how many those were."""
        loading = [replica for replica in self._replicas.values() if replica.state == "loading"]
        for number, one in enumerate(loading):
            self._replicas[one.id] = replace(
                one, state="ready", url=f"http://127.0.0.1:{10_000 + number}", ready_ms=now_ms(), load_s=0.5
            )
        return len(loading)

    def crash(self, replica: str) -> None:
        self._replicas[replica] = replace(
            self._replicas[replica],
            state="exited",
            url=None,
            exited_ms=now_ms(),
            exit_code=-9,
            error="ended by SIGKILL",
        )


class StandInGateway:
    """Reports on everything, twice a second in real life: each entity has had some more work since the last time."""

    def __init__(self, controller: Controller, name: str = "stand-in") -> None:
        self._controller = controller
        self._name = name
        self._counters: dict[str, EntityTick] = {}
        self._told_at = controller.clock.now()
        controller.gateways.hello(Hello(gateway=name, pid=0))

    def tick(self, *, rate: float) -> Tick:
        """Of all that the last snapshot holds; ``rate``: reference tokens/s at each entity."""
        snapshot, now = self._controller.link.snapshot, self._controller.clock.now()
        assert snapshot is not None
        work, self._told_at = rate * (now - self._told_at), now
        for endpoint in snapshot.endpoints:
            for entity in endpoint.entities:
                before = self._counters.get(entity.id) or _zero(endpoint.id, entity.id)
                self._counters[entity.id] = msgspec.structs.replace(
                    before,
                    arrivals=before.arrivals + 1,
                    dispatched=before.dispatched + 1,
                    completed=before.completed + 1,
                    offered_work=before.offered_work + work,
                    served_work=before.served_work + work,
                )
        return Tick(
            gateway=self._name,
            at_ms=now_ms(),
            version=snapshot.version,
            entities=tuple(self._counters.values()),
            replicas=tuple(ReplicaTick(one.id, 0, 0.0, 0, 0) for one in snapshot.replicas),
        )

    def report(self, tick: Tick) -> None:
        """As the link does with what it has decoded."""
        controller = self._controller
        controller.gateways.ack(self._name, Ack(version=tick.version))
        controller.gateways.tick(self._name, tick, controller.clock.now())
        controller.reconciler.heard(tick)


def _zero(endpoint: str, entity: str) -> EntityTick:
    zeros = {name: 0 for name in EntityTick.__struct_fields__ if name not in ("endpoint", "entity")}
    return msgspec.convert({"endpoint": endpoint, "entity": entity, **zeros}, EntityTick)
