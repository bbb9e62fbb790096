"""Virtual token counters: who is served next, so that all get their share.

Sheng et al., "Fairness in Serving Large Language Models" (arXiv 2401.00588, algorithm 2 and its weighted form): every
member has a counter of the work that it was given, divided by its weight; the member with the smallest goes next; one
that comes back is lifted to the smallest counter of those that wait, so that nobody saves up credit while away.
"""

from __future__ import annotations

import heapq

SPARE_ENTRIES = 64
"""A heap with lazy deletion is rebuilt when it holds more than twice its live entries and these."""

SPARE_MEMBERS = 1024
"""Members that are away are looked through when there are more than twice as many as mattered last time, and these."""


class VirtualCounters:
    """The active members are those that have something to be served. Every change costs O(log n), amortised."""

    __slots__ = ("_active", "_counters", "_entered", "_forget_above", "_heap", "_last")

    def __init__(self) -> None:
        self._counters: dict[str, float] = {}
        self._active: dict[str, int] = {}
        """By member, the order of becoming active; the earlier goes first between equal counters."""
        self._heap: list[tuple[float, int, str]] = []
        """(counter, order, member); an entry that no longer agrees with the two above is stale."""
        self._entered = 0
        self._last: str | None = None
        """The member that was served or left last."""
        self._forget_above = SPARE_MEMBERS

    def __len__(self) -> int:
        """Members remembered, active or not."""
        return len(self._counters)

    def counter(self, member: str) -> float:
        """Its counter; for a member that is away, the counter that it would come back with."""
        own = self._counters.get(member, 0.0)
        return own if member in self._active else max(own, self._floor())

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
        if len(self._counters) > self._forget_above:
            self._forget()

    def leave(self, member: str) -> None:
        del self._active[member]
        self._last = member

    def charge(self, member: str, amount: float) -> None:
        """Add work given, or with a negative amount correct what was charged too much."""
        own = self._counters.get(member)
        self._counters[member] = (self.counter(member) if own is None else own) + amount
        if member in self._active:
            self._push(member)

    def pass_through(self, member: str, amount: float) -> None:
        """``enter``, ``leave`` and ``charge`` of a member that is served at once while nobody is active."""
        counters = self._counters
        own = counters.get(member, 0.0)
        if self._last is not None and counters[self._last] > own:
            own = counters[self._last]
        counters[member] = own + amount
        self._last = member
        if len(counters) > self._forget_above:
            self._forget()

    def _floor(self) -> float:
        """The least counter that anybody comes back with."""
        # Of an empty queue the last to leave stands for those who waited (paper, algorithm 2, lines 6-8).
        reference = self.first() or self._last
        return 0.0 if reference is None else self._counters[reference]

    def _forget(self) -> None:
        """Drop the members that are away and would be lifted: unknown ones come back with the same counter."""
        floor = self._floor()
        self._counters = {
            member: counter
            for member, counter in self._counters.items()
            if counter > floor or member in self._active or member == self._last
        }
        self._forget_above = 2 * len(self._counters) + SPARE_MEMBERS

    def _push(self, member: str) -> None:
        heapq.heappush(self._heap, (self._counters[member], self._active[member], member))
        if len(self._heap) > 2 * len(self._active) + SPARE_ENTRIES:
            self._heap = [(self._counters[live], order, live) for live, order in self._active.items()]
            heapq.heapify(self._heap)
