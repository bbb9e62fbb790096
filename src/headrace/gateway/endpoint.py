"""One endpoint as it runs: its served entities, and which of them a request goes to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic

from headrace.gateway.entity import LiveEntity
from headrace.gateway.rate_limits import limits_of
from headrace.gateway.snapshot import EndpointView, KeyView, ReplicaView
from headrace.policy.rate_limits import RateLimits
from headrace.policy.traffic import TrafficSplit

ReplicasOf = Mapping[str, Sequence[ReplicaView]]
"""By the id of the served entity."""


class LiveEndpoint:
    """Follows the snapshots; ``route`` sends each request to a served entity."""

    def __init__(self, view: EndpointView, replicas: ReplicasOf, on_cold_arrival: Callable[[], None]) -> None:
        self._on_cold_arrival = on_cold_arrival
        self.view = view
        self.entities: list[LiveEntity] = []
        self.removed = False
        self.queriers: frozenset[str] | None = None
        """Who may query it, as in the snapshot; None: every key."""
        self.rate_limits: RateLimits | None = None
        self._split = TrafficSplit([entity.traffic for entity in view.entities])
        self._follow(view, replicas)

    def update(self, view: EndpointView, replicas: ReplicasOf) -> list[LiveEntity]:
        """A new snapshot; returns the entities that are no longer part of the endpoint."""
        traffic = [entity.traffic for entity in view.entities]
        if traffic != [entity.traffic for entity in self.view.entities]:
            self._split = TrafficSplit(traffic)
        return self._follow(view, replicas)

    def remove(self) -> list[LiveEntity]:
        """The endpoint was deleted; returns its entities, in which requests may still be in flight."""
        self.removed = True
        for entity in self.entities:
            entity.remove()
        return self.entities

    def _follow(self, view: EndpointView, replicas: ReplicasOf) -> list[LiveEntity]:
        self.queriers = None if view.queriers is None else frozenset(view.queriers)
        self._set_rate_limits(view)
        self.view = view
        before = {entity.view.id: entity for entity in self.entities}
        self.entities = []
        for entity_view in view.entities:
            its_replicas = replicas.get(entity_view.id, ())
            entity = before.pop(entity_view.id, None)
            if entity is None:
                entity = LiveEntity(view, entity_view, its_replicas, self._on_cold_arrival)
            else:
                entity.update(view, entity_view, its_replicas)
            self.entities.append(entity)
        for entity in before.values():
            entity.remove()
        return list(before.values())

    def _set_rate_limits(self, view: EndpointView) -> None:
        if not view.rate_limits:
            self.rate_limits = None
        elif self.rate_limits is None:
            self.rate_limits = RateLimits(limits_of(view.rate_limits))
        elif view.rate_limits != self.view.rate_limits:
            self.rate_limits.configure(monotonic(), limits_of(view.rate_limits))

    def may_query(self, key: KeyView) -> bool:
        """By the endpoint's permissions."""
        queriers = self.queriers
        return queriers is None or key.role == "admin" or f"{key.principal_kind}:{key.principal}" in queriers

    @property
    def has_replica(self) -> bool:
        """A replica takes new requests."""
        return any(entity.has_replica for entity in self.entities)

    @property
    def fails(self) -> bool:
        """Requests are routed to what has no replica, and no start can be relied on."""
        return any(entity.fails and entity.view.traffic for entity in self.entities)

    def route(self) -> LiveEntity:
        """Where the next request goes by the traffic split."""
        if len(self.entities) == 1:
            return self.entities[0]
        return self.entities[self._split.next()]

    def after(self, entity: LiveEntity) -> Iterable[LiveEntity]:
        """The other entities in the order of the config, beginning behind this one: where it spills and falls back."""
        entities = self.entities
        if entity not in entities:
            return list(entities)
        at = entities.index(entity)
        return entities[at + 1 :] + entities[:at]
