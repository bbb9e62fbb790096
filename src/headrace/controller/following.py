"""Follows the fleet: what has become of each replica since the last look, told, kept and learned from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from headrace.controller.clock import Clock
from headrace.controller.lifecycle import Phase, Replica
from headrace.controller.roster import Roster
from headrace.controller.telling import Telling
from headrace.controller.watches import Watches
from headrace.engines.base import ModelSettings
from headrace.fleet.base import FleetReplica
from headrace.ledger.capacity import CapacityTimeline
from headrace.profiles import starts

log = logging.getLogger(__name__)


class Following:
    """``look`` at the fleet. Reading the same news twice changes nothing, and news that were missed are caught up."""

    def __init__(
        self,
        *,
        roster: Roster,
        timeline: CapacityTimeline,
        watches: Watches,
        telling: Telling,
        clock: Clock,
        profiles: Path | None,
    ) -> None:
        """``profiles``: the folder beside whose files starts are kept; None: they are not."""
        self._roster = roster
        self._timeline = timeline
        self._watches = watches
        self._tell = telling
        self._clock = clock
        self._profiles = profiles
        self._first_look = True

    def look(self, seen: Mapping[str, FleetReplica]) -> None:
        """In the order in which things happened: the capacity timeline takes their times. ``seen``: by id."""
        now_ms = self._clock.now_ms()
        if self._first_look:
            self._lose(seen)
        started: dict[str, tuple[ModelSettings, list[float]]] = {}
        for replica in sorted(self._roster.all(), key=lambda r: _newest_ms(seen.get(r.id))):
            before, served_since_ms = replica.phase, replica.ready_ms
            told_silent = replica.silent_ms is not None
            at_ms = replica.observe(seen.get(replica.id), now_ms)
            if at_ms is not None:
                self._roster.save(replica)
                if replica.phase is not before:
                    self._changed(replica, seen.get(replica.id), served_since_ms, at_ms)
                    if replica.phase is Phase.READY and replica.load_s is not None:
                        started.setdefault(replica.runs_as, (replica.model, []))[1].append(replica.load_s)
            if replica.silent_ms is not None and not told_silent:
                self._tell.silent(replica, now_ms)
        self._end_rows(now_ms)
        self._note_starts(started, now_ms)

    def _end_rows(self, now_ms: int) -> None:
        """Of failures, where all that is to run has served for long."""
        failed = list(self._watches.failed())
        if not failed:
            return
        ready_ms: dict[str, list[int | None]] = {}
        for replica in self._roster.all():
            if replica.phase is not Phase.DRAINING:
                ready_ms.setdefault(replica.runs_as, []).append(replica.ready_ms)
        for backoff in failed:
            backoff.steady(ready_ms.get(backoff.runs_as, ()), now_ms)

    def _changed(self, replica: Replica, seen: FleetReplica | None, served_since_ms: int | None, at_ms: int) -> None:
        """It has come to another phase of its life."""
        backoff = self._watches.of(replica.entity_id).backoff
        if replica.phase is Phase.FAILED:
            backoff.failed(
                at_ms,
                replica.runs_as,
                started_ms=replica.created_ms,
                served_ms=0 if served_since_ms is None else at_ms - served_since_ms,
                message=replica.message,
                tail="" if seen is None else seen.tail,
            )
        elif replica.phase is Phase.READY:
            backoff.ready(replica.runs_as, at_ms)
        elif replica.phase is Phase.STOPPED:
            backoff.ended(replica.runs_as)
        self._tell.replica(replica, at_ms, backoff)
        self._tell.capacity(replica.endpoint_id, at_ms)

    def _lose(self, seen: Mapping[str, FleetReplica]) -> None:
        """What ran when the controller before this one died, and does not run now, ended by its last beat."""
        self._first_look = False
        beat_ms = self._timeline.last_beat_ms() or self._clock.now_ms()
        for replica in self._roster.all():
            if replica.id not in seen:
                replica.lose(beat_ms)
                self._roster.save(replica)
                self._tell.replica(replica, beat_ms, self._watches.of(replica.entity_id).backoff)
                self._tell.capacity(replica.endpoint_id, beat_ms)

    def _note_starts(self, started: Mapping[str, tuple[ModelSettings, list[float]]], now_ms: int) -> None:
        """What a start takes here, for whoever has to know how long a request at zero will wait."""
        if self._profiles is None:
            return
        for model, seconds in started.values():
            try:
                starts.note(self._profiles, model, tuple(seconds), now_ms)
            except OSError as error:
                fields = {"model": model.name, "why": str(error)}
                log.warning("cannot keep how long a start took", extra={"fields": fields})


def _newest_ms(seen: FleetReplica | None) -> int:
    """When the fleet's last news of a replica happened; 0 where it has none."""
    return 0 if seen is None else seen.exited_ms or seen.ready_ms or seen.started_ms
