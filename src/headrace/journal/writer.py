"""The writing end of a journal: append-only, one writer a process.

What survives what:

- death of the process: every record that ``append`` has returned for; it is in the kernel by then;
- power failure: all but the last ``SYNC_INTERVAL_S`` and the time of one fsync: fsync runs in groups in a thread that
  the request path never waits for.

The newest file is locked for as long as its writer lives; that is how a reader knows that nothing more will come.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from pathlib import Path

from headrace.journal.format import check_writer_id, encode_line, file_name, list_files
from headrace.journal.records import Record

ROTATE_BYTES = 64 * 1024 * 1024
SYNC_INTERVAL_S = 0.2

log = logging.getLogger(__name__)


class JournalError(Exception):
    """A record could not be written (disk full, folder gone); nothing of it is in the journal."""


class Writer:
    """For one thread; the sync thread is its own."""

    def __init__(self, folder: Path, writer_id: str, *, rotate_bytes: int = ROTATE_BYTES) -> None:
        """Open the first file. Raises ValueError for an unusable id, JournalError where that fails."""
        check_writer_id(writer_id)
        self._folder = folder
        self._writer_id = writer_id
        self._rotate_bytes = rotate_bytes
        self._size = 0
        self._torn = False
        self._must_rotate = False
        # Under _changed, shared with the sync thread:
        self._changed = threading.Condition()
        self._dirty = True
        self._retired: list[int] = []
        self._closing = threading.Event()
        try:
            self._sequence = max(list_files(folder).get(writer_id, [0])) + 1
            self._fd = self._open(self._sequence)
        except OSError as error:
            raise JournalError(f"cannot open a journal in {folder}: {error.strerror or error}") from error
        self._thread = threading.Thread(target=self._sync_loop, name="journal-sync", daemon=True)
        self._thread.start()

    def append(self, record: Record) -> None:
        """Hand one record to the kernel. Raises JournalError; the record is then not in the journal."""
        line = encode_line(record)
        try:
            if self._must_rotate or (self._size and self._size + len(line) > self._rotate_bytes):
                self._rotate()
            self._write(line)
        except OSError as error:
            raise JournalError(f"cannot write the journal: {error.strerror or error}") from error

    def close(self) -> None:
        """Sync what is written, then let the lock go. A second call does nothing."""
        if self._closing.is_set():
            return
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self._thread.join()
        os.close(self._fd)

    def _write(self, line: bytes) -> None:
        start = self._size
        if self._torn:
            # A piece of an earlier line could not be taken back: end it, so that it costs nothing but itself.
            line = b"\n" + line
        try:
            while line:
                written = os.write(self._fd, line)
                self._size += written
                line = line[written:]
        except OSError:
            self._take_back(start)
            raise
        self._torn = False
        with self._changed:
            if not self._dirty:
                self._dirty = True
                self._changed.notify()

    def _take_back(self, start: int) -> None:
        """Undo a line of which the disk took only a part."""
        if self._size == start:
            return
        try:
            os.ftruncate(self._fd, start)
            self._size = start
        except OSError:
            self._torn = True

    def _rotate(self) -> None:
        fresh = self._open(self._sequence + 1)
        with self._changed:
            self._retired.append(self._fd)
            self._fd = fresh
            self._dirty = True
            self._changed.notify()
        self._sequence += 1
        self._size = 0
        self._torn = False
        self._must_rotate = False

    def _open(self, sequence: int) -> int:
        """A new file, locked before a reader can see it by its name."""
        path = self._folder / file_name(self._writer_id, sequence)
        unseen = path.with_suffix(".new")
        fd = os.open(unseen, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(unseen, path)
        except OSError:
            os.close(fd)
            raise
        return fd

    def _sync_loop(self) -> None:
        while not self._closing.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._dirty or self._closing.is_set())
            self._sync()
            # What is written during this time shares the next fsync.
            self._closing.wait(SYNC_INTERVAL_S)
        self._sync()

    def _sync(self) -> None:
        with self._changed:
            if not self._dirty:
                return
            self._dirty = False
            retired, self._retired = self._retired, []
            current = self._fd
        try:
            for fd in (*retired, current):
                os.fsync(fd)
            self._sync_folder()
        except OSError as error:
            # The kernel forgets pages that it failed to write: only a fresh file can be trusted from here on.
            self._must_rotate = True
            log.error("journal: fsync failed; going on in a new file", extra={"fields": {"reason": str(error)}})
        finally:
            for fd in retired:
                os.close(fd)

    def _sync_folder(self) -> None:
        """Make new names last; without it a power failure may lose a whole file."""
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
