"""What a create or an update would do and cost, without doing it. Pure: the caller says what runs and what is free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from headrace.controller.allotment import Shares, taken
from headrace.controller.endpoint import Config, Endpoint, Entity
from headrace.controller.lifecycle import COMING, Phase, Replica
from headrace.controller.rollout import of, predecessors
from headrace.controller.words import counted
from headrace.engines.base import ModelSettings
from headrace.ledger.bills import decimal

NO_ROOM = "no room for its first chunk"
Room = Callable[[ModelSettings], int]
"""Replicas of a model that fit beside all that is to stay."""
RollOut = Literal["restarts_nothing", "brings_up", "beside", "replaces"]
"""``restarts_nothing``: what runs goes on. ``brings_up``: there is nothing to take over from. ``beside``: new replicas
come up while the old ones serve. ``replaces``: there is no room for both, so the old ones make room one at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Micro-units of money per hour."""

    at_min: int
    at_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityPreview:
    """One served entity of the new config."""

    entity: Entity
    roll_out: RollOut
    kept: int
    """Replicas that run already and serve on."""
    starts: int
    """Replicas that are started until the minimum is ready; of a new one whose minimum is zero, the one that is brought
    up at first, where there is room for it."""
    pending: int
    """Chunks of the maximum for which there is no room as things are now."""
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Everything that a person should know before the call is made for real."""

    entities: tuple[EntityPreview, ...]
    removed: tuple[Entity, ...]
    """Served now, and not by the new config."""
    before: Cost | None
    """None: there was no endpoint."""
    after: Cost


def preview(
    before: Endpoint | None,
    after: Endpoint,
    replicas: Sequence[Replica],
    *,
    room: Room,
    shares: Callable[[ModelSettings], Shares],
    idle_to_zero_s: float,
) -> Preview:
    """``replicas``: of the endpoint. ``shares``: of what one replica of a model takes."""
    old = before.current.entities if before is not None else ()
    # What takes over from nothing that serves is brought up for its first requests, even where its minimum is zero.
    heirs = predecessors(after) if after.active is not None else {}
    seen: list[EntityPreview] = []
    wanted = {entity.runs_as for entity in after.target.entities}
    others = sum(r.phase in COMING | {Phase.READY} and r.runs_as not in wanted for r in replicas)
    freed = others
    for entity in after.target.entities:
        before_it = taken((shares(one.entity.model), one.starts) for one in seen)
        places = (before_it[thing] / share for thing, share in shares(entity.model).items())
        left = max(0, room(entity.model) - ceil(max(places)))
        first_for_s = idle_to_zero_s if entity.id not in heirs and not entity.min_chunks else None
        one, used = _entity(entity, old, len(of(replicas, entity)), others, left, freed, first_for_s)
        freed -= used
        seen.append(one)
    kept = {entity.id for entity in after.target.entities}
    return Preview(
        entities=tuple(seen),
        removed=tuple(entity for entity in old if entity.id not in kept),
        before=cost(before.active) if before is not None else None,
        after=cost(after.target),
    )


def cost(config: Config | None) -> Cost:
    """What was never active is not sold."""
    entities = config.entities if config is not None else ()
    return Cost(
        at_min=sum(entity.min_chunks * entity.price_micro for entity in entities),
        at_max=sum(entity.max_chunks * entity.price_micro for entity in entities),
    )


def _entity(
    entity: Entity,
    old: Sequence[Entity],
    running: int,
    others: int,
    room: int,
    freed: int,
    first_for_s: float | None,
) -> tuple[EntityPreview, int]:
    """And how many of the ``freed`` places it takes: ``others`` are replicas that the new config does not name, and
    leave theirs to it. ``first_for_s``: of a new one whose minimum is zero, how long its first chunk stays idle."""
    kept = min(running, entity.max_chunks)
    first = first_for_s is not None and not kept
    starts = min(1, room + freed) if first else max(0, entity.min_chunks - kept)
    now = next((one for one in old if one.id == entity.id or one.name == entity.name), None)
    roll_out: RollOut
    if any(one.runs_as == entity.runs_as for one in old):
        roll_out = "restarts_nothing"
        says = "restarts nothing"
        if starts:
            says += f", and starts {counted(starts, 'chunk')} more"
    elif first_for_s is not None and first:
        roll_out = "beside" if others else "brings_up"
        says = _first(entity, first_for_s) if starts else f"starts nothing: there is {NO_ROOM}"
    elif not others:
        roll_out = "brings_up"
        says = f"brings up {counted(starts, 'chunk')}" if starts else "starts nothing until the first request"
    elif room >= starts:
        roll_out = "beside"
        says = (
            f"brings up {counted(starts, 'chunk')} beside the {counted(others, 'replica')} of the old config, "
            "to which requests go until all of the new ones are ready"
        )
    else:
        roll_out = "replaces"
        says = (
            f"replaces the {counted(others, 'replica')} of the old config chunk by chunk: there is room for {room} of "
            f"the {counted(starts, 'chunk')} of its minimum beside them, so the old ones drain one at a time, and "
            "requests that find no slot meanwhile are held"
        )
    if starts > room and not first and roll_out in ("restarts_nothing", "brings_up"):
        says += ", for which others give up what they have above their minimum"
    pending = max(0, entity.max_chunks - kept - starts - max(0, room - starts))
    # Of those freed, its minimum takes what has no room beside them.
    left = max(0, freed - max(0, starts - room))
    pending, used = max(0, pending - left), freed - left + min(left, pending)
    if pending:
        it_stays = "it stays" if pending == 1 else "they stay"
        says += (
            f"; for {counted(pending, 'chunk')} of its maximum there is no room as things are: {it_stays} pending "
            "until there is"
        )
    if now is not None and now.model.name == entity.model.name and now.chunk != entity.chunk:
        says += f"; its chunk becomes {entity.chunk} reference tokens/s instead of {now.chunk}, by a newer profile"
    seen = EntityPreview(entity=entity, roll_out=roll_out, kept=kept, starts=starts, pending=pending, says=says)
    return seen, used


def _first(entity: Entity, idle_s: float) -> str:
    """A new one is kept up for a while, so that it is known to work and there for the first requests."""
    price = decimal(round(entity.price_micro * idle_s / 3600))
    return (
        f"brings up 1 chunk, which goes to zero when it has been idle for {idle_s:.0f} s (they cost {price} "
        f"{entity.currency}); from then on a request starts one"
    )
