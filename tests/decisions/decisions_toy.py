"""A served entity that scales by the law and records it, without a controller."""

from __future__ import annotations

from pathlib import Path

from headrace.decisions.writer import DecisionLog
from headrace.policy.observing import Bought, Chunks, Counted, Memory, Observer
from headrace.policy.scaling import Decision, Knobs, State, decide

BOUGHT = Bought(chunk=100.0, slots=1, min_chunks=1, max_chunks=4)
CHUNKS = Chunks(ready=1, pending=0, draining=0)


class Toy:
    """A served entity that scales by the law, and records it."""

    def __init__(self, log: DecisionLog, entity: str = "e1") -> None:
        self.entity = entity
        self.now = 100.0
        """Seconds."""
        self._log = log
        self._observer = Observer(self.now)
        self._state = State()

    def remembered(self) -> tuple[Memory, State]:
        return self._observer.memory(), self._state

    def report(self, work: float = 0.0) -> None:
        self.now += 0.5
        report = Counted(arrivals=1, offered_work=work, queued=0, queued_work=0.0, oldest_wait_s=0.0, in_flight=0)
        self._log.watch(self)
        self._log.report(self.entity, self.now, "g1", report)
        self._observer.report(self.now, "g1", report)

    def decide(self, knobs: Knobs = Knobs()) -> Decision:  # noqa: B008 - frozen
        self.now += 0.5
        self._log.watch(self)
        seen = self._observer.observe(self.now, BOUGHT, CHUNKS, knobs, connected=["g1"], metrics_age_s=0.5)
        decision = decide(seen, knobs, self._state)
        self._state = decision.state
        self._log.decided(
            self.entity,
            ("chat", "big"),
            BOUGHT,
            knobs,
            CHUNKS,
            connected=["g1"],
            metrics_age_s=0.5,
            now=self.now,
            decision=decision,
        )
        return decision


def log_in(folder: Path, rotate_bytes: int = 1 << 20) -> DecisionLog:
    return DecisionLog(folder / "d.jsonl", now=lambda: 100.0, now_ms=lambda: 5000, rotate_bytes=rotate_bytes)
