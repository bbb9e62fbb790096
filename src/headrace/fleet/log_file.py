"""A child's log: a file that is rotated by size, and its last lines in memory."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

ROTATE_BYTES = 10_000_000
KEEP_FILES = 3
"""The one being written and those before it: ``NAME.log``, ``NAME.log.1``, ``NAME.log.2``."""
TAIL_LINES = 20
TAIL_LINE_BYTES = 500


class LogFile:
    """Append-only. A disk that refuses (full, gone) costs log lines, never the process that writes them."""

    def __init__(self, path: Path, *, rotate_bytes: int = ROTATE_BYTES) -> None:
        self.path = path
        self.rotate_bytes = rotate_bytes
        self.lost_bytes = 0
        """Not written, because the disk refused."""
        self._fd: int | None = None
        self._size = 0

    def write(self, data: bytes) -> None:
        try:
            if self._fd is None:
                self._open()
            elif self._size + len(data) > self.rotate_bytes:
                self._rotate()
            assert self._fd is not None
            self._size += os.write(self._fd, data)
        except OSError:
            self.lost_bytes += len(data)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size
        if self._size >= self.rotate_bytes:
            self._rotate()

    def _rotate(self) -> None:
        self.close()
        for age in range(KEEP_FILES - 1, 0, -1):
            newer = self.path if age == 1 else self.path.with_name(f"{self.path.name}.{age - 1}")
            if newer.exists():
                newer.replace(self.path.with_name(f"{self.path.name}.{age}"))
        self._open()


class Tail:
    """The last lines of a stream of bytes."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._rest = b""

    def write(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._lines.extend(line[:TAIL_LINE_BYTES] for line in lines)
        self._rest = self._rest[:TAIL_LINE_BYTES]

    def text(self) -> str:
        lines = [*self._lines, self._rest] if self._rest else list(self._lines)
        return b"\n".join(lines).decode(errors="replace")
