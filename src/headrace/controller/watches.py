"""What the reconcile loop remembers of each served entity between two looks, and what it concludes from that."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from headrace.controller.backoff import Backoff
from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.failures import Failures
from headrace.controller.lifecycle import Replica
from headrace.controller.rollout import can_serve, of
from headrace.controller.roster import Roster
from headrace.controller.scaler import Scaler
from headrace.controller.words import about, counted
from headrace.decisions.writer import DecisionLog

SILENCE_S = 30.0
"""A server that is not ours and did not answer for so long fails the update that waits for it."""


@dataclass(slots=True)
class Watch:
    """One served entity."""

    scaler: Scaler
    backoff: Backoff
    wanted: int = 0
    """Chunks by the last decision: see ``rollout.chunks_wanted``."""
    granted: int = 0
    """Of them, what the machine holds."""
    rivals: tuple[str, ...] = ()
    """Names of those that have the rest of it, where that is less than wanted."""
    missing: int = 0
    """Chunks that were wanted and not granted at the last look: a change is told."""
    looked: bool = False
    """There was a look before this one."""
    reason: str = ""
    """Of the last decision."""

    @property
    def shut_out(self) -> bool:
        """It should have chunks, and the machine has room for none of them."""
        return self.missing > 0 and self.granted == 0

    @property
    def lack(self) -> str:
        """How many chunks it should have, how many there is room for, and what to do; for one that lacks some."""
        should = f"it should have {counted(self.wanted, 'chunk')}, and there is room for {self.granted or 'none'}"
        ranges = " or ".join(("its range", *(f"that of {rival}" for rival in self.rivals)))
        if not self.granted:  # a smaller range of its own would not help
            ranges = f"the range of {' or '.join(self.rivals)}" if self.rivals else ""
        return f"{should}: {f'make {ranges} smaller, or ' if ranges else ''}use a machine with more cores"


class Watches:
    """Made as they are asked for."""

    def __init__(
        self,
        roster: Roster,
        failures: Failures,
        now: Callable[[], float],
        decisions: DecisionLog | None = None,
    ) -> None:
        self._roster = roster
        self._failures = failures
        self._now = now
        self._decisions = decisions
        self._by_entity: dict[str, Watch] = {}

    def of(self, entity_id: str) -> Watch:
        known = self._by_entity.get(entity_id)
        if known is None:
            known = self._by_entity[entity_id] = Watch(
                Scaler(entity_id, self._now(), self._decisions), self._failures.of(entity_id)
            )
        return known

    def failed(self) -> Iterator[Backoff]:
        """Of those whose failures are not over."""
        return (watch.backoff for watch in self._by_entity.values() if watch.backoff.failures)

    def save(self) -> None:
        """What the next controller must know."""
        self._failures.save((entity_id, watch.backoff) for entity_id, watch in self._by_entity.items())

    def reload(self) -> None:
        """Forget what is not in the store of what must be there."""
        self._failures.reload()
        for entity_id, watch in self._by_entity.items():
            watch.backoff = self._failures.of(entity_id)

    def keep(self, entity_ids: Collection[str]) -> None:
        """Forget all others."""
        self._failures.keep(entity_ids)
        for entity_id in self._by_entity.keys() - set(entity_ids):
            del self._by_entity[entity_id]

    def failing(self, endpoint: Endpoint, entity: Entity) -> bool:
        """Its replicas fail again and again, or do not answer: no start that is under way can be relied on."""
        backoff = self.of(entity.id).backoff
        return self._silent(endpoint, entity) is not None or (backoff.failing and backoff.runs_as == entity.runs_as)

    def settled(self, endpoint: Endpoint) -> bool:
        """It has reached its state: the minimum of each of its entities is ready, or they fail."""
        if endpoint.update == "UPDATE_FAILED":
            return True
        replicas = self._roster.of(endpoint.id)
        return all(
            self.failing(endpoint, entity) or (endpoint.active is not None and can_serve(entity, replicas))
            for entity in endpoint.current.entities
        )

    def why_failed(self, endpoint: Endpoint, now_ms: int) -> str:
        """Why an update that waits for the endpoint's replicas has failed; empty while it may succeed."""
        config = endpoint.target
        for entity in config.entities:
            backoff = self.of(entity.id).backoff
            # What failed before this config was asked for says nothing of it: the cause may have been put right since.
            if backoff.failing and backoff.runs_as == entity.runs_as and backoff.at_ms >= config.created_ms:
                failed = f"{counted(backoff.failures, 'replica')} in a row failed; the last: {backoff.message}"
                return about(config, entity, failed)
            silent = self._silent(endpoint, entity)
            if silent is not None and now_ms - (silent.silent_ms or 0) >= SILENCE_S * 1000:
                message = f"replica {silent.id} was not ready for {SILENCE_S:.0f} s: {silent.message}"
                return about(config, entity, message)
        return ""

    def _silent(self, endpoint: Endpoint, entity: Entity) -> Replica | None:
        """Of its replicas, the one that has not answered for longest."""
        silent = [r for r in of(self._roster.of(endpoint.id), entity) if r.silent_ms is not None]
        return min(silent, key=lambda replica: replica.silent_ms or 0, default=None)
