"""What the gateway serves, as the newest snapshot says: endpoints by name, and keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from headrace.gateway.auth import CUT_OFF_GRACE_S, Keys
from headrace.gateway.endpoint import LiveEndpoint
from headrace.gateway.entity import LiveEntity
from headrace.gateway.errors import ApiError
from headrace.gateway.snapshot import AnswersTick, EntityTick, KeyView, ReplicaTick, ReplicaView, Snapshot

log = logging.getLogger(__name__)


class Live:
    """Everything that a request is looked up in. Keeps the last snapshot when the controller is gone."""

    def __init__(self, on_cold_arrival: Callable[[], None]) -> None:
        """``on_cold_arrival`` is called when a request arrives at an endpoint that has no replica."""
        self._loop = asyncio.get_running_loop()
        self._on_cold_arrival = on_cold_arrival
        self._keys = Keys()
        self._removed: list[LiveEntity] = []
        """Deleted, with requests still in flight."""
        self._cut_off_at: float | None = None
        self.version = 0
        self.restored = False
        self.endpoints: dict[str, LiveEndpoint] = {}
        """By name."""

    def apply(self, snapshot: Snapshot) -> None:
        """Decide by this snapshot from now on; one that is older than the last is ignored."""
        if snapshot.version < self.version:
            fields = {"version": snapshot.version, "newest": self.version}
            log.warning("an old snapshot was ignored", extra={"fields": fields})
            return
        self._keys = Keys(snapshot.keys)
        by_entity: dict[str, list[ReplicaView]] = {}
        for replica in snapshot.replicas:
            by_entity.setdefault(replica.entity, []).append(replica)
        before = {endpoint.view.id: endpoint for endpoint in self.endpoints.values()}
        self.endpoints = {}
        for view in snapshot.endpoints:
            endpoint = before.pop(view.id, None)
            if endpoint is None:
                endpoint = LiveEndpoint(view, by_entity, self._on_cold_arrival)
            else:
                self._removed += endpoint.update(view, by_entity)
            self.endpoints[view.name] = endpoint
        for endpoint in before.values():
            self._removed += endpoint.remove()
        self.restored = snapshot.restored
        self.version = snapshot.version

    def connected(self) -> None:
        """The controller can revoke keys."""
        self._cut_off_at = None

    def cut_off(self) -> None:
        """It cannot, from now on."""
        if self._cut_off_at is None:
            self._cut_off_at = self._loop.time()

    def authenticate(self, authorization: bytes | None) -> KeyView:
        """Raises ApiError 401, 403, or 503 where keys are not honoured any more."""
        if not self.version:
            raise ApiError(503, "this gateway has just started and knows no keys yet", retry_after_s=1.0)
        if self._cut_off_at is not None and self._loop.time() - self._cut_off_at > CUT_OFF_GRACE_S:
            raise ApiError(
                503,
                f"this gateway has had no contact with its controller for more than {CUT_OFF_GRACE_S / 60:.0f} minutes "
                "and cannot know whether a key is still valid",
                code="controller_lost",
            )
        return self._keys.authenticate(authorization)

    def waits_for(self) -> str | None:
        """What is still missing before it serves all that it should; None for nothing."""
        if not self.version:
            return "a first snapshot from the controller"
        if not self.restored:
            cold = sorted(name for name, endpoint in self.endpoints.items() if not endpoint.has_replica)
            return f"endpoints to be restored: {', '.join(cold)}" if cold else "endpoints to be restored"
        return None

    def lacks(self) -> str | None:
        """What keeps it from being ready: ``waits_for``, else endpoints that cannot serve; None for nothing."""
        failing = sorted(name for name, endpoint in self.endpoints.items() if endpoint.fails)
        return self.waits_for() or (f"endpoints whose replicas fail: {', '.join(failing)}" if failing else None)

    @property
    def removing(self) -> bool:
        """An entity that was deleted may have its last tick now."""
        return bool(self._removed)

    def answers(self, told: dict[str, int]) -> tuple[AnswersTick, ...]:
        """How requests have ended, of the entities where some have since ``told`` (entity to requests) was; updates it.

        Deleted entities included, so ask before ``ticks`` forgets them.
        """
        ticks = []
        live = [entity for endpoint in self.endpoints.values() for entity in endpoint.entities]
        for entity in (*live, *self._removed):
            ended = entity.ended
            if told.get(entity.view.id, 0) != ended:
                told[entity.view.id] = ended
                ticks.append(entity.answers())
        return tuple(ticks)

    def ticks(self) -> tuple[tuple[EntityTick, ...], tuple[ReplicaTick, ...]]:
        """Counters and gauges of this moment, of deleted entities too until their last request has ended."""
        entities: list[EntityTick] = []
        replicas: list[ReplicaTick] = []
        live = [entity for endpoint in self.endpoints.values() for entity in endpoint.entities]
        for entity in (*live, *self._removed):
            tick, its_replicas = entity.ticks()
            entities.append(tick)
            replicas += its_replicas
            if entity.removed and not tick.in_flight:
                self._removed.remove(entity)
        return tuple(entities), tuple(replicas)
