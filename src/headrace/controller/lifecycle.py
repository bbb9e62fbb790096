"""The life of a replica as the controller sees it.

    pending ──▶ loading ◀──▶ ready ◀──▶ draining ──▶ stopped
       │           │           │
       └───────────┴───────────┴──▶ failed (its end was not asked for)

A server that is not ours goes back to loading while it does not answer; a process of ours ends instead. A draining
replica that is needed again serves again.

``observe`` moves a replica by what the fleet says of it and nothing else, so reading the same state twice changes
nothing, and a controller that was away catches up at its first look.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from headrace.engines.base import ModelSettings
from headrace.engines.catalogue import engine_for
from headrace.fleet.base import FleetReplica

DrainCause = Literal["scale_down", "replaced", "deleted"]

UNSEEN_S = 30.0
"""A replica that its fleet did not list for so long after it was asked for was never started."""
HUNG_AFTER_S = 60.0
"""Past the time in which its engine gets ready or says that it cannot: a replica that has done neither never will."""


class Phase(StrEnum):
    PENDING = "pending"
    """Asked for."""
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    """Gets no more requests; ends when those it has are done."""
    STOPPED = "stopped"
    FAILED = "failed"


LIVING = frozenset({Phase.PENDING, Phase.LOADING, Phase.READY, Phase.DRAINING})
COMING = frozenset({Phase.PENDING, Phase.LOADING})


@dataclass(slots=True, kw_only=True)
class Replica:
    """One replica in the controller's memory."""

    id: str
    endpoint_id: str
    config_version: int
    """Config that it was started for."""
    entity_id: str
    runs_as: str
    model: ModelSettings
    created_ms: int
    phase: Phase = Phase.PENDING
    url: str | None = None
    secret: str = field(default="", repr=False)
    """Bearer token that it asks for, from the fleet."""
    pid: int | None = None
    cpus: tuple[int, ...] = ()
    load_s: float | None = None
    ready_ms: int | None = None
    draining_ms: int | None = None
    drain_cause: DrainCause | None = None
    drain_version: int | None = None
    """Snapshot by which gateways send it nothing more."""
    stopping: bool = False
    """Its end was decided and is not taken back."""
    ended_ms: int | None = None
    exit_code: int | None = None
    message: str = ""
    """What is wrong with it, or was."""
    silent_ms: int | None = None
    """Since when it loads with something wrong: a server that is not ours does not answer."""

    def observe(self, seen: FleetReplica | None, now_ms: int) -> int | None:
        """Move by what the fleet says. If others see a change: the Unix time at which it happened, else None.

        That is ``now_ms`` where the fleet has no time for it.
        """
        before, at_ms = (self.phase, self.url), now_ms
        if seen is None:
            # One that was just asked for may not be listed yet.
            if self.phase is not Phase.PENDING or now_ms - self.created_ms > UNSEEN_S * 1000:
                self._end(now_ms, None, "the fleet does not know it")
        elif seen.state == "exited":
            at_ms = seen.exited_ms or now_ms
            self._end(at_ms, seen.exit_code, seen.error or "it ended")
        else:
            self.pid, self.cpus, self.secret = seen.pid, seen.cpus, seen.secret
            self.url, self.load_s, self.message = seen.url, seen.load_s, seen.error or ""
            if seen.state == "ready" and self.phase in COMING:
                at_ms = seen.ready_ms or now_ms
                self.phase, self.ready_ms = Phase.READY, at_ms
            elif seen.state == "loading" and self.phase in (Phase.PENDING, Phase.READY):
                self.phase, self.ready_ms = Phase.LOADING, None
            # With a message it is a server that is not ours and does not answer: nothing is gained by another start.
            if self.phase is Phase.LOADING and not self.message:
                longest_s = engine_for(self.model.engine).ready_within_s + HUNG_AFTER_S
                if now_ms - self.created_ms > longest_s * 1000:
                    self._end(now_ms, None, f"it was not ready {longest_s:.0f} s after its start")
        # A process of ours that says what is wrong is about to end.
        if self.phase is not Phase.LOADING or not self.message or self.pid is not None:
            self.silent_ms = None
        elif self.silent_ms is None:
            self.silent_ms = now_ms
        return at_ms if (self.phase, self.url) != before else None

    def lose(self, at_ms: int) -> None:
        """It ended while no controller ran."""
        self.phase, self.ended_ms, self.message = Phase.STOPPED, at_ms, "it ended with the server"

    def drain(self, cause: DrainCause, now_ms: int) -> None:
        """No more requests for it. One that was not ready yet has none and can end at once."""
        self.draining_ms, self.drain_cause = now_ms, cause
        self.stopping = self.phase in COMING
        self.phase = Phase.DRAINING

    def revive(self) -> None:
        """Serve again after all."""
        self.phase, self.draining_ms, self.drain_cause, self.drain_version = Phase.READY, None, None, None

    def _end(self, at_ms: int, exit_code: int | None, message: str) -> None:
        if self.phase not in LIVING:
            return
        asked = self.phase is Phase.DRAINING
        self.phase = Phase.STOPPED if asked else Phase.FAILED
        self.ended_ms, self.exit_code, self.message = at_ms, exit_code, message
