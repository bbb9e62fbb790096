"""The records of all processes, put together as they come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from headrace.bench.client.record_file import Block, RecordTail
from headrace.bench.client.records import REQUEST, ProcessReport, Records

Scalar = TypeVar("Scalar", bound=np.generic)


class _Growing(Generic[Scalar]):
    """An array that is appended to; what was handed out stays as it was."""

    def __init__(self, empty: NDArray[Scalar]) -> None:
        self._room = empty
        self.size = 0

    def append(self, part: NDArray[Scalar]) -> NDArray[Scalar]:
        """The part's own place."""
        end = self.size + len(part)
        if end > len(self._room):
            room = np.empty(max(end, 2 * len(self._room)), self._room.dtype)
            room[: self.size] = self._room[: self.size]
            self._room = room
        self._room[self.size : end] = part
        placed = self._room[self.size : end]
        self.size = end
        return placed

    @property
    def all(self) -> NDArray[Scalar]:
        return self._room[: self.size]


class Merge:
    """Reads what is new in the files of a run."""

    def __init__(self, paths: Sequence[Path], *, torn: bool = False) -> None:
        """``torn``: as ``RecordTail`` says."""
        self._tails = [RecordTail(path, torn=torn) for path in paths]
        self._requests = _Growing(np.empty(0, REQUEST))
        self._times = _Growing(np.empty(0, np.float64))
        self._tokens = _Growing(np.empty(0, np.uint16))
        self._errors: dict[str, int] = {}
        self._indexes: list[list[int]] = [[] for _ in paths]
        """Of each file: its indexes of errors in the table of all."""
        self._events = [0] * len(paths)
        """Of each file: events read so far."""

    def read(self) -> None:
        """Raises OSError, and ValueError where a file is none of records."""
        for file, tail in enumerate(self._tails):
            for block in tail.read():
                self._add(file, block)

    def so_far(self, planned_s: tuple[float, ...] | None = None, stolen_share: float = 0.0) -> Records:
        """All that was read, in the order in which it was; costs nothing."""
        return self._of(self._requests.all, (), planned_s, stolen_share)

    def records(
        self,
        processes: tuple[ProcessReport, ...] = (),
        planned_s: tuple[float, ...] | None = None,
        stolen_share: float = 0.0,
    ) -> Records:
        """All that was read, in the order of the requests' numbers."""
        requests: NDArray[np.void] = self._requests.all
        requests = requests[np.argsort(requests["number"], kind="stable")]
        return self._of(requests, processes, planned_s, stolen_share)

    def _of(
        self,
        requests: NDArray[np.void],
        processes: tuple[ProcessReport, ...],
        planned_s: tuple[float, ...] | None,
        stolen_share: float,
    ) -> Records:
        return Records(
            requests=requests,
            event_s=self._times.all,
            event_tokens=self._tokens.all,
            errors=tuple(self._errors),
            processes=processes,
            planned_s=planned_s,
            stolen_share=stolen_share,
        )

    def _add(self, file: int, block: Block) -> None:
        indexes = self._indexes[file]
        indexes += [self._errors.setdefault(error, len(self._errors)) for error in block.errors]
        rows = self._requests.append(block.rows)
        rows["first_event"] += self._times.size - self._events[file]
        with_error = rows["error"] >= 0
        rows["error"][with_error] = np.asarray(indexes, np.int32)[rows["error"][with_error]]
        self._events[file] += len(block.times)
        self._times.append(block.times)
        self._tokens.append(block.tokens)
