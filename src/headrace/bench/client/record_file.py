"""Records on disk: blocks that are appended whole, so that a reader can follow the writer, and a crash costs one block.

A block is a head (with a checksum of the rest), rows of ``records.REQUEST``, arrival times (f8) and tokens (u2) of
their events, and the error texts that are new in it, as JSON. In a file, indexes of events and errors count from its
beginning.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.bench.client.records import REQUEST

_HEAD = struct.Struct("<4sIIII")
_MAGIC = b"HRB2"
_CODES = {"u1": "B", "u2": "H", "u4": "I", "i4": "i", "i8": "q", "b1": "?", "f8": "d"}
_ROW = struct.Struct("<" + "".join(_CODES[REQUEST[name].str[1:]] for name in REQUEST.names or ()))
assert _ROW.size == REQUEST.itemsize
MOST_ERRORS = 500
"""Distinct texts of one process; all others are one."""
OTHER_ERRORS = "other errors: there are too many different ones"


class RecordWriter:
    """Rows wait in memory until ``flush``."""

    def __init__(self, path: Path, zero: float) -> None:
        """``zero``: of the run's clock, by which arrivals are written. Raises OSError."""
        self._file = path.open("ab")
        self._zero = zero
        self._rows: list[bytes] = []
        self._times = array("d")
        self._tokens = array("H")
        self._events = 0
        self._errors: dict[str, int] = {}
        self._new_errors: list[str] = []

    def add(self, fields: Sequence[object], times: Sequence[float], tokens: Sequence[int], error: str | None) -> None:
        """``fields``: those of ``REQUEST`` up to ``events``, and ``tokens_from``, which is its last. ``times`` are of
        ``time.monotonic``."""
        *most, tokens_from = fields
        self._rows.append(_ROW.pack(*most, self._events, self._index(error), tokens_from))
        self._times.extend(times)
        self._tokens.extend(tokens)
        self._events += len(times)

    def flush(self, at_least: int = 1) -> None:
        """Append what waits, if it is so many requests and events together. Raises OSError."""
        if not self._rows or len(self._rows) + len(self._times) < at_least:
            return
        errors = msgspec.json.encode(self._new_errors)
        times = np.frombuffer(self._times) - self._zero
        body = b"".join((*self._rows, times.tobytes(), self._tokens.tobytes(), errors))
        head = _HEAD.pack(_MAGIC, len(self._rows), len(self._times), len(errors), zlib.crc32(body))
        self._file.write(head + body)
        self._file.flush()
        self._rows.clear()
        self._new_errors.clear()
        self._times, self._tokens = array("d"), array("H")

    def close(self) -> None:
        """With all that waits. Raises OSError."""
        self.flush()
        self._file.close()

    def _index(self, error: str | None) -> int:
        if error is None:
            return -1
        index = self._errors.get(error)
        if index is None:
            if len(self._errors) >= MOST_ERRORS:
                return self._index(OTHER_ERRORS) if error != OTHER_ERRORS else self._new(OTHER_ERRORS)
            index = self._new(error)
        return index

    def _new(self, error: str) -> int:
        index = self._errors[error] = len(self._errors)
        self._new_errors.append(error)
        return index


@dataclass(frozen=True, slots=True)
class Block:
    rows: NDArray[np.void]
    times: NDArray[np.float64]
    tokens: NDArray[np.uint16]
    errors: list[str]


class RecordTail:
    """Follows one file."""

    def __init__(self, path: Path, *, torn: bool = False) -> None:
        """``torn``: the machine may have failed while it was written, so it ends with the last block that is whole."""
        self._path = path
        self._torn = torn
        self._at = 0

    def read(self) -> list[Block]:
        """The blocks that are new and complete; what a writer has left unfinished stays unread. Raises OSError,
        and ValueError for what is no block."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return []
        blocks = []
        at = 0
        while at + _HEAD.size <= len(data):
            magic, rows, events, errors, checksum = _HEAD.unpack_from(data, at)
            first = at + _HEAD.size
            times = first + rows * _ROW.size
            tokens = times + events * 8
            texts = tokens + events * 2
            end = texts + errors
            broken = magic != _MAGIC or (end <= len(data) and zlib.crc32(data[first:end]) != checksum)
            if broken and not self._torn:
                raise ValueError(f"{self._path} is no file of records, or a broken one")
            if broken or end > len(data):
                break
            blocks.append(
                Block(
                    np.frombuffer(data, REQUEST, rows, first),
                    np.frombuffer(data, np.float64, events, times),
                    np.frombuffer(data, np.uint16, events, tokens),
                    msgspec.json.decode(data[texts:end], type=list[str]),
                )
            )
            at = end
        self._at += at
        return blocks
