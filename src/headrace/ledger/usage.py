"""Usage: per request, or added up per key, endpoint, entity or hour. Raw tokens and work always stand side by side."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, or_, select
from sqlalchemy.orm import Session

from headrace.ledger.schema import Conflict, Usage

HOUR_MS = 3_600_000


class Group(StrEnum):
    KEY = "key"
    ENDPOINT = "endpoint"
    ENTITY = "entity"
    HOUR = "hour"


@dataclass(frozen=True, slots=True)
class Window:
    """Which requests: those that ended in [from_ms, to_ms)."""

    endpoint: str | None = None
    """Name or id."""
    key: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Sum:
    """Usage of several requests."""

    group: str
    """Key id, endpoint name, served entity's id, or the hour's start in Unix milliseconds; "" for all, and where it is
    not known, such as the entity of a request that was rejected."""
    requests: int
    """Dispatched and ended."""
    input_tokens: int
    cached_tokens: int
    """Part of the input."""
    output_tokens: int
    total_tokens: int
    """Input and output."""
    work: float
    """Reference tokens."""
    inexact: int
    """Requests among them whose tokens were counted or estimated, not told by the engine."""
    recovered: int
    """Requests among them that were settled after the death of their gateway."""
    rejected: int
    """Requests beside them that were answered 429 or 503 and used nothing."""


def totals(session: Session, window: Window) -> Sum:
    """All of the window in one sum."""
    return _sum(session.execute(_sums(window, None)).one(), "")


def grouped(session: Session, window: Window, by: Group) -> list[Sum]:
    """One sum a group, in the order of the groups."""
    column = _column(by)
    rows = session.execute(_sums(window, column).group_by(column).order_by(column)).all()
    return [_sum(row, "" if row.name is None else str(row.name)) for row in rows]


def requests(session: Session, window: Window, *, limit: int, after: str | None = None) -> list[Usage]:
    """Ended requests, newest first. ``after``: the request id that the page before ended with."""
    query = select(Usage).where(*_where(window)).order_by(Usage.settled_ms.desc(), Usage.rid.desc()).limit(limit)
    if after is not None:
        last = session.get(Usage, after)
        if last is not None and last.settled_ms is not None:
            same = (Usage.settled_ms == last.settled_ms) & (Usage.rid < last.rid)
            query = query.where(or_(Usage.settled_ms < last.settled_ms, same))
    return list(session.scalars(query))


def in_flight(session: Session) -> int:
    """Requests that were reserved and have not ended, as far as the journals were ingested."""
    return session.scalar(select(func.count()).select_from(Usage).where(Usage.ended.is_(None))) or 0


def conflicts(session: Session) -> int:
    """Records that contradict the ledger; anything but 0 needs a person."""
    return session.scalar(select(func.count()).select_from(Conflict)) or 0


def _where(window: Window) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = [Usage.ended.is_not(None)]
    if window.endpoint is not None:
        where.append(or_(Usage.endpoint_name == window.endpoint, Usage.endpoint == window.endpoint))
    if window.key is not None:
        where.append(Usage.key == window.key)
    if window.from_ms is not None:
        where.append(Usage.settled_ms >= window.from_ms)
    if window.to_ms is not None:
        where.append(Usage.settled_ms < window.to_ms)
    return where


def _column(by: Group) -> ColumnElement[Any]:
    match by:
        case Group.KEY:
            return Usage.key.expression
        case Group.ENDPOINT:
            return Usage.endpoint_name.expression
        case Group.ENTITY:
            return Usage.entity.expression
        case Group.HOUR:
            return Usage.settled_ms - Usage.settled_ms % HOUR_MS


def _sums(window: Window, column: ColumnElement[Any] | None) -> Select[Any]:
    served = Usage.ended != "rejected"

    def count(condition: ColumnElement[bool]) -> ColumnElement[int]:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    def total(value: Any) -> ColumnElement[Any]:
        return func.coalesce(func.sum(value), 0)

    columns: list[ColumnElement[Any]] = [
        count(served).label("requests"),
        total(Usage.input_tokens).label("input_tokens"),
        total(Usage.cached_tokens).label("cached_tokens"),
        total(Usage.output_tokens).label("output_tokens"),
        total(Usage.work).label("work"),
        count(served & Usage.exact.is_(False)).label("inexact"),
        count(Usage.ended == "recovered").label("recovered"),
        count(Usage.ended == "rejected").label("rejected"),
    ]
    if column is not None:
        columns.append(column.label("name"))
    return select(*columns).where(*_where(window))


def _sum(row: Any, group: str) -> Sum:
    return Sum(
        group=group,
        requests=row.requests,
        input_tokens=row.input_tokens,
        cached_tokens=row.cached_tokens,
        output_tokens=row.output_tokens,
        total_tokens=row.input_tokens + row.output_tokens,
        work=float(row.work),
        inexact=row.inexact,
        recovered=row.recovered,
        rejected=row.rejected,
    )
