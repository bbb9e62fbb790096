"""Which served entity a request is routed to: the traffic split of an endpoint.

Every entity is owed its percentage of all requests so far. Request number t goes, among the entities that are owed more
than they got, to the one whose next request is due first: the schedule of Baruah et al., "Proportionate progress: a
notion of fairness in resource allocation" (1996), for one resource. From the first request on, each entity's count is
within one request of its share, whatever the percentages; so over any stretch it is within two. (The usual smooth
weighted round robin, largest debt first, misses by more than one with a dozen entities; within one over every stretch
is impossible for most triples of percentages.)
"""

from __future__ import annotations

from collections.abc import Sequence


class TrafficSplit:
    """Routes by ``percentages``, whole numbers in the order of the entities; nothing is random."""

    __slots__ = ("_counts", "_requests", "_shares", "_total")

    def __init__(self, percentages: Sequence[int]) -> None:
        """Raises ValueError where a percentage is negative, or none is positive."""
        if min(percentages, default=0) < 0 or not any(percentages):
            raise ValueError(f"percentages must not be negative, and one must be positive: {list(percentages)}")
        self._shares = [(index, share) for index, share in enumerate(percentages) if share]
        self._total = sum(percentages)
        self._counts = [0] * len(percentages)
        self._requests = 0

    def next(self) -> int:
        """The index of the entity that the next request is routed to; never one of 0%."""
        if len(self._shares) == 1:
            return self._shares[0][0]
        if self._requests == self._total:  # all have exactly their share: the schedule begins again
            self._requests = 0
            self._counts = [0] * len(self._counts)
        self._requests += 1
        counts, requests, total = self._counts, self._requests, self._total
        # Somebody is owed something: the shares of ``requests`` add up to it, and one less was given out.
        best, best_share = -1, 0
        for index, share in self._shares:
            count = counts[index]
            # Due at (count + 1) * total / share; compared without a division, which would not be exact.
            owed = count * total < share * requests
            if owed and (best < 0 or (count + 1) * best_share < (counts[best] + 1) * share):
                best, best_share = index, share
        counts[best] += 1
        return best
