"""Failures in a row, kept: a controller that comes after another goes on slowing down what crashes again and again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, fields, replace

from sqlalchemy import delete, select

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

    def save(self, entity_id: str, backoff: Backoff) -> None:
        """Write what has changed, if anything has."""
        if not backoff.failures:
            self._delete({entity_id} & self._stored.keys())
        elif backoff != self._stored.get(entity_id):
            row = FailuresRow(entity_id=entity_id, **asdict(backoff))
            # A log may hold anything, and PostgreSQL's text takes no NUL.
            row.message, row.tail = (
                text.replace("\0", "\N{REPLACEMENT CHARACTER}") for text in (row.message, row.tail)
            )
            with self._database.write() as session:
                session.merge(row)
            self._stored[entity_id] = replace(backoff)

    def keep(self, entity_ids: Collection[str]) -> None:
        """Forget those of all others."""
        self._delete(self._stored.keys() - set(entity_ids))

    def _delete(self, entity_ids: Collection[str]) -> None:
        if entity_ids:
            with self._database.write() as session:
                session.execute(delete(FailuresRow).where(FailuresRow.entity_id.in_(entity_ids)))
            for entity_id in entity_ids:
                del self._stored[entity_id]
