"""What principals may do with an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from sqlalchemy import select

from headrace.controller.principals import Principal, principal_of
from headrace.controller.tables import PermissionsRow
from headrace.ledger.database import Database


class Level(IntEnum):
    """Each includes those before it."""

    CAN_VIEW = 1
    CAN_QUERY = 2
    CAN_MANAGE = 3

    @property
    def words(self) -> str:
        """What it allows."""
        return {
            Level.CAN_VIEW: "Can see the endpoint in lists and read its configuration and state",
            Level.CAN_QUERY: "Can also send requests to the endpoint",
            Level.CAN_MANAGE: "Can also change and delete the endpoint, and give permissions on it",
        }[self]


Levels = Mapping[Principal, Level]


class Permissions:
    """Those that were changed, by endpoint, held in memory and written through. The store deletes an endpoint's."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.read() as session:
            rows = session.scalars(select(PermissionsRow)).all()
        self._of: dict[str, Levels] = {row.endpoint_id: _read(row.levels) for row in rows}

    def of(self, endpoint_id: str) -> Levels | None:
        """None where they are as the endpoint was made with."""
        return self._of.get(endpoint_id)

    def set(self, endpoint_id: str, levels: Levels) -> None:
        written = {str(principal): level.name for principal, level in levels.items()}
        with self._database.write() as session:
            session.merge(PermissionsRow(endpoint_id=endpoint_id, levels=written))
        self._of[endpoint_id] = dict(levels)


def _read(levels: Mapping[str, str]) -> Levels:
    return {principal_of(text): Level[level] for text, level in levels.items()}
