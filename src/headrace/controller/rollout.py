"""From what an endpoint should be and what runs to what is to be done: the whole roll-out law, as pure functions.

- A served entity of the pending config that runs the same replicas as one that is served (another range, price, chunk
  or part of the traffic) restarts nothing.
- One that runs other replicas brings them up beside the old ones. The pending config with its traffic takes over when
  all of its entities can serve; then what it does not name drains. Where the machine has no room for both, it takes
  over at once, the old replicas drain, and requests wait for the new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.lifecycle import COMING, Phase, Replica
from headrace.engines.base import ModelSettings

Room = Callable[[ModelSettings], int]
"""Replicas of a model that fit beside all that lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do for one served entity of the target config now."""

    entity: Entity
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
    """Replicas that the target config does not name, and that nothing needs any more."""


def chunks_wanted(endpoint: Endpoint, entity: Entity, decided: Mapping[str, int]) -> int:
    """Replicas of an entity of the target config, within its range: what the scaling law decided for what it takes over
    from. ``decided``: chunks by id of the entities that are sold."""
    before = _predecessor(endpoint, entity)
    chunks = entity.min_chunks if before is None else decided[before.id]
    return min(max(chunks, entity.min_chunks), entity.max_chunks)


def of(replicas: Sequence[Replica], entity: Entity) -> list[Replica]:
    """Those that run what an entity runs and are to stay."""
    return [r for r in replicas if r.runs_as == entity.runs_as and r.phase in COMING | {Phase.READY}]


def can_serve(entity: Entity, replicas: Sequence[Replica]) -> bool:
    """Its minimum is ready."""
    return sum(replica.phase is Phase.READY for replica in of(replicas, entity)) >= entity.min_chunks


def step(
    entity: Entity,
    replicas: Sequence[Replica],
    granted: int,
    *,
    may_start: bool,
    in_flight: Callable[[str], int],
) -> Step:
    """``granted``: replicas that the entity may have. ``in_flight``: requests on a replica, by which the one that loses
    least is chosen to drain."""
    ours = of(replicas, entity)
    missing = max(0, granted - len(ours))
    revive = [r for r in replicas if _can_serve_again(r, entity)][:missing]

    # Those that serve nothing yet go first, then those with the least to finish; of equals the youngest.
    def loss(replica: Replica) -> tuple[bool, int, int]:
        return (replica.phase is Phase.READY, in_flight(replica.id), -replica.created_ms)

    return Step(
        entity=entity,
        running=len(ours) + len(revive),
        revive=tuple(revive),
        start=missing - len(revive) if may_start else 0,
        drain=tuple(sorted(ours, key=loss)[: max(0, len(ours) - granted)]),
    )


def starts(steps: Sequence[Step]) -> Iterator[Entity]:
    """Whose replica is to be started next, for each start: all minimums come before anything beyond one."""
    due = [(one.running + place >= one.entity.min_chunks, one.entity) for one in steps for place in range(one.start)]
    return (entity for _, entity in sorted(due, key=lambda start: start[0]))


def advance(endpoint: Endpoint, replicas: Sequence[Replica], room: Room) -> Advance:
    """To be asked after the starts of the steps, as both look at the same room."""
    entities = endpoint.target.entities
    wanted = {entity.runs_as for entity in entities}
    others = tuple(r for r in replicas if r.runs_as not in wanted and r.phase in COMING | {Phase.READY})
    servable = all(can_serve(entity, replicas) for entity in entities)
    crowded = any(len(of(replicas, entity)) + room(entity.model) < entity.min_chunks for entity in entities)
    # What never could serve is not sold: a first config waits until it can.
    no_room = bool(others) and endpoint.active is not None and crowded
    activate = endpoint.pending is not None and (servable or no_room)
    return Advance(
        activate=activate,
        conclude=servable and endpoint.update == "IN_PROGRESS",
        replaced=others if endpoint.pending is None or activate else (),
    )


def _predecessor(endpoint: Endpoint, entity: Entity) -> Entity | None:
    """What an entity takes over from: itself, else what has its name, else the only one of an endpoint that has one."""
    before, after = endpoint.current.entities, endpoint.target.entities
    named = next((one for one in before if one.name == entity.name), None)
    only = before[0] if len(before) == len(after) == 1 else None
    return endpoint.current.entity(entity.id) or named or only


def _can_serve_again(replica: Replica, entity: Entity) -> bool:
    return (
        replica.phase is Phase.DRAINING
        and replica.drain_cause == "scale_down"
        and replica.runs_as == entity.runs_as
        and replica.url is not None
        and not replica.stopping
    )
