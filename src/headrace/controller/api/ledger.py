"""Usage and bills over REST."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from headrace.controller.api.auth import Admin, ControllerOf
from headrace.controller.controller import Controller
from headrace.controller.refusal import Refusal
from headrace.controller.store import EntityName, Store
from headrace.ledger import usage as ledger_usage
from headrace.ledger.bills import EndpointBill, bill, decimal
from headrace.ledger.schema import Usage
from headrace.ledger.usage import Group, Sum, Window
from headrace.policy.billing import Line, Span

MOST_REQUESTS = 10_000

router = APIRouter(prefix="/api/headrace/v1", tags=["headrace"])

LAST_MS = 253_402_300_799_999
"""Of the year 9999, the last that calendars here know."""

Ms = Annotated[int, Field(ge=0, le=LAST_MS)]
FromMs = Annotated[Ms | None, Query(description="Unix milliseconds, included.")]
ToMs = Annotated[Ms | None, Query(description="Unix milliseconds, not included.")]


Groups = Literal["request", "key", "endpoint", "entity", "hour"]


class SumInfo(BaseModel):
    """Tokens of several requests. ``work`` is in reference tokens."""

    group: str
    """Of a served entity, ``endpoint/entity``; empty where it is not known."""
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    total_tokens: int
    work: float
    inexact: int
    recovered: int
    rejected: int


class RequestInfo(BaseModel):
    """One request that has ended."""

    rid: str
    endpoint: str | None
    entity: str | None
    """Name of the served entity; None where the request was not dispatched."""
    key: str | None
    band: str | None
    status: int | None
    outcome: str | None
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    total_tokens: int
    work: float
    exact: bool
    stream: bool | None
    arrived_ms: int | None
    settled_ms: int | None
    queue_ms: float | None
    ttft_ms: float | None
    e2e_ms: float | None
    replica: str | None
    config_version: int | None
    client_request_id: str | None
    user: str | None
    usage_context: dict[str, str] | None


class UsageInfo(BaseModel):
    group: Groups
    rows: list[SumInfo | RequestInfo]
    total: SumInfo
    in_flight: int
    """Requests that have not ended; they are not in the sums."""
    conflicts: int


class SpanInfo(BaseModel):
    """A time over which nothing changed: ``chunks`` were billed."""

    from_ms: int
    to_ms: int
    chunks: int
    ready: int
    draining_own: int
    min_chunks: int
    endpoint_ready: bool
    """This served entity of it has a chunk, and its minimum was ready once: else no missing chunk is billed."""


class LineInfo(BaseModel):
    """amount_micro = (chunk_ms * price_micro_per_chunk_hour + 1,800,000) // 3,600,000"""

    hour_start_ms: int
    hour: str
    entity: str
    """Name of the served entity."""
    entity_id: str
    config_version: int
    chunk_ms: int
    price_micro_per_chunk_hour: int
    price: str
    amount_micro: int
    amount: str
    spans: list[SpanInfo]


class BillInfo(BaseModel):
    endpoint: str
    endpoint_id: str
    chunk_ms: int
    amount_micro: int
    amount: str
    lines: list[LineInfo]


class BillsInfo(BaseModel):
    from_ms: int
    to_ms: int
    currency: str
    bills: list[BillInfo]
    total_micro: int
    total: str


@router.get("/usage")
async def usage(
    key: Admin,
    controller: ControllerOf,
    endpoint: str | None = None,
    of_key: Annotated[str | None, Query(alias="key")] = None,
    from_ms: FromMs = None,
    to_ms: ToMs = None,
    group: Groups = "endpoint",
    limit: Annotated[int, Query(ge=1, le=MOST_REQUESTS, description="Of requests.")] = 1000,
    after: Annotated[str | None, Query(description="Request id that the page before ended with.")] = None,
) -> UsageInfo:
    """Tokens of requests that ended in the window: one by one, newest first, or added up."""
    window = Window(endpoint=endpoint, key=of_key, from_ms=from_ms, to_ms=to_ms)
    await controller.ingest()
    return await asyncio.to_thread(_usage, controller, window, group, limit, after)


@router.get("/bill")
async def bills(
    key: Admin,
    controller: ControllerOf,
    endpoint: str | None = None,
    from_ms: FromMs = None,
    to_ms: ToMs = None,
) -> BillsInfo:
    """What the chunks cost, in hourly lines. By default from the beginning until now."""
    now_ms = controller.clock.now_ms()
    start, end = from_ms or 0, now_ms if to_ms is None else to_ms
    if start > end:
        raise Refusal("INVALID_PARAMETER_VALUE", f"from_ms is {start}, after to_ms, {end}", param="from_ms")
    return await asyncio.to_thread(_bills, controller, endpoint, start, end, now_ms)


def _usage(
    controller: Controller,
    window: Window,
    group: Groups,
    limit: int,
    after: str | None,
) -> UsageInfo:
    names = controller.store.entity_names()
    with controller.database.read() as session:
        rows: list[SumInfo | RequestInfo]
        if group == "request":
            rows = [_request(row, names) for row in ledger_usage.requests(session, window, limit=limit, after=after)]
        elif group == "entity":
            sums = [_labelled(_sum(one), names) for one in ledger_usage.grouped(session, window, Group.ENTITY)]
            rows = [*sorted(sums, key=lambda one: one.group)]
        else:
            rows = [_sum(one) for one in ledger_usage.grouped(session, window, Group(group))]
        return UsageInfo(
            group=group,
            rows=rows,
            total=_sum(ledger_usage.totals(session, window)),
            in_flight=ledger_usage.in_flight(session),
            conflicts=ledger_usage.conflicts(session),
        )


def _bills(controller: Controller, endpoint: str | None, from_ms: int, to_ms: int, now_ms: int) -> BillsInfo:
    names = controller.store.names()
    wanted = [one for one in controller.timeline.endpoints() if endpoint in (None, one, names.get(one))]
    if endpoint is not None and not wanted:
        raise Refusal("RESOURCE_DOES_NOT_EXIST", f"no endpoint {endpoint[:80]!r} was ever billed", param="endpoint")
    bills = (bill(controller.timeline, one, from_ms, to_ms, now_ms=now_ms) for one in wanted)
    found = [_bill(controller.store, names.get(one.endpoint, one.endpoint), one) for one in bills]
    total = sum(one.amount_micro for one in found)
    return BillsInfo(
        from_ms=from_ms,
        to_ms=min(to_ms, now_ms),
        currency=controller.config.currency,
        bills=found,
        total_micro=total,
        total=decimal(total),
    )


def _bill(store: Store, name: str, one: EndpointBill) -> BillInfo:
    lines = [_line(store, one.endpoint, entity.entity, line) for entity in one.entities for line in entity.lines]
    return BillInfo(
        endpoint=name,
        endpoint_id=one.endpoint,
        chunk_ms=one.chunk_ms,
        amount_micro=one.amount_micro,
        amount=decimal(one.amount_micro),
        lines=sorted(lines, key=lambda line: (line.hour_start_ms, line.config_version)),
    )


def _line(store: Store, endpoint_id: str, entity_id: str, line: Line) -> LineInfo:
    entity = store.entity(endpoint_id, line.config_version, entity_id)
    return LineInfo(
        hour_start_ms=line.hour_start_ms,
        hour=datetime.fromtimestamp(line.hour_start_ms / 1000, UTC).isoformat(),
        entity=entity.name if entity is not None else entity_id,
        entity_id=entity_id,
        config_version=line.config_version,
        chunk_ms=line.chunk_ms,
        price_micro_per_chunk_hour=line.price_micro_per_chunk_hour,
        price=decimal(line.price_micro_per_chunk_hour),
        amount_micro=line.amount_micro,
        amount=decimal(line.amount_micro),
        spans=[_span(span) for span in line.spans],
    )


def _span(span: Span) -> SpanInfo:
    return SpanInfo(**{name: getattr(span, name) for name in SpanInfo.model_fields})


def _sum(one: Sum) -> SumInfo:
    return SumInfo(**{name: getattr(one, name) for name in SumInfo.model_fields})


def _labelled(one: SumInfo, names: Mapping[str, EntityName]) -> SumInfo:
    name = names.get(one.group)
    return one if name is None else one.model_copy(update={"group": "/".join(name)})


def _request(row: Usage, names: Mapping[str, EntityName]) -> RequestInfo:
    told = {name: getattr(row, name) for name in RequestInfo.model_fields if hasattr(row, name)}
    name = names.get(row.entity) if row.entity is not None else None
    told |= {
        "endpoint": row.endpoint_name,
        "entity": name.entity if name is not None else row.entity,
        "total_tokens": row.input_tokens + row.output_tokens,
    }
    return RequestInfo(**told)
