"""Journal and ledger as they lie on the disk, read from outside while the server runs or not."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.journal.reader import Corrupt, Position, read, writers
from headrace.journal.records import Progress, Record, Rejected, Reserved, Settled
from headrace.paths import DataDir

LOCKED_S = 0.2
"""While SQLite recovers its log after a kill, readers wait; longer than this only for a process that is held still."""


@dataclass
class Told:
    """What the journals say of one request."""

    rid: str
    writers: set[str] = field(default_factory=set)
    reserved: list[Reserved] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    ends: list[Settled | Rejected] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        return bool(self.ends)


class Journals:
    """All journals of a server; ``read`` goes on from where it stopped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._positions: dict[str, Position] = {}
        self._places: dict[str, list[tuple[Position, str]]] = defaultdict(list)
        """Of each writer: the place after each record, and whose record it is."""
        self.requests: dict[str, Told] = {}
        self.by_client_id: dict[str, Told] = {}
        self.corrupt: list[Corrupt] = []

    def read(self) -> None:
        for writer in writers(self._folder):
            at_end = False
            while not at_end:
                batch = read(self._folder, writer, self._positions.get(writer, Position()))
                self._positions[writer] = batch.next
                self.corrupt += batch.corrupt
                at_end = batch.at_end
                for entry in batch.entries:
                    self._take(writer, entry.record)
                    self._places[writer].append((entry.next, entry.record.rid))

    def _take(self, writer: str, record: Record) -> None:
        told = self.requests.setdefault(record.rid, Told(record.rid))
        told.writers.add(writer)
        match record:
            case Reserved():
                told.reserved.append(record)
                if record.client_request_id is not None:
                    self.by_client_id[record.client_request_id] = told
            case Progress():
                told.progress.append(record)
            case Settled() | Rejected():
                told.ends.append(record)

    def beyond(self, ingested: dict[str, Position]) -> set[str]:
        """Requests with a record that a ledger that has come so far does not have."""
        waiting: set[str] = set()
        for writer, places in self._places.items():
            at = ingested.get(writer, Position())
            for place, rid in reversed(places):
                if place <= at:
                    break
                waiting.add(rid)
        return waiting


class Ledger:
    """The server's SQLite file, read only."""

    def __init__(self, data: DataDir) -> None:
        self._path = data.database

    @property
    def shared_memory_inode(self) -> int:
        """Of the file on which SQLite takes its locks."""
        return self._path.with_name(self._path.name + "-shm").stat().st_ino

    def ingested(self) -> dict[str, Position] | None:
        """How far each journal was read; None where a process that is held still does not let anybody look."""
        try:
            rows = self._rows("SELECT writer, sequence, offset FROM journal_positions", timeout_s=LOCKED_S)
        except sqlite3.OperationalError:
            return None
        return {row["writer"]: Position(row["sequence"], row["offset"]) for row in rows}

    def usage(self) -> list[dict[str, Any]]:
        """One row a request, also those that have not ended."""
        return self._rows("SELECT * FROM usage")

    def conflicts(self) -> list[dict[str, Any]]:
        return self._rows("SELECT * FROM journal_conflicts")

    def _rows(self, query: str, *, timeout_s: float = 10.0) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, timeout=timeout_s)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]
