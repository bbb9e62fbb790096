"""From the journals of the gateways to usage rows: each record once, however often it is read.

A batch of records, the positions after them and the conflicts among them go out in one transaction. A crash at any
point loses the whole batch, which is then read again. Nothing is ever added up here, so reading twice is harmless.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from headrace.journal.reader import BATCH_BYTES, Batch, Position, read, writer_alive, writers
from headrace.journal.records import Record
from headrace.ledger.database import Database
from headrace.ledger.fold import Effect, digest, fold, recover
from headrace.ledger.schema import Conflict, JournalPosition, Usage
from headrace.policy.work import Weights

log = logging.getLogger(__name__)

WeightsOf = Callable[[str, int, str], Weights | None]
"""(endpoint id, config version, served entity id) -> the weights that were frozen with it."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """What one pass did."""

    records: int = 0
    """Applied."""
    conflicts: int = 0
    """New ones."""
    recovered: int = 0
    corrupt: int = 0
    """Damaged lines that were skipped."""

    def __add__(self, other: Ingested) -> Ingested:
        return Ingested(
            self.records + other.records,
            self.conflicts + other.conflicts,
            self.recovered + other.recovered,
            self.corrupt + other.corrupt,
        )


class Ingest:
    """Reads every journal of a folder into the database. One at a time; call it from a thread."""

    def __init__(
        self, database: Database, folder: Path, weights_of: WeightsOf, *, batch_bytes: int = BATCH_BYTES // 16
    ) -> None:
        """``batch_bytes``: bound of one transaction, so that other writers are not kept waiting."""
        self._database = database
        self._folder = folder
        self._weights_of = weights_of
        self._batch_bytes = batch_bytes

    def run(self, now_ms: int) -> Ingested:
        """Everything that is in the journals now. ``now_ms`` only dates conflicts."""
        done = Ingested()
        with self._database.read() as session:
            finished = set(session.scalars(select(JournalPosition.writer).where(JournalPosition.finished)))
        for writer in writers(self._folder):
            if writer not in finished:
                done += self._one(writer, now_ms)
        return done

    def _one(self, writer: str, now_ms: int) -> Ingested:
        # Asked before reading: where it says no, what is then read to the end is everything.
        alive = writer_alive(self._folder, writer)
        done = Ingested()
        while True:
            with self._database.write() as session:
                at = session.get(JournalPosition, writer)
                if at is None:
                    at = JournalPosition(writer=writer, sequence=0, offset=0, finished=False)
                    session.add(at)
                start = Position(at.sequence, at.offset)
                batch = read(self._folder, writer, start, max_bytes=self._batch_bytes)
                done += self._apply(session, writer, batch, now_ms)
                at.sequence, at.offset = batch.next.sequence, batch.next.offset
                if batch.at_end and not alive:
                    done += self._recover(session, writer)
                    at.finished = True
            if batch.at_end:
                return done

    def _apply(self, session: Session, writer: str, batch: Batch, now_ms: int) -> Ingested:
        applied = conflicts = 0
        rows = _rows(session, [entry.record.rid for entry in batch.entries])
        for entry in batch.entries:
            row = rows.get(entry.record.rid)
            if row is None:
                row = rows[entry.record.rid] = Usage(rid=entry.record.rid, writer=writer, **_NOTHING_USED)
                session.add(row)
            effect = fold(row, entry.record)
            applied += effect is Effect.APPLIED
            if effect is Effect.CONFLICT:
                conflicts += _note_conflict(session, writer, entry.record, now_ms)
        for damage in batch.corrupt:
            log.error(
                "a damaged line of the journal was skipped",
                extra={"fields": {"file": damage.file, "offset": damage.offset, "reason": damage.reason}},
            )
        return Ingested(records=applied, conflicts=conflicts, corrupt=len(batch.corrupt))

    def _recover(self, session: Session, writer: str) -> Ingested:
        left_open = session.scalars(select(Usage).where(Usage.writer == writer, Usage.ended.is_(None))).all()
        for row in left_open:
            weights = None
            if row.endpoint is not None and row.config_version is not None and row.entity is not None:
                weights = self._weights_of(row.endpoint, row.config_version, row.entity)
            recover(row, weights)
            log.warning(
                "a request of a gateway that died was settled with what is known of it",
                extra={"fields": {"request_id": row.rid, "gateway": writer, "output_tokens": row.output_tokens}},
            )
        return Ingested(recovered=len(left_open))


def _rows(session: Session, rids: list[str]) -> dict[str, Usage]:
    """The rows of these requests that exist, asked for in as many questions as the databases' limits need."""
    found: dict[str, Usage] = {}
    for start in range(0, len(rids), _RIDS_PER_QUERY):
        asked = rids[start : start + _RIDS_PER_QUERY]
        found |= {row.rid: row for row in session.scalars(select(Usage).where(Usage.rid.in_(asked)))}
    return found


_RIDS_PER_QUERY = 500

_NOTHING_USED = {"input_tokens": 0, "cached_tokens": 0, "output_tokens": 0, "work": 0.0, "exact": False}
"""Set at once, as defaults of columns reach a row only when it is written."""


def _note_conflict(session: Session, writer: str, record: Record, now_ms: int) -> int:
    """Keep a refused record and raise the alarm; 0 where that was done before."""
    refused = msgspec.to_builtins(record)
    kind, name = str(refused["kind"]), digest(record)
    known = select(Conflict.id).where(
        Conflict.rid == record.rid, Conflict.kind == kind, Conflict.seq == record.seq, Conflict.digest == name
    )
    if session.scalar(known) is not None:
        return 0
    reason = f"request {record.rid} already has another {kind!r} record, or has ended"
    session.add(
        Conflict(
            found_ms=now_ms,
            writer=writer,
            rid=record.rid,
            kind=kind,
            seq=record.seq,
            digest=name,
            refused=refused,
            reason=reason,
        )
    )
    log.critical(
        "ledger conflict: a journal record contradicts one that was ingested; it was not applied",
        extra={"fields": {"request_id": record.rid, "kind": kind, "seq": record.seq, "gateway": writer}},
    )
    return 1
