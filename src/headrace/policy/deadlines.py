"""How long a request waits: for a replica's start, and for its turn."""

from __future__ import annotations

from headrace.policy.terms import Reason, Terms


class Deadlines:
    """Of the requests of one served entity, from what is known of its replicas. Times are in seconds."""

    __slots__ = ("_lost_at", "_ready", "_ready_since")

    def __init__(self, now: float) -> None:
        self._ready = False
        self._ready_since = now
        """When the first replica became ready after a time without."""
        self._lost_at: float | None = None
        """When the last ready replica went."""

    def set_ready(self, now: float, ready: bool) -> None:
        """Some replica takes new requests, or none does."""
        if ready and not self._ready:
            self._ready_since = now
        if self._ready and not ready:
            self._lost_at = now
        self._ready = ready

    def of(self, arrived: float, terms: Terms) -> float:
        """When a request that came at ``arrived`` has waited too long; never earlier for one that came later.

        Without a ready replica it waits for a cold start. Those held so long get the queue's deadline from the moment
        the first replica is ready; but nobody waits longer than the larger of the two limits.
        """
        if not self._ready:
            return arrived + terms.cold_start_deadline_s
        longest = arrived + max(terms.cold_start_deadline_s, terms.queue_deadline_s)
        return min(longest, max(arrived, self._ready_since) + terms.queue_deadline_s)

    def unready_reason(self, arrived: float) -> Reason:
        """Why a request is too late while no replica is ready."""
        return "no_replica" if self._lost_at is not None and self._lost_at >= arrived else "cold_start"
