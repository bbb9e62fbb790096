"""The order in which waiting requests are served: fair between bands, and fair between the keys of a band.

Both levels count the work that each member was given (``virtual_counters``): a band's grows by work / its weight, a
key's by work / the weight of the key. Two members that always wait differ by no more than one request in work / weight
(and by what the estimates of requests in flight are still to be corrected by). A member alone gets everything: the
order conserves work.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import Generic, TypeVar

from headrace.policy.places import Places
from headrace.policy.virtual_counters import VirtualCounters
from headrace.policy.waiting import Band, Waiting

__all__ = ["BAND_WEIGHTS", "Band", "FairQueue", "Waiting"]

BAND_WEIGHTS: dict[Band, float] = {"priority": 8.0, "default": 4.0, "flex": 1.0}
"""Shares of the work while all of them wait."""


E = TypeVar("E", bound=Waiting)


class _BandQueue(Generic[E]):
    """The waiting requests of one band: by key, and of a key in the order of arrival."""

    __slots__ = ("counters", "keys", "places", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.keys: dict[str, OrderedDict[str, E]] = {}
        self.counters = VirtualCounters()
        self.places = Places()

    def head(self) -> E | None:
        key = self.counters.first()
        return None if key is None else next(iter(self.keys[key].values()))


class FairQueue(Generic[E]):
    """All that waits at one endpoint. Every operation costs O(log n), amortised."""

    __slots__ = ("_alone", "_bands", "_counters", "_entries", "_returned", "_returned_ages", "returned_work", "work")

    def __init__(self) -> None:
        self._bands: dict[Band, _BandQueue[E]] = {band: _BandQueue(weight) for band, weight in BAND_WEIGHTS.items()}
        self._counters = VirtualCounters()
        self._entries: OrderedDict[str, E] = OrderedDict()
        """In the order of arrival, but for those that were returned."""
        self._alone: E | None = None
        """The only entry, as long as it has always been alone: most requests are served at once, and it would be idle
        work to give them a place in the order of nobody else."""
        self._returned: dict[str, E] = {}
        self._returned_ages: list[tuple[float, str, E]] = []
        """A heap; an entry that is no longer returned is stale."""
        self.work = 0.0
        """Reference tokens waiting that nobody was charged for yet."""
        self.returned_work = 0.0
        """Reference tokens waiting again, after they were charged for."""

    def __len__(self) -> int:
        return len(self._entries) + len(self._returned)

    def __contains__(self, rid: str) -> bool:
        return rid in self._entries or rid in self._returned

    def push(self, entry: E) -> None:
        """Behind the other requests of its key. Its id does not wait yet, and it arrived after all that was pushed."""
        entries = self._entries
        if not entries:
            self._alone = entry
        else:
            if self._alone is not None:
                self._enter(self._alone)
                self._alone = None
            self._enter(entry)
        entries[entry.rid] = entry
        self.work += entry.work

    def push_returned(self, entry: E) -> None:
        """Ahead of everything: a request that was served already, and charged, and lost its replica."""
        self._returned[entry.rid] = entry
        heapq.heappush(self._returned_ages, (entry.arrived, entry.rid, entry))
        self.returned_work += entry.work

    def head(self) -> E | None:
        """The request to serve next: the oldest of those returned, or whose turn it is."""
        if self._returned:
            return self._oldest_returned()
        if self._alone is not None or not self._entries:
            return self._alone
        band = self._counters.first()
        return None if band is None else self._bands[band].head()  # type: ignore[index]

    def serve(self, entry: E) -> None:
        """Take the head out and charge its key and band for it, unless it was charged when first served."""
        if entry is self._alone:
            self._alone = None
            del self._entries[entry.rid]
            self.work = 0.0
            band = self._bands[entry.band]
            band.counters.pass_through(entry.key, entry.work / entry.weight)
            self._counters.pass_through(entry.band, entry.work / band.weight)
        elif entry.rid in self._returned:
            self.remove(entry.rid)
        else:
            self.remove(entry.rid)  # first: the counter of a key that has nothing more to wait for needs no place
            self.charge(entry, entry.work)

    def charge(self, entry: E, work: float) -> None:
        """Correct what the key and band of a served request were charged, by ``work`` more (less, where negative)."""
        band = self._bands[entry.band]
        band.counters.charge(entry.key, work / entry.weight)
        self._counters.charge(entry.band, work / band.weight)

    def remove(self, rid: str) -> E | None:
        """Take a request out without charging for it; None where it does not wait."""
        entry = self._entries.pop(rid, None)
        if entry is None:
            entry = self._returned.pop(rid, None)
            if entry is not None:
                self.returned_work = self.returned_work - entry.work if self._returned else 0.0
            return entry
        self.work = self.work - entry.work if self._entries else 0.0
        if entry is self._alone:
            self._alone = None
            return entry
        band = self._bands[entry.band]
        waiting = band.keys[entry.key]
        del waiting[rid]
        band.places.give(entry.key)
        if not waiting:
            del band.keys[entry.key]
            band.counters.leave(entry.key)
            if not band.keys:
                self._counters.leave(entry.band)
        return entry

    def waiting(self, band: Band, key: str) -> int:
        """How many requests of this key wait."""
        if self._alone is not None:
            return int(self._alone.key == key and self._alone.band == band)
        return self._bands[band].places.held(key)

    def displaced_by(self, newcomer: E) -> E | None:
        """Who gives up its place to ``newcomer`` where there is no other; None where the newcomer has no better claim.

        Places are shared like service: equally among the keys of a band, by weight between bands. The newest request of
        the key that holds the most goes, if even so that key keeps no less than the newcomer's gets.
        """
        claim = (self.waiting(newcomer.band, newcomer.key) + 1) / self._bands[newcomer.band].weight
        displaced: E | None = None
        for band in self._bands.values():
            most = band.places.most()
            if most is not None and most[1] / band.weight > claim:
                claim = most[1] / band.weight
                displaced = next(reversed(band.keys[most[0]].values()))
        return displaced

    def oldest(self) -> E | None:
        """The waiting request that arrived first."""
        first = next(iter(self._entries.values())) if self._entries else None
        if not self._returned:
            return first
        returned = self._oldest_returned()
        return returned if first is None or returned.arrived <= first.arrived else first

    def _enter(self, entry: E) -> None:
        band = self._bands[entry.band]
        waiting = band.keys.get(entry.key)
        if waiting is None:
            if not band.keys:
                self._counters.enter(entry.band)
            waiting = band.keys[entry.key] = OrderedDict()
            band.counters.enter(entry.key)
        waiting[entry.rid] = entry
        band.places.take(entry.key)

    def _oldest_returned(self) -> E:
        """Of at least one."""
        ages = self._returned_ages
        while self._returned.get(ages[0][1]) is not ages[0][2]:
            heapq.heappop(ages)
        return ages[0][2]
