"""What the controller did and why, for people and for tests that recompute its decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import msgspec
from sqlalchemy import select

from headrace.controller.tables import EventRow
from headrace.ledger.database import Database

Kind = Literal[
    "controller_started",
    "endpoint_created",
    "endpoint_deleted",
    "first_endpoint_refused",
    "config_proposed",
    "config_measured",
    "config_active",
    "config_failed",
    "options_changed",
    "permissions_changed",
    "scaled",
    "chunks_pending",
    "place_taken",
    "replica_ready",
    "replica_failed",
    "replica_stopped",
    "measuring_spoiled",
    "measuring_disturbed",
    "measuring_given_up",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Actor(NamedTuple):
    """Who called for what an event tells."""

    principal: str
    """As ``Principal`` names it, such as ``user:ann``."""
    key: str
    """Id."""
    words: str
    """For people."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the log."""

    id: int
    at_ms: int
    endpoint_id: str | None
    endpoint: str | None
    """Name."""
    kind: str
    message: str
    data: dict[str, Any]


class EventLog:
    """Append-only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        at_ms: int,
        kind: Kind,
        message: str,
        *,
        endpoint: tuple[str, str] | None = None,
        data: dict[str, Any] | None = None,
        by: Actor | None = None,
    ) -> None:
        """``endpoint``: id and name. ``data`` must be JSON. ``by``: None for what the server did by itself."""
        if by is not None:
            message = f"{message} (by {by.words})"
            data = {**(data or {}), "by": {"principal": by.principal, "key": by.key}}
        with self._database.write() as session:
            session.add(
                EventRow(
                    at_ms=at_ms,
                    endpoint_id=endpoint[0] if endpoint else None,
                    endpoint_name=endpoint[1] if endpoint else None,
                    kind=kind,
                    message=message,
                    data=data or {},
                )
            )

    def list(
        self,
        *,
        endpoint: str | None = None,
        kinds: Sequence[str] = (),
        limit: int = 100,
        after: int | None = None,
        before: int | None = None,
    ) -> list[Event]:
        """In the order in which they happened: the newest ``limit``, or the ``limit`` that follow the id ``after``.

        ``before``: only those that precede this id. ``endpoint``: name or id. ``kinds``: only these; none of them: all.
        """
        query = select(EventRow).limit(limit)
        if endpoint is not None:
            query = query.where((EventRow.endpoint_name == endpoint) | (EventRow.endpoint_id == endpoint))
        if kinds:
            query = query.where(EventRow.kind.in_(kinds))
        if before is not None:
            query = query.where(EventRow.id < before)
        if after is None:
            query = query.order_by(EventRow.id.desc())
        else:
            query = query.where(EventRow.id > after).order_by(EventRow.id)
        with self._database.read() as session:
            events = [_event(row) for row in session.scalars(query)]
        return events if after is not None else events[::-1]


def _event(row: EventRow) -> Event:
    return Event(
        id=row.id,
        at_ms=row.at_ms,
        endpoint_id=row.endpoint_id,
        endpoint=row.endpoint_name,
        kind=row.kind,
        message=row.message,
        data=row.data,
    )
