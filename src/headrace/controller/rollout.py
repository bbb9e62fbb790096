"""From what an endpoint should be and what runs to what is to be done: the whole roll-out law, as pure functions.

- A served entity of the pending config that runs the same replicas as one that is served (another range, price, chunk
  or part of the traffic) restarts nothing.
- One that runs other replicas brings them up beside the old ones, as many as the load needs. When they are ready the
  pending config takes over with its traffic, and what it does not name drains.
- Where the machine has no room for both, the old replicas make room one at a time: one drains, one of the new starts.
  The pending config takes over as soon as the new ones provide as much as is left of the old; before that, what does
  not find a slot is held. So at no time is less than half of the capacity there, but for an endpoint of one chunk:
  its requests are held for as long as one start takes.
- Nothing takes over that was not ready, so an update that fails leaves the old config, whose replicas come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.controller.allotment import Shares
from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.lifecycle import COMING, Phase, Replica
from headrace.engines.base import ModelSettings

InFlight = Callable[[str], int]
"""Requests on a replica."""


class Places(Protocol):
    """What a roll-out needs of a fleet."""

    def room(self, model: ModelSettings) -> int:
        """Replicas of a model that fit beside all that lives."""

    def shares(self, model: ModelSettings) -> Shares: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do for one served entity of the target config now."""

    entity: Entity
    granted: int
    """Replicas that it may have."""
    running: int
    """Replicas that it has and keeps, those that are revived included."""
    revive: tuple[Replica, ...] = ()
    """Draining replicas that are needed again: quicker than a start, and there may be no room for one."""
    start: int = 0
    """New replicas."""
    drain: tuple[Replica, ...] = ()
    """More than it may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """How far the update of an endpoint's config gets now."""

    activate: bool = False
    """The pending config becomes the active one."""
    conclude: bool = False
    """The update is done: what is active can serve."""
    replaced: tuple[Replica, ...] = ()
    """Replicas that the target config does not name, and that nothing needs any more or that make room."""


def chunks_wanted(endpoint: Endpoint, entity: Entity, decided: Mapping[str, int]) -> int:
    """Replicas of an entity of the target config, within its range: what the scaling law decided for what it takes over
    from. One that serves by the old terms keeps what it has by them until the new ones take over.

    ``decided``: chunks by id of the entities that are sold.
    """
    before = predecessors(endpoint).get(entity.id)
    if before is None:
        return entity.min_chunks
    chunks = decided[before.id]
    if before.runs_as == entity.runs_as and _brings_up(endpoint):
        return max(chunks, entity.min_chunks)
    return min(max(chunks, entity.min_chunks), entity.max_chunks)


def _brings_up(endpoint: Endpoint) -> bool:
    """The target config takes over only when other replicas than those that serve are ready."""
    served = {entity.runs_as for entity in endpoint.current.entities}
    return any(entity.runs_as not in served for entity in endpoint.target.entities)


def predecessors(endpoint: Endpoint) -> dict[str, Entity]:
    """What the entities of the target config take over from, by their ids: each from itself, else from what has its
    name; of those that are left, each from what stands in its place, where as many are left of both configs."""
    before, after, found = list(endpoint.current.entities), list(endpoint.target.entities), dict[str, Entity]()
    for field in ("id", "name"):
        for entity in tuple(after):
            same = next((one for one in before if getattr(one, field) == getattr(entity, field)), None)
            if same is not None:
                found[entity.id] = same
                before.remove(same)
                after.remove(entity)
    if len(before) == len(after):
        found |= {entity.id: one for entity, one in zip(after, before, strict=True)}
    return found


def of(replicas: Sequence[Replica], entity: Entity) -> list[Replica]:
    """Those that run what an entity runs and are to stay."""
    return [r for r in replicas if r.runs_as == entity.runs_as and r.phase in COMING | {Phase.READY}]


def ready(replicas: Sequence[Replica], entity: Entity) -> int:
    """How many of them serve."""
    return sum(replica.phase is Phase.READY for replica in of(replicas, entity))


def can_serve(entity: Entity, replicas: Sequence[Replica]) -> bool:
    """Its minimum is ready."""
    return ready(replicas, entity) >= entity.min_chunks


def step(entity: Entity, replicas: Sequence[Replica], granted: int, *, may_start: bool, in_flight: InFlight) -> Step:
    """``granted``: replicas that the entity may have."""
    ours = of(replicas, entity)
    missing = max(0, granted - len(ours))
    revive = [r for r in replicas if _can_serve_again(r, entity)][:missing]
    return Step(
        entity=entity,
        granted=granted,
        running=len(ours) + len(revive),
        revive=tuple(revive),
        start=missing - len(revive) if may_start else 0,
        drain=tuple(_least_loss(ours, in_flight)[: max(0, len(ours) - granted)]),
    )


def starts(steps: Sequence[Step]) -> Iterator[Entity]:
    """Whose replica is to be started next, for each start: all minimums come before anything beyond one."""
    due = [(one.running + place >= one.entity.min_chunks, one.entity) for one in steps for place in range(one.start)]
    return (entity for _, entity in sorted(due, key=lambda start: start[0]))


def restarts(endpoint: Endpoint, replicas: Sequence[Replica], steps: Sequence[Step]) -> Iterator[Entity]:
    """As ``starts``, of what is served until the update is ready: its minimum is kept up too, when the new replicas
    lack nothing."""
    target = {one.entity.runs_as for one in steps}
    if endpoint.pending is not None and all(len(of(replicas, one.entity)) >= one.granted for one in steps):
        for entity in endpoint.current.entities:
            if entity.runs_as not in target:
                yield from [entity] * (entity.min_chunks - len(of(replicas, entity)))


def advance(
    endpoint: Endpoint, replicas: Sequence[Replica], steps: Sequence[Step], places: Places, in_flight: InFlight
) -> Advance:
    """To be asked after the starts of ``steps``: what they did not get, they had no room for."""
    wanted = {one.entity.runs_as for one in steps}
    others = [r for r in replicas if r.runs_as not in wanted and r.phase in COMING | {Phase.READY}]
    servable = all(can_serve(one.entity, replicas) for one in steps)
    if endpoint.pending is None:
        return Advance(conclude=servable and endpoint.update == "IN_PROGRESS", replaced=tuple(others))
    if endpoint.active is None:
        # What never served is not sold, so nobody needs what an earlier first config has left.
        return Advance(activate=servable, conclude=servable, replaced=tuple(others))
    short = [one for one in steps if len(of(replicas, one.entity)) < one.granted and not places.room(one.entity.model)]
    if _all_due_are_ready(endpoint, replicas, steps) or (
        short and _as_much_is_ready(endpoint, replicas, steps, others)
    ):
        return Advance(activate=True, conclude=servable, replaced=tuple(others))
    return Advance(replaced=_makes_room(replicas, steps, short, others, places, in_flight))


def _all_due_are_ready(endpoint: Endpoint, replicas: Sequence[Replica], steps: Sequence[Step]) -> bool:
    """Each entity has its minimum, and one that is new what the load needs."""
    served = {entity.runs_as for entity in endpoint.current.entities}

    def due(one: Step) -> int:
        return one.entity.min_chunks if one.entity.runs_as in served else max(one.entity.min_chunks, one.granted)

    return all(ready(replicas, one.entity) >= due(one) for one in steps)


def _as_much_is_ready(
    endpoint: Endpoint, replicas: Sequence[Replica], steps: Sequence[Step], others: Sequence[Replica]
) -> bool:
    """What is new provides, each of its entities, and together no less than what is left of what it replaces."""
    served = {entity.runs_as: entity for entity in endpoint.current.entities}
    new = [one.entity for one in steps if one.entity.runs_as not in served and one.granted]
    provided = [ready(replicas, entity) * entity.chunk for entity in new]
    left = sum(served[r.runs_as].chunk for r in others if r.phase is Phase.READY and r.runs_as in served)
    return bool(provided) and all(provided) and sum(provided) >= left


def _makes_room(
    replicas: Sequence[Replica],
    steps: Sequence[Step],
    short: Sequence[Step],
    others: Sequence[Replica],
    places: Places,
    in_flight: InFlight,
) -> tuple[Replica, ...]:
    """One of the old, where a start needs its place and nothing that is on its way would bring another one.

    A new replica must have become ready before the next old one goes: if it fails, no more was given up for it.
    """
    coming = any(r.phase in COMING for one in steps for r in of(replicas, one.entity))
    leaving = any(r.phase is Phase.DRAINING for r in replicas)
    if coming or leaving:
        return ()
    for one in short:
        needs = places.shares(one.entity.model).keys()
        # Sooner one that leaves all that the start needs, such as a GPU and cores, than one that leaves a part of it.
        leave_all = [r for r in others if needs <= places.shares(r.model).keys()]
        leave_some = [r for r in others if needs & places.shares(r.model).keys()]
        if one.start and leave_some:
            return (_least_loss(leave_all or leave_some, in_flight)[0],)
    return ()


def _least_loss(replicas: Sequence[Replica], in_flight: InFlight) -> list[Replica]:
    """Those that serve nothing yet go first, then those with the least to finish; of equals the youngest."""
    return sorted(replicas, key=lambda r: (r.phase is Phase.READY, in_flight(r.id), -r.created_ms))


def _can_serve_again(replica: Replica, entity: Entity) -> bool:
    """Also one that made room for an update, when that has failed."""
    return (
        replica.phase is Phase.DRAINING
        and replica.runs_as == entity.runs_as
        and replica.url is not None
        and not replica.stopping
    )
