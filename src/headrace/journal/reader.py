"""The reading end of a journal: incremental, from where the last reading stopped.

To finish with a writer that has died: ask ``writer_alive`` first and read after it. Where it said no, what is then read
to the end is everything.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec

from headrace.journal.format import BadLine, decode_line, file_name, list_files
from headrace.journal.records import Record

BATCH_BYTES = 8 * 1024 * 1024
"""Of one reading, so that a long journal does not have to fit in memory."""


class Position(msgspec.Struct, frozen=True, order=True):
    """The place after a record; start from ``Position()``."""

    sequence: int = 0
    """Of the file."""
    offset: int = 0
    """Bytes."""


class Entry(msgspec.Struct, frozen=True):
    record: Record
    next: Position
    """Read from here to go on after this record."""


class Corrupt(msgspec.Struct, frozen=True):
    """A line that was skipped. Its content is never shown, as it may be a part of anything."""

    file: str
    offset: int
    length: int
    """Bytes, without the line feed."""
    reason: str


class Batch(msgspec.Struct, frozen=True):
    """What one reading gave, in the order of the journal."""

    entries: tuple[Entry, ...]
    corrupt: tuple[Corrupt, ...]
    next: Position
    """Read from here to go on, also where there was nothing but corrupt lines."""
    at_end: bool
    """No whole line was left when this was read."""
    torn_bytes: int
    """After the last whole line: a record that is being written, or that its writer died in."""


def writers(folder: Path) -> list[str]:
    """Ids of all writers that have files in the folder."""
    return list(list_files(folder))


def writer_alive(folder: Path, writer_id: str) -> bool:
    """Whether the writer still holds the lock of its newest file. False where it has no file."""
    while True:
        sequences = list_files(folder).get(writer_id)
        if not sequences:
            return False
        try:
            fd = os.open(folder / file_name(writer_id, sequences[-1]), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        # The writer may have gone on to the next file between the listing and the lock.
        if list_files(folder).get(writer_id) == sequences:
            return False


def read(folder: Path, writer_id: str, start: Position, *, max_bytes: int = BATCH_BYTES) -> Batch:
    """All whole records from ``start`` on, stopping at the first line end after ``max_bytes``.

    Corrupt lines are skipped and reported. The piece after the last line feed is left alone in the newest file; in an
    older one, which its writer finished with, it is reported as corrupt. Files before ``start`` may have been deleted.
    """
    entries: list[Entry] = []
    corrupt: list[Corrupt] = []
    position = start
    stop_after = max_bytes
    sequences = [sequence for sequence in list_files(folder).get(writer_id, ()) if sequence >= start.sequence]
    for sequence in sequences:
        name = file_name(writer_id, sequence)
        if sequence > position.sequence:
            position = Position(sequence, 0)
        with open(folder / name, "rb") as file:
            file.seek(position.offset)
            for line in file:
                if stop_after <= 0:
                    return Batch(tuple(entries), tuple(corrupt), position, at_end=False, torn_bytes=0)
                whole = line.endswith(b"\n")
                if not whole and sequence == sequences[-1]:
                    return Batch(tuple(entries), tuple(corrupt), position, at_end=True, torn_bytes=len(line))
                after = Position(sequence, position.offset + len(line))
                body = line.removesuffix(b"\n")
                try:
                    entries.append(Entry(decode_line(body), after))
                except BadLine as error:
                    corrupt.append(Corrupt(name, position.offset, len(body), str(error)))
                position = after
                stop_after -= len(line)
    return Batch(tuple(entries), tuple(corrupt), position, at_end=True, torn_bytes=0)
