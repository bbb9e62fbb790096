"""How many replicas each served entity should have, by its own demand, and how many of them the machine can hold."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.config import ScalingConfig
from headrace.controller.allotment import Want, allot, rivals, takers
from headrace.controller.clock import Clock
from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.gateways import Gateways
from headrace.controller.lifecycle import Replica
from headrace.controller.offers import Capacity
from headrace.controller.rollout import chunks_wanted, of, predecessors
from headrace.controller.roster import Roster
from headrace.controller.scaler import knobs_of
from headrace.controller.telling import Telling
from headrace.controller.watches import Watches
from headrace.controller.words import named


class Sizing:
    """Leaves its answers in the watches: ``wanted`` and ``granted``."""

    def __init__(
        self,
        *,
        roster: Roster,
        gateways: Gateways,
        fleet: Capacity,
        watches: Watches,
        telling: Telling,
        clock: Clock,
        scaling: ScalingConfig,
    ) -> None:
        self._roster = roster
        self._gateways = gateways
        self._fleet = fleet
        self._watches = watches
        self._tell = telling
        self._clock = clock
        self._scaling = scaling

    def decide(self, endpoints: Sequence[Endpoint]) -> None:
        for endpoint in endpoints:
            self._scale(endpoint)
        self._allot(endpoints)

    def hand_over(self, endpoint: Endpoint) -> None:
        """The pending config becomes the active one: what it serves anew goes on with the demand that was seen of what
        it takes the place of. To be called before gateways are told."""
        if endpoint.active is None:
            return  # what never served has seen nothing
        now, knobs = self._clock.now(), knobs_of(self._scaling, endpoint.options)
        before = predecessors(endpoint)
        for entity in endpoint.target.entities:
            if entity.id in before and before[entity.id].id != entity.id:
                sold = before[entity.id]
                predecessor, heir = self._watches.of(sold.id).scaler, self._watches.of(entity.id).scaler
                heir.take_over(predecessor, sold, entity, knobs, now)

    def _scale(self, endpoint: Endpoint) -> None:
        """Each by the terms that are sold, within the range that is to be."""
        now, replicas = self._clock.now(), self._roster.of(endpoint.id)
        knobs = knobs_of(self._scaling, endpoint.options)
        decided: dict[str, int] = {}
        for entity in endpoint.current.entities:
            watch = self._watches.of(entity.id)
            if not watch.looked and _sleeps(endpoint, entity, replicas):
                watch.scaler.slept(now, knobs)
            decision = watch.scaler.decide(endpoint, entity, replicas, self._gateways, knobs, now)
            before = decision.inputs["state"]["target"]
            decided[entity.id] = watch.wanted = decision.chunks
            watch.reason = decision.reason
            adopted = before is None and decision.chunks == len(of(replicas, entity))
            if decision.chunks != before and not adopted:
                self._tell.scaled(endpoint, entity, decision, self._clock.now_ms())
        for entity in endpoint.target.entities:
            self._watches.of(entity.id).wanted = chunks_wanted(endpoint, entity, decided)

    def _allot(self, endpoints: Sequence[Endpoint]) -> None:
        """What each may have of the machine."""
        whose = {entity.id: (endpoint, entity) for endpoint in endpoints for entity in endpoint.target.entities}
        wants = [self._want(endpoint, entity) for endpoint, entity in whose.values()]
        granted = allot(wants)
        short = rivals(wants, granted)
        for entity_id, (endpoint, entity) in whose.items():
            watch = self._watches.of(entity_id)
            watch.granted = granted[entity_id]
            holders = [whose[rival] for rival in short.get(entity_id, ())]
            watch.rivals = tuple(named(other.name, other.target, one) for other, one in holders)
            missing = max(0, watch.wanted - watch.granted)
            if missing and missing != watch.missing:
                self._tell.places_missing(endpoint, entity, watch, self._clock.now_ms())
            watch.missing, watch.looked = missing, True
        for loser, others in takers(wants, granted).items():
            endpoint, entity = whose[loser]
            needing = [whose[other.entity] for other in others]
            self._tell.place_taken(endpoint, entity, self._watches.of(loser), needing, self._clock.now_ms())

    def _want(self, endpoint: Endpoint, entity: Entity) -> Want:
        return Want(
            entity=entity.id,
            shares=self._fleet.shares(entity.model),
            minimum=entity.min_chunks,
            wanted=self._watches.of(entity.id).wanted,
            running=len(of(self._roster.of(endpoint.id), entity)),
        )


def _sleeps(endpoint: Endpoint, entity: Entity, replicas: Sequence[Replica]) -> bool:
    """At zero, as its range allows, and not because it is new."""
    sold = endpoint.active is not None and endpoint.active.entity(entity.id) is not None
    return sold and entity.min_chunks == 0 and entity.scale_to_zero and not of(replicas, entity)
