"""``?dry_run=true``: what a create or an update would do and cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field

from headrace.controller.api.databricks_changes import predecessors, range_change, sold
from headrace.controller.api.databricks_notes import notes
from headrace.controller.api.databricks_replies import Reply
from headrace.controller.api.databricks_view import size
from headrace.controller.controller import Controller
from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.preview import Cost, EntityPreview, Preview, RollOut, preview
from headrace.controller.room import room_of
from headrace.controller.scaler import knobs_of
from headrace.ledger.bills import decimal

DryRunQuery = Annotated[
    bool, Query(alias="dry_run", description="Check and price the call as if it were made, and change nothing.")
]


class CostOutput(Reply):
    """Decimal numbers, of one hour."""

    at_min: str
    at_max: str


class CostsOutput(Reply):
    currency: str
    before: CostOutput | None = Field(default=None, description="There for an update, as is the difference.")
    after: CostOutput
    difference: CostOutput | None = None


class RangeOutput(Reply):
    """Reference tokens/s."""

    min: int
    max: int


class EntityDryRun(Reply):
    """One served entity of the new config."""

    name: str
    entity_name: str
    entity_version: str
    min_provisioned_throughput: int | None = Field(default=None, description="Reference tokens/s, as is the next.")
    max_provisioned_throughput: int | None = None
    provisioned_model_units: int | None = None
    tokens_s: RangeOutput = Field(description="The range in reference tokens/s, also of one in model units.")
    tokens_s_before: RangeOutput | None = Field(
        default=None, description="That of the served entity of which it takes the place; there where there is one."
    )
    chunk: int = Field(description="Reference tokens/s.")
    min_chunks: int
    max_chunks: int
    traffic_percentage: int
    roll_out: RollOut
    chunks_kept: int = Field(description="They run already and serve on.")
    chunks_started: int = Field(
        description="Until the minimum is ready; of a new one whose minimum is zero, its first chunk."
    )
    chunks_pending: int = Field(description="Of the maximum, those for which there is no room as things are.")
    says: str


class DryRun(Reply):
    """Nothing of it was done."""

    dry_run: Literal[True] = True
    name: str
    config_version: int = Field(description="That it would have.")
    served_entities: list[EntityDryRun]
    removed: list[str] = Field(description="Names of served entities that would go.")
    cost_per_hour: CostsOutput
    says: list[str] = Field(description="All of it in words.")


def dry_run(controller: Controller, before: Endpoint | None, after: Endpoint, *, of_call: Sequence[str] = ()) -> DryRun:
    """``before``: the endpoint that is to be updated. ``of_call``: notes on what the call asks for."""
    seen = preview(
        before,
        after,
        controller.roster.of(after.id),
        room=room_of(controller),
        shares=controller.fleet.shares,
        idle_to_zero_s=knobs_of(controller.config.scaling, after.options).idle_to_zero_s,
    )
    currency = after.target.entities[0].currency
    old = predecessors(before.current if before is not None else None, after.target)
    named = {one.entity.name for one in seen.entities}
    removed = [entity.name for entity in seen.removed if entity.name not in named]
    says = []
    for one in seen.entities:
        change = range_change(old.get(one.entity.id), one.entity)
        says.append(f"{one.entity.name}: {one.says}" + (f"; {change}" if change else ""))
    says += [f"{name}: is not served any more" for name in removed]
    says += [*notes(controller, after), *of_call]
    costs = _costs(seen, currency)
    return DryRun(
        dry_run=True,
        name=after.name,
        config_version=after.target.version,
        served_entities=[_entity(after, one, old.get(one.entity.id)) for one in seen.entities],
        removed=removed,
        cost_per_hour=costs,
        says=[*says, _price(costs)],
    )


def _entity(endpoint: Endpoint, one: EntityPreview, old: Entity | None) -> EntityDryRun:
    entity = one.entity
    ranges: dict[str, Any] = {"tokens_s": _range(entity)} | ({"tokens_s_before": _range(old)} if old else {})
    return EntityDryRun(
        name=entity.name,
        entity_name=entity.model.name,
        entity_version=entity.model.version,
        **(size(endpoint, entity) | ranges),
        chunk=entity.chunk,
        min_chunks=entity.min_chunks,
        max_chunks=entity.max_chunks,
        traffic_percentage=entity.traffic,
        roll_out=one.roll_out,
        chunks_kept=one.kept,
        chunks_started=one.starts,
        chunks_pending=one.pending,
        says=one.says,
    )


def _range(entity: Entity) -> RangeOutput:
    low, high = sold(entity)
    return RangeOutput(min=low, max=high)


def _costs(seen: Preview, currency: str) -> CostsOutput:
    told: dict[str, Any] = {"currency": currency, "after": _cost(seen.after)}
    if seen.before is not None:
        more = Cost(at_min=seen.after.at_min - seen.before.at_min, at_max=seen.after.at_max - seen.before.at_max)
        told |= {"before": _cost(seen.before), "difference": _cost(more)}
    return CostsOutput(**told)


def _cost(cost: Cost) -> CostOutput:
    return CostOutput(at_min=decimal(cost.at_min), at_max=decimal(cost.at_max))


def _price(costs: CostsOutput) -> str:
    said = f"it costs {costs.after.at_min} to {costs.after.at_max} {costs.currency} an hour"
    if costs.before is None or costs.difference is None:
        return said
    before = f"{costs.before.at_min} to {costs.before.at_max}"
    more = costs.difference
    return f"{said}, instead of {before}: {_more(more.at_min)} at the minimum, {_more(more.at_max)} at the maximum"


def _more(difference: str) -> str:
    if not float(difference):
        return "the same"
    return f"{difference[1:]} less" if difference.startswith("-") else f"{difference} more"
