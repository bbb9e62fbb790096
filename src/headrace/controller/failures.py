"""Failures in a row, kept: a controller that comes after another goes on slowing down what crashes again and again."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, fields, replace
from typing import Any

from sqlalchemy import delete, insert, select

from headrace.controller.backoff import Backoff
from headrace.controller.tables import FailuresRow
from headrace.ledger.database import Database

NAMES = tuple(field.name for field in fields(Backoff))


class Failures:
    """Of each served entity, as the store has them. What is over is not there."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stored: dict[str, Backoff] = {}
        self.reload()

    def reload(self) -> None:
        """What the store holds, as a controller that starts finds it."""
        with self._database.read() as session:
            rows = session.scalars(select(FailuresRow)).all()
            self._stored = {row.entity_id: Backoff(**{name: getattr(row, name) for name in NAMES}) for row in rows}

    def of(self, entity_id: str) -> Backoff:
        """To go on from, as it was saved."""
        stored = self._stored.get(entity_id)
        return Backoff() if stored is None else replace(stored)

    def save(self, backoffs: Iterable[tuple[str, Backoff]]) -> None:
        """Those of served entities, by their ids. Only what has changed is written."""
        changed = {entity_id: replace(one) for entity_id, one in backoffs if self._has_changed(entity_id, one)}
        self._delete(changed.keys() & self._stored.keys())
        kept = {entity_id: one for entity_id, one in changed.items() if one.failures}
        if kept:
            with self._database.write() as session:
                # Past the ORM, as a look may find that many have failed.
                rows = [_row(entity_id, one) for entity_id, one in kept.items()]
                session.connection().execute(insert(FailuresRow), rows)
            self._stored |= kept

    def keep(self, entity_ids: Collection[str]) -> None:
        """Forget those of all others."""
        self._delete(self._stored.keys() - set(entity_ids))

    def _has_changed(self, entity_id: str, backoff: Backoff) -> bool:
        if not backoff.failures:
            return entity_id in self._stored
        return backoff != self._stored.get(entity_id)

    def _delete(self, entity_ids: Collection[str]) -> None:
        if entity_ids:
            with self._database.write() as session:
                session.connection().execute(delete(FailuresRow).where(FailuresRow.entity_id.in_(entity_ids)))
            for entity_id in entity_ids:
                del self._stored[entity_id]


def _row(entity_id: str, backoff: Backoff) -> dict[str, Any]:
    """A log may hold anything, and PostgreSQL's text takes no NUL."""
    row = asdict(backoff) | {"entity_id": entity_id}
    return {
        name: told.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(told, str) else told
        for name, told in row.items()
    }
