"""Which replica a request goes to: the one with the least outstanding work, or the one that may have its head cached.

A slot is free or it is not, so the choice only matters while several replicas have one. Outstanding work is compared
and not the number of requests, because a request of 4,000 tokens holds a replica as long as twenty of 200.

The replica that a prompt's head prefers (``affinity``) is taken while it has a free slot and at most as much more
outstanding than the least as the prefill of the whole prompt weighs. A hit saves no more work than that, and the
detour costs no more waiting than the difference, so affinity never costs more than it can save. A replica that failed
keeps its preferences: while it is blocked they go where the least is, and then come back to a warm cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf

from headrace.policy.affinity import Rendezvous
from headrace.policy.health import Health


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """A replica that is ready, as a snapshot lists it."""

    id: str
    slots: int
    draining: bool


class Load:
    """What one gateway has on one replica, and how it finds it."""

    __slots__ = (
        "dispatched",
        "draining",
        "failures",
        "health",
        "id",
        "in_flight",
        "listed",
        "outstanding_work",
        "slots",
    )

    def __init__(self, state: ReplicaState) -> None:
        self.id = state.id
        self.slots = state.slots
        self.draining = state.draining
        self.listed = True
        """In the last snapshot; otherwise it is gone and only its last requests are still to be settled."""
        self.health = Health()
        self.in_flight = 0
        self.outstanding_work = 0.0
        """Reference tokens dispatched and not settled."""
        self.dispatched = 0
        self.failures = 0
        """Requests that failed on it."""

    def take(self, rid: str, work: float) -> None:
        """A request is sent to it."""
        self.in_flight += 1
        self.dispatched += 1
        self.outstanding_work += work
        self.health.sent(rid)

    def release(self, rid: str, work: float, *, failed: bool) -> None:
        """A request is no longer in flight on it."""
        self.in_flight -= 1
        self.outstanding_work = self.outstanding_work - work if self.in_flight else 0.0
        self.failures += failed
        self.health.ended(rid)


class Replicas:
    """The replicas of one served entity."""

    __slots__ = ("_loads", "_preferences", "ready")

    def __init__(self) -> None:
        self._loads: dict[str, Load] = {}
        self.ready: tuple[Load, ...] = ()
        """Those that take new requests when they have a slot and are not blocked, by id."""
        self._preferences: Rendezvous[Load] | None = None
        """None without a ready replica."""

    def __iter__(self) -> Iterator[Load]:
        return iter(self._loads.values())

    def get(self, replica: str) -> Load | None:
        return self._loads.get(replica)

    def update(self, states: Iterable[ReplicaState]) -> None:
        """The replicas that are ready or draining now. One that is gone keeps its requests until they are settled."""
        listed = {state.id: state for state in states}
        for load in list(self._loads.values()):
            load.listed = load.id in listed
            self.forget(load)
        for state in listed.values():
            load = self._loads.setdefault(state.id, Load(state))
            load.slots, load.draining = state.slots, state.draining
        ready = [load for load in self._loads.values() if load.listed and not load.draining]
        ready.sort(key=lambda load: load.id)
        if self.ready != tuple(ready):
            self.ready = tuple(ready)
            self._preferences = Rendezvous(self.ready) if ready else None

    def forget(self, load: Load) -> None:
        """Drop a replica that is gone, once nothing of it is in flight."""
        if not load.listed and not load.in_flight:
            self._loads.pop(load.id, None)

    def pick(self, now: float, prefix: int | None, saving: float) -> Load | None:
        """The replica to send a request to, or None where none can take one. Ties go to the smaller id.

        ``prefix`` is the hash of the prompt's head (None: no preference), ``saving`` the reference tokens that the
        prefill of the whole prompt weighs.
        """
        best: Load | None = None
        least = inf
        for load in self.ready:
            if load.outstanding_work < least and load.in_flight < load.slots and load.health.blocked_until <= now:
                best, least = load, load.outstanding_work
        if prefix is None or best is None or self._preferences is None:
            return best
        preferred = self._preferences.preferred(prefix)
        near = preferred.outstanding_work <= least + saving
        return (
            preferred
            if near and preferred.in_flight < preferred.slots and preferred.health.blocked_until <= now
            else best
        )

    def slot_at(self, now: float) -> float | None:
        """When a slot is free if no request ends: now, at the end of a block, or never (None)."""
        soonest = inf
        for load in self.ready:
            if load.in_flight < load.slots and load.health.blocked_until < soonest:
                soonest = load.health.blocked_until
        if soonest == inf:
            return None
        return soonest if soonest > now else now

    def all_blocked(self, now: float) -> bool:
        """Every ready replica failed and is left alone."""
        return all(load.health.blocked_until > now for load in self.ready)

    def share_outstanding(self) -> float:
        """The least work outstanding per slot among the ready replicas, of which there is at least one."""
        return min(load.outstanding_work / load.slots for load in self.ready)
