"""The order in which waiting requests are served: fair between bands, and fair between the keys of a band.

Both levels use the virtual token counter of Sheng et al., "Fairness in Serving Large Language Models"
(arXiv 2401.00588, algorithm 2): every member has a counter of the work it was given; the member with the smallest goes
next; a member that comes back is lifted to the smallest counter of those that wait, so that nobody saves up credit
while away. Between bands the counter grows by work / weight, which makes it weighted. Two members that always wait
differ by no more than one request (and by what the estimates of requests in flight are still to be corrected by).
A member alone gets everything: the order conserves work.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

Band = Literal["priority", "default", "flex"]
BAND_WEIGHTS: dict[Band, float] = {"priority": 8.0, "default": 4.0, "flex": 1.0}
"""Shares of the work while all of them wait."""

SPARE_ENTRIES = 64
"""A heap with lazy deletion is rebuilt when it holds more than twice its live entries and these."""


@dataclass(slots=True, kw_only=True, eq=False)
class Waiting:
    """A request in the queue."""

    rid: str
    key: str
    band: Band
    work: float
    """Reference tokens, estimated."""
    arrived: float
    """Seconds."""


class VirtualCounters:
    """Virtual token counters of a set of members; the active ones are those that have something to be served.

    Members are never forgotten: their number is that of the keys of an endpoint, and a counter is eight bytes.
    """

    __slots__ = ("_active", "_counters", "_entered", "_heap", "_last")

    def __init__(self) -> None:
        self._counters: dict[str, float] = {}
        self._active: dict[str, int] = {}
        """By member, the order of becoming active; the earlier goes first between equal counters."""
        self._heap: list[tuple[float, int, str]] = []
        """(counter, order, member); an entry that no longer agrees with the two above is stale."""
        self._entered = 0
        self._last: str | None = None

    def counter(self, member: str) -> float:
        """Its counter; for a member that is away, the counter that it would come back with."""
        own = self._counters.get(member, 0.0)
        if member in self._active:
            return own
        # Of an empty queue the last to leave stands for those who waited (paper, algorithm 2, lines 6-8).
        reference = self.first() or self._last
        return own if reference is None else max(own, self._counters[reference])

    def first(self) -> str | None:
        """The active member to serve next."""
        heap = self._heap
        while heap:
            counter, order, member = heap[0]
            if self._active.get(member) == order and self._counters[member] == counter:
                return member
            heapq.heappop(heap)
        return None

    def enter(self, member: str) -> None:
        self._counters[member] = self.counter(member)
        self._entered += 1
        self._active[member] = self._entered
        self._push(member)

    def leave(self, member: str) -> None:
        del self._active[member]
        self._last = member

    def charge(self, member: str, amount: float) -> None:
        """Add work given, or with a negative amount correct what was charged too much."""
        self._counters[member] = self._counters.get(member, 0.0) + amount
        if member in self._active:
            self._push(member)

    def _push(self, member: str) -> None:
        heapq.heappush(self._heap, (self._counters[member], self._active[member], member))
        if len(self._heap) > 2 * len(self._active) + SPARE_ENTRIES:
            self._heap = [(self._counters[live], order, live) for live, order in self._active.items()]
            heapq.heapify(self._heap)


E = TypeVar("E", bound=Waiting)


@dataclass(slots=True, eq=False)
class _KeyQueue(Generic[E]):
    """The requests of one key in one band, in the order of arrival."""

    entries: OrderedDict[str, E] = field(default_factory=OrderedDict)
    work: float = 0.0

    def head(self) -> E:
        return next(iter(self.entries.values()))


@dataclass(slots=True, eq=False)
class _BandQueue(Generic[E]):
    """The waiting keys of one band."""

    weight: float
    keys: dict[str, _KeyQueue[E]] = field(default_factory=dict)
    counters: VirtualCounters = field(default_factory=VirtualCounters)
    work: float = 0.0

    def head(self) -> E | None:
        key = self.counters.first()
        return None if key is None else self.keys[key].head()


class FairQueue(Generic[E]):
    """All that waits at one endpoint. Every change costs O(log n)."""

    def __init__(self) -> None:
        self._bands: dict[str, _BandQueue[E]] = {band: _BandQueue(weight) for band, weight in BAND_WEIGHTS.items()}
        self._counters = VirtualCounters()
        self._returned: OrderedDict[str, E] = OrderedDict()
        self._entries: dict[str, E] = {}
        self._ages: list[tuple[float, int, E]] = []
        self._pushed = 0
        self.work = 0.0
        """Reference tokens waiting."""

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, rid: str) -> bool:
        return rid in self._entries

    def push(self, entry: E) -> None:
        """Behind the other requests of its key. Raises ValueError where its id waits already."""
        self._add(entry)
        band = self._bands[entry.band]
        waiting = band.keys.get(entry.key)
        if waiting is None:
            waiting = band.keys[entry.key] = _KeyQueue()
            if len(band.keys) == 1:
                self._counters.enter(entry.band)
            band.counters.enter(entry.key)
        waiting.entries[entry.rid] = entry
        waiting.work += entry.work
        band.work += entry.work

    def push_returned(self, entry: E) -> None:
        """Ahead of everything: a request that was served already, and charged, and lost its replica."""
        self._add(entry)
        self._returned[entry.rid] = entry

    def head(self) -> E | None:
        """The request to serve next."""
        if self._returned:
            return next(iter(self._returned.values()))
        band = self._counters.first()
        return None if band is None else self._bands[band].head()

    def serve(self, entry: E) -> None:
        """Take the head out and charge its key and band for it, unless it was charged when first served."""
        charged = entry.rid in self._returned
        self.remove(entry.rid)  # first: the counter of a key that has nothing more to wait for needs no place in a heap
        if not charged:
            self.charge(entry.band, entry.key, entry.work)

    def charge(self, band: Band, key: str, work: float) -> None:
        """Correct what a key and its band were charged, by ``work`` more (or less, where negative)."""
        waiting = self._bands[band]
        waiting.counters.charge(key, work)
        self._counters.charge(band, work / waiting.weight)

    def remove(self, rid: str) -> E | None:
        """Take a request out without charging for it; None where it does not wait."""
        entry = self._entries.pop(rid, None)
        if entry is None:
            return None
        self.work = self.work - entry.work if self._entries else 0.0
        if self._returned.pop(rid, None) is not None:
            return entry
        band = self._bands[entry.band]
        waiting = band.keys[entry.key]
        del waiting.entries[rid]
        waiting.work -= entry.work
        band.work -= entry.work
        if not waiting.entries:
            del band.keys[entry.key]
            band.counters.leave(entry.key)
            if not band.keys:
                band.work = 0.0
                self._counters.leave(entry.band)
        return entry

    def oldest(self) -> E | None:
        """The waiting request that arrived first."""
        ages = self._ages
        while ages:
            entry = ages[0][2]
            if self._entries.get(entry.rid) is entry:
                return entry
            heapq.heappop(ages)
        return None

    def work_ahead(self, band: Band, key: str, *, own: bool = True) -> float:
        """Reference tokens that would be served before a request of this key that arrived now, were it the last.

        With ``own`` False: before the first request of the key. Exact where one key waits; between keys and bands it is
        fluid, right to within one request of each.
        """
        home = self._bands[band]
        waiting = home.keys.get(key)
        ahead = waiting.work if waiting and own else 0.0
        turn = home.counters.counter(key) + ahead
        for other, requests in home.keys.items():
            if other != key:
                ahead += _served_until(turn, home.counters.counter(other), requests.work, requests.head().work)
        turn = self._counters.counter(band) + ahead / home.weight
        for name, others in self._bands.items():
            first = others.head() if name != band else None
            if first is not None:
                lead = _served_until(
                    turn, self._counters.counter(name), others.work / others.weight, first.work / others.weight
                )
                ahead += lead * others.weight
        return ahead

    def _add(self, entry: E) -> None:
        if entry.rid in self._entries:
            raise ValueError(f"request {entry.rid} waits already")
        self._entries[entry.rid] = entry
        self.work += entry.work
        self._pushed += 1
        heapq.heappush(self._ages, (entry.arrived, self._pushed, entry))
        if len(self._ages) > 2 * len(self._entries) + SPARE_ENTRIES:
            self._ages = [age for age in self._ages if self._entries.get(age[2].rid) is age[2]]
            heapq.heapify(self._ages)


def _served_until(turn: float, counter: float, queued: float, first: float) -> float:
    """What a waiting member gets before a counter of ``turn`` comes up: at least its first request if it is due."""
    return min(queued, max(first, turn - counter)) if counter <= turn else 0.0
