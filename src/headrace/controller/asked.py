"""What a caller asks of an endpoint, and what is wrong with it whatever this machine can do: names and traffic."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.controller.endpoint import Entity
from headrace.controller.refusal import Refusal
from headrace.controller.words import counted
from headrace.engines.base import ModelSettings

ENTITY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
FULL_NAME = re.compile(r"[A-Za-z_][\w-]*\.[A-Za-z_][\w-]*\.(\w[\w.-]*)")
"""``catalog.schema.model``, such as ``system.ai.llama``; the version in ``qwen2.5-0.5b`` is no schema."""
MOST_ENTITIES = 15
"""Of one endpoint, as at Databricks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedEntity:
    """A served entity as a caller asks for it."""

    name: str | None
    """None: that of an entity of the model that is served now, or made of the model's name and version."""
    model: str
    version: str | None
    """None: the one that is served, else the newest."""
    min_tokens_s: int = 0
    """Reference tokens/s, as is the next."""
    max_tokens_s: int = 0
    scale_to_zero: bool = False
    units: int | None = None
    """Model units of a fixed size, in place of a range; None: the size is a range in tokens/s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedRoute:
    """A part of the traffic for one served entity."""

    entity: str
    """Name."""
    percentage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedConfig:
    """The served entities of an endpoint, in their order, and who gets which part of its requests."""

    entities: tuple[AskedEntity, ...]
    routes: tuple[AskedRoute, ...] = ()
    """None of them: with one entity, all goes there."""


def entity_names(
    asked: Sequence[AskedEntity], models: Sequence[ModelSettings], before: Sequence[Entity]
) -> tuple[str, ...]:
    """A name for each, ``models`` being theirs. ``before``: what they replace.

    Raises Refusal for a name that is none, or that two have.
    """
    for entity in asked:
        if entity.name is not None and not ENTITY_NAME.fullmatch(entity.name):
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                f"{entity.name[:80]!r} is not a name for a served entity; expected 1 to 255 letters, digits, '-', '_' "
                "or '.', not starting with one of the last three",
                param="served_entities",
            )
    named = {place: entity.name for place, entity in enumerate(asked) if entity.name is not None}
    free = [entity for entity in before if entity.name not in named.values()]
    for same_version in (True, False):
        for place, model in enumerate(models):
            fitting = (one for one in free if _keeps_name(one, model, same_version=same_version))
            if place not in named and (one := next(fitting, None)) is not None:
                named[place] = one.name
                free.remove(one)
    names = [named.get(place) or _default_name(model) for place, model in enumerate(models)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise Refusal(
            "INVALID_PARAMETER_VALUE",
            f"two served entities are named {twice[0]!r}; give each a name of its own",
            param="served_entities",
        )
    return tuple(names)


def version_served(asked: AskedEntity, before: Sequence[Entity]) -> str | None:
    """That in which the entity runs its model now, as what is not said stays; None where it does not run it."""
    fitting = (one for one in before if one.model.name == asked.model and asked.name in (None, one.name))
    return next((one.model.version for one in fitting), None)


def _keeps_name(old: Entity, model: ModelSettings, *, same_version: bool) -> bool:
    """A name that was made of a version does not stay for another one."""
    if old.model.name != model.name:
        return False
    return old.model.version == model.version or not (same_version or old.name == _default_name(old.model))


def _default_name(model: ModelSettings) -> str:
    """As at Databricks: of a name with a catalog and a schema only the last part."""
    full = FULL_NAME.fullmatch(model.name)
    return f"{full.group(1) if full else model.name}-{model.version}"


def traffic(routes: Sequence[AskedRoute], names: Sequence[str]) -> tuple[int, ...]:
    """The percentage of each named entity, in their order; one without a route has 0. Raises Refusal."""
    if not routes and len(names) == 1:
        return (100,)
    if not routes:
        raise _refused(
            f"traffic_config is missing: with {counted(len(names), 'served entity')} it must say which of them gets "
            "which percentage of the requests"
        )
    parts: dict[str, int] = {}
    for route in routes:
        if route.entity not in names:
            raise _refused(
                f"traffic_config has a route to {route.entity!r}; the served entities are {', '.join(names)}"
            )
        if route.entity in parts:
            raise _refused(f"traffic_config has two routes to {route.entity!r}; give each served entity at most one")
        if not 0 <= route.percentage <= 100:
            raise _refused(
                f"traffic_percentage of {route.entity!r} is {route.percentage}; expected a whole number from 0 to 100"
            )
        parts[route.entity] = route.percentage
    if (total := sum(parts.values())) != 100:
        told = ", ".join(f"{name} {part}" for name, part in parts.items())
        raise _refused(f"the traffic percentages add up to {total} ({told}); they must add up to 100")
    return tuple(parts.get(name, 0) for name in names)


def _refused(message: str) -> Refusal:
    return Refusal("INVALID_PARAMETER_VALUE", message, param="traffic_config")
