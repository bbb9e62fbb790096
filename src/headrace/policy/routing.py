"""Which replica a request goes to: the one with the least outstanding work.

A slot is free or it is not, so the choice only matters while several replicas have one. Outstanding work is compared
and not the number of requests, because a request of 4,000 tokens holds a replica as long as twenty of 200.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """A replica that is ready, as a snapshot lists it."""

    id: str
    slots: int
    draining: bool


@dataclass(slots=True, eq=False)
class Load:
    """What one gateway has on one replica."""

    id: str
    slots: int
    draining: bool
    listed: bool = True
    """In the last snapshot; otherwise it is gone and only its last requests are still to be settled."""
    blocked_until: float = 0.0
    """Seconds; no request goes to it before, because it failed."""
    in_flight: int = 0
    outstanding_work: float = 0.0
    """Reference tokens dispatched and not settled."""
    dispatched: int = 0
    failures: int = 0

    @property
    def ready(self) -> bool:
        """Takes new requests, when it has a slot and is not blocked."""
        return self.listed and not self.draining

    def open_at(self, now: float) -> bool:
        """A request may be sent to it now."""
        return self.ready and self.in_flight < self.slots and self.blocked_until <= now


def pick(loads: Iterable[Load], now: float) -> Load | None:
    """The replica to send a request to, or None where none can take one. Ties go to the smaller id."""
    best: Load | None = None
    for load in loads:
        if load.open_at(now) and (best is None or (load.outstanding_work, load.id) < (best.outstanding_work, best.id)):
            best = load
    return best
