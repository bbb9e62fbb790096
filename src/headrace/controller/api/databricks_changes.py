"""What a new config makes of what an endpoint sells, in words: the same count of other chunks is another range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from headrace.controller.endpoint import Config, Entity
from headrace.controller.words import about

Range = tuple[int, int]
"""Least and most, in reference tokens/s."""


def sold(entity: Entity) -> Range:
    return entity.min_chunks * entity.chunk, entity.max_chunks * entity.chunk


def predecessors(before: Config | None, after: Config) -> Mapping[str, Entity]:
    """What each entity of the new config takes the place of, by the new one's id: that of its name, or where there is
    only one of each, that."""
    if before is None:
        return {}
    if len(before.entities) == len(after.entities) == 1:
        return {after.entities[0].id: before.entities[0]}
    named = {entity.name: entity for entity in before.entities}
    return {entity.id: named[entity.name] for entity in after.entities if entity.name in named}


def range_change(old: Entity | None, new: Entity) -> str | None:
    """Such as ``the range falls from 200 to 76 reference tokens/s``; None where it stays or is the first."""
    if old is None or sold(old) == sold(new):
        return None
    moves = [now - was for was, now in zip(sold(old), sold(new), strict=True)]
    verb = "falls" if max(moves) <= 0 else "rises" if min(moves) >= 0 else "changes"
    return f"the range {verb} from {_told(sold(old))} to {_told(sold(new))} reference tokens/s"


def range_changes(before: Config | None, after: Config) -> Iterator[str]:
    """Of all served entities, each named where there are several."""
    old = predecessors(before, after)
    for entity in after.entities:
        if change := range_change(old.get(entity.id), entity):
            yield about(after, entity, change)


def _told(sold: Range) -> str:
    low, high = sold
    return str(high) if low == high else f"{low}..{high}"
