"""How soon a replica that failed is started again: at once is too soon for one that fails at every start.

Replicas that ran at the same time and die of one cause are one failure: only one that was started after the last
failure, and fails too, is another one in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
STEADY_S = 60.0
"""Replicas that have served for so long have shown that the model runs here."""
FAILING_AFTER = 3
"""Failures in a row after which it is said to fail; until then it is said to start."""


@dataclass(slots=True)
class Backoff:
    """Failures in a row of the replicas of one served entity that run the same. Times are Unix milliseconds."""

    runs_as: str = ""
    """What failed last (``Entity.runs_as``). What runs another model well says nothing of it."""
    failures: int = 0
    not_before_ms: int = 0
    message: str = ""
    """Of the last failure."""
    tail: str = ""
    """Last log lines of the replica that failed last."""
    at_ms: int = 0
    ready_ms: int | None = None
    """Since when replicas are ready again; None: none was since the last failure."""

    def failed(self, at_ms: int, runs_as: str, *, started_ms: int, served_ms: int, message: str, tail: str) -> None:
        """A replica that was started at ``started_ms`` failed at ``at_ms``, having been ready for ``served_ms``."""
        anew = runs_as != self.runs_as or served_ms >= STEADY_S * 1000 or not self.failures
        if anew or started_ms > self.at_ms:
            self.failures = 1 if anew else self.failures + 1
            delay_s = min(FIRST_DELAY_S * 2 ** (self.failures - 1), LONGEST_DELAY_S)
            self.not_before_ms = at_ms + int(delay_s * 1000)
        self.runs_as, self.at_ms, self.message, self.tail = runs_as, at_ms, message, tail
        self.ready_ms = None

    def ready(self, runs_as: str, at_ms: int) -> None:
        """A replica became ready."""
        if runs_as == self.runs_as and at_ms > self.at_ms and self.ready_ms is None:
            self.ready_ms = at_ms

    def ended(self, runs_as: str) -> None:
        """A replica ended because it was not needed any more. If one was ready until then, the failures are over."""
        if runs_as == self.runs_as and self.ready_ms is not None:
            self.failures = 0

    def steady(self, ready_ms: Sequence[int | None], now_ms: int) -> None:
        """Since when each of the replicas is ready that are to run it, None for one that is not. The failures are over
        when all of them have served for long: one that has run for days says nothing of one that fails beside it."""
        since = [self.not_before_ms, *(at_ms for at_ms in ready_ms if at_ms is not None)]
        if ready_ms and None not in ready_ms and now_ms - max(since) >= STEADY_S * 1000:
            self.failures = 0

    @property
    def failing(self) -> bool:
        return self.failures >= FAILING_AFTER

    def may_start(self, now_ms: int) -> bool:
        # A clock that was set back must not make what failed wait for longer than was meant.
        return not self.at_ms <= now_ms < self.not_before_ms
