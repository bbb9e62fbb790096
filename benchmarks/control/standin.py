"""What stands in for a gateway's reports, so that nothing but the controller takes time; and a clock for its fleet."""

from __future__ import annotations

import time

import msgspec
from controller_world import empty_tick

from headrace.controller.controller import Controller
from headrace.gateway.snapshot import Ack, EntityTick, Hello, ReplicaTick, Tick


class WallClock:
    """For records, as ``ToyFleet`` takes it."""

    @property
    def ms(self) -> int:
        return time.time_ns() // 1_000_000


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
                before = self._counters.get(entity.id) or empty_tick(endpoint.id, entity.id)
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
            at_ms=self._controller.clock.now_ms(),
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
