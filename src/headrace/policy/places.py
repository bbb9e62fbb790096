"""Who holds the most places of something that is full, so that it can be shared.

A bounded queue that refuses whoever comes last is a fair queue only in name: one key that keeps it full shuts all
others out, however fair the order inside. So a newcomer takes a place from whoever holds the most (longest-queue drop,
as McKenney, "Stochastic fairness queueing", 1990, and Suter et al., "Buffer management schemes for supporting TCP in
gigabit routers with per-flow queueing", 1999).
"""

from __future__ import annotations

from collections import OrderedDict


class Places:
    """How many places each member holds. Every operation costs O(1)."""

    __slots__ = ("_by_count", "_held")

    def __init__(self) -> None:
        self._held: dict[str, int] = {}
        self._by_count: list[OrderedDict[str, None]] = [OrderedDict()]
        """Members by the number of places that they hold; nobody is in the first, somebody is in the last."""

    def take(self, member: str) -> None:
        """One more place."""
        held = self._held.get(member, 0)
        if held:
            del self._by_count[held][member]
        self._held[member] = held + 1
        if held + 1 == len(self._by_count):
            self._by_count.append(OrderedDict())
        self._by_count[held + 1][member] = None

    def give(self, member: str) -> None:
        """One place less. Raises KeyError where it holds none."""
        held = self._held.pop(member)
        at = self._by_count[held]
        del at[member]
        if held > 1:
            self._held[member] = held - 1
            self._by_count[held - 1][member] = None
        if not at and held == len(self._by_count) - 1:
            self._by_count.pop()  # the most is now one less: there is the member itself

    def held(self, member: str) -> int:
        return self._held.get(member, 0)

    def most(self) -> tuple[str, int] | None:
        """Of those with the most places the first to get there, and how many; None where nobody holds any."""
        at = self._by_count[-1]
        return (next(iter(at)), len(self._by_count) - 1) if at else None
