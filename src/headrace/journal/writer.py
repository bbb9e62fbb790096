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
PROBE_BYTES = 64 * 1024
"""About a hundred requests: a disk that has less room than this is as good as full."""

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
        """Bytes of the newest file."""
        self._torn = False
        """It ends with a piece of a line that could not be taken back."""
        self._must_rotate = False
        self._dirty = threading.Event()
        """Something was written since the last sync began. Set after a write, cleared before an fsync: never missed."""
        self._dirty.set()  # the new name
        self._closing = threading.Event()
        # Shared with the sync thread:
        self._handover = threading.Lock()
        self._retired: list[int] = []
        self._new_names = True
        try:
            self._sequence = max(list_files(folder).get(writer_id, [0])) + 1
            self._fd = self._open(self._sequence)
        except OSError as error:
            raise JournalError(f"cannot open a journal in {folder}: {error.strerror or error}") from error
        self._syncer = threading.Thread(target=self._sync_loop, name="journal-sync", daemon=True)
        self._syncer.start()

    def append(self, record: Record, *, sync: bool = True) -> None:
        """Hand one record to the kernel. Raises JournalError; the record is then not in the journal.

        ``sync`` False: it can wait for the fsync that the next other record brings.
        """
        line = encode_line(record)
        try:
            if self._must_rotate or self._size + len(line) > self._rotate_bytes:
                self._rotate()
            if self._torn:
                line = b"\n" + line  # ends the torn piece, so that it costs nothing but itself
            written = os.write(self._fd, line)
            if written != len(line):
                self._write_rest(line, written)
        except OSError as error:
            raise JournalError(f"cannot write the journal: {error.strerror or error}") from error
        self._size += len(line)
        self._torn = False
        if sync and not self._dirty.is_set():
            self._dirty.set()

    def probe(self) -> None:
        """Whether there is room again, after an error of ``append``. Raises JournalError. No record comes of it."""
        try:
            if self._must_rotate:
                self._rotate()
            piece = bytes(PROBE_BYTES)
            written = os.write(self._fd, piece)
            if written != PROBE_BYTES:
                self._write_rest(piece, written)
            self._take_back(PROBE_BYTES)
        except OSError as error:
            raise JournalError(f"cannot write the journal: {error.strerror or error}") from error

    def close(self) -> None:
        """Sync what is written, then let the lock go. A second call does nothing."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._dirty.set()
        self._syncer.join()
        os.close(self._fd)

    def _write_rest(self, line: bytes, written: int) -> None:
        """The disk took only the beginning of the line: all of it now, or none of it and OSError."""
        try:
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError:
            self._take_back(written)
            raise

    def _take_back(self, written: int) -> None:
        """Undo bytes that are no whole line."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._size += written
            self._torn = True

    def _rotate(self) -> None:
        """Go on in a new file; a record that is too large for any has one to itself."""
        if not (self._size or self._must_rotate):
            return
        fresh = self._open(self._sequence + 1)
        with self._handover:
            self._retired.append(self._fd)
            self._fd = fresh
            self._new_names = True
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
            self._dirty.wait()
            self._sync()
            # What is written during this time shares the next fsync.
            self._closing.wait(SYNC_INTERVAL_S)
        self._sync()

    def _sync(self) -> None:
        self._dirty.clear()
        with self._handover:
            retired, self._retired = self._retired, []
            new_names, self._new_names = self._new_names, False
            current = self._fd
        try:
            for fd in (*retired, current):
                os.fsync(fd)
            if new_names:
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
