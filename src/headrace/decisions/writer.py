"""Writes a decision log: never in the way of a decision, and never larger than its bound.

The file is rotated by size; each file and each life of the controller begins a segment. What the disk refuses is lost,
and the segment with it: the next record that it takes begins another one.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from headrace import __version__
from headrace.decisions.records import FORMAT, Began, Decided, Record, Reported, Terms, Watched, digest, encode
from headrace.policy.observing import Bought, Chunks, Memory, Report
from headrace.policy.scaling import LAW, Decision, Knobs, State

ROTATE_BYTES = 64 << 20
KEPT_FILES = 4
"""``FILE`` and those before it: ``FILE.1``, ``FILE.2``, ``FILE.3``."""

log = logging.getLogger(__name__)


class Subject(Protocol):
    """A served entity whose decisions are recorded."""

    @property
    def entity(self) -> str:
        """Id."""

    def remembered(self) -> tuple[Memory, State]:
        """All that its decisions depend on at this moment, beside what they are given."""


class DecisionLog:
    """One file and its elders. For one thread."""

    def __init__(
        self, path: Path, *, now: Callable[[], float], now_ms: Callable[[], int], rotate_bytes: int = ROTATE_BYTES
    ) -> None:
        """Opens it at the first record. ``now``: seconds, monotonic; ``now_ms``: Unix time."""
        self.path = path
        self.failure: str | None = None
        """Why nothing is recorded now; None where it is."""
        self._now = now
        self._now_ms = now_ms
        self._rotate_bytes = rotate_bytes
        self._why = "start"
        self._fd: int | None = None
        self._size = 0
        self._numbers: dict[str, int] = {}
        self._next = 0
        """Number of the next entity that is named in this segment."""
        self._terms: dict[int, Terms] = {}

    def watch(self, subject: Subject) -> None:
        """To be called before the subject is told of a report, and before it looks: what it knows then is recorded
        where this segment does not have it yet."""
        if self._fd is None or self._size >= self._rotate_bytes:
            self._begin()
        if subject.entity not in self._numbers:
            memory, state = subject.remembered()
            number = self._numbers[subject.entity] = self._next
            self._next += 1
            self._write(Watched(of=number, entity=subject.entity, memory=memory, state=state))

    def forget(self, entity: str) -> None:
        """What it knows has changed by other than what is recorded: it is recorded anew when it is watched next."""
        self._terms.pop(self._numbers.pop(entity, -1), None)

    def report(self, entity: str, now: float, gateway: str, report: Report) -> None:
        self._write(
            Reported(
                of=self._numbers.get(entity, -1),
                now=now,
                gateway=gateway,
                arrivals=report.arrivals,
                offered_work=report.offered_work,
                queued=report.queued,
                queued_work=report.queued_work,
                oldest_wait_s=report.oldest_wait_s,
                in_flight=report.in_flight,
            )
        )

    def decided(
        self,
        entity: str,
        names: tuple[str, str],
        bought: Bought,
        knobs: Knobs,
        chunks: Chunks,
        *,
        connected: Sequence[str],
        metrics_age_s: float | None,
        now: float,
        decision: Decision,
    ) -> None:
        """``names``: of the endpoint and of the entity."""
        of = self._numbers.get(entity, -1)
        terms = Terms(of=of, endpoint=names[0], name=names[1], bought=bought, knobs=knobs)
        if self._terms.get(of) != terms:
            self._terms[of] = terms
            self._write(terms)
        self._write(
            Decided(
                of=of,
                now=now,
                has=chunks,
                connected=tuple(connected),
                metrics_age_s=metrics_age_s,
                chunks=decision.chunks,
                reason=decision.reason,
                digest=digest(decision),
            )
        )

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _begin(self) -> None:
        """A new segment, in a new file where this one is full."""
        try:
            if self._fd is None:
                self._open()
            if self._size >= self._rotate_bytes:
                self._rotate()
                self._open()
            self._end_line()
        except OSError as error:
            self._fail(error)
            return
        self._numbers, self._terms, self._next = {}, {}, 0
        now, now_ms = self._now(), self._now_ms()
        self._write(Began(format=FORMAT, version=__version__, law=LAW, at_ms=now_ms, now=now, why=self._why))
        if self._fd is not None:
            self._why, self.failure = "rotation", None

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _end_line(self) -> None:
        """What was cut off with the process before this one is a line of its own."""
        assert self._fd is not None
        if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
            self._size += os.write(self._fd, b"\n")

    def _rotate(self) -> None:
        self.close()
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{age}") for age in range(1, KEPT_FILES))]
        for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
            with contextlib.suppress(FileNotFoundError):
                newer.replace(older)

    def _write(self, record: Record) -> None:
        if self._fd is None:
            return
        line = encode(record) + b"\n"
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            self._fail(error)
            return
        self._size += written
        if written < len(line):
            self._fail(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def _fail(self, error: OSError) -> None:
        """Until a new segment can be begun."""
        self.close()
        self._why = "gap"
        if self.failure is None:
            log.warning("decisions are not recorded", extra={"fields": {"file": str(self.path), "why": str(error)}})
        self.failure = f"{self.path}: {error.strerror or error}"
