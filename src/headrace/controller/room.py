"""What is free for one more replica, and why a served entity has none."""

from __future__ import annotations

from headrace.controller.allotment import taken
from headrace.controller.controller import Controller
from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.lifecycle import Phase, Replica
from headrace.controller.preview import NO_ROOM, Room
from headrace.controller.rollout import of
from headrace.engines.base import ModelSettings


def room_of(controller: Controller) -> Room:
    """Replicas of a model that fit beside all that is to stay: those that drain, or are about to, make room."""

    fleet = controller.fleet
    leaving = [replica for replica in controller.roster.all() if _leaves(controller, replica)]
    freed = taken((fleet.shares(replica.model), 1) for replica in leaving)

    def room(model: ModelSettings) -> int:
        return fleet.room(model) + min(int(freed[thing] / share) for thing, share in fleet.shares(model).items())

    return room


def no_room(controller: Controller, endpoint: Endpoint, entity: Entity) -> str:
    """Why an entity that should have a chunk cannot get even one; empty where that is not so."""
    watch = controller.reconciler.watches.of(entity.id)
    if of(controller.roster.of(endpoint.id), entity):
        return ""
    if watch.looked:
        return f"{NO_ROOM}: {watch.lack}" if watch.shut_out else ""
    # A new one wants its first chunk; of one that has a minimum, the others make room for that.
    if endpoint.active is None and not entity.min_chunks and room_of(controller)(entity.model) < 1:
        return f"{NO_ROOM} as things are: it starts when another endpoint leaves a place"
    return ""


def _leaves(controller: Controller, replica: Replica) -> bool:
    deleted = controller.store.get(replica.endpoint_id) is None
    return replica.phase is Phase.DRAINING or (deleted and replica.phase in (Phase.LOADING, Phase.READY))
