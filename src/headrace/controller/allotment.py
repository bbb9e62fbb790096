"""Who gets the machine when the served entities want more replicas than it holds: minimums first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

MOST_RIVALS = 4
"""As many as a person wants to read of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What one served entity asks for, in replicas."""

    entity: str
    """Id."""
    pool: str
    """Where its replicas run: this machine, or a server that is not ours. Pools do not compete."""
    share: Fraction
    """Of the pool that one replica takes."""
    minimum: int
    """Sold as always there; that all minimums fit was checked when they were sold."""
    wanted: int
    running: int
    """Of them, already started."""


def allot(wants: Sequence[Want]) -> dict[str, int]:
    """Replicas that each may have: its minimum, then what runs already, then one more each in turn."""
    if _all_fit(wants):
        return {want.entity: want.wanted for want in wants}
    granted = {want.entity: 0 for want in wants}
    left = {want.pool: Fraction(1) for want in wants}

    def in_turn(limit: Callable[[Want], int]) -> None:
        granting = True
        while granting:
            granting = False
            for want in wants:
                if granted[want.entity] < min(limit(want), want.wanted) and want.share <= left[want.pool]:
                    granted[want.entity] += 1
                    left[want.pool] -= want.share
                    granting = True

    in_turn(lambda want: want.minimum)
    in_turn(lambda want: want.running)
    in_turn(lambda want: want.wanted)
    return granted


def _all_fit(wants: Sequence[Want]) -> bool:
    """The usual case, and cheaper to find out than by granting one place after another."""
    alike = Counter[tuple[str, Fraction]]()
    for want in wants:
        alike[want.pool, want.share] += want.wanted
    taken: dict[str, Fraction] = {}
    for (pool, share), count in alike.items():
        taken[pool] = taken.get(pool, Fraction(0)) + share * count
    return all(part <= 1 for part in taken.values())


def rivals(wants: Sequence[Want], granted: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Of each that gets less than it wants: others that hold places of the same pool, ``MOST_RIVALS`` at most."""
    holders: dict[str, list[str]] = {}
    for want in wants:
        if granted[want.entity]:
            holders.setdefault(want.pool, []).append(want.entity)
    return {
        short.entity: tuple(
            [other for other in holders.get(short.pool, ())[: MOST_RIVALS + 1] if other != short.entity][:MOST_RIVALS]
        )
        for short in wants
        if granted[short.entity] < short.wanted
    }


def takers(wants: Sequence[Want], granted: Mapping[str, int]) -> dict[str, tuple[Want, ...]]:
    """Of each that is to give up what runs although it wants it: those whose minimum needs the place.

    None are named where the pool itself has become smaller.
    """
    return {
        loser.entity: tuple(
            other
            for other in wants
            if other.pool == loser.pool and other is not loser and other.running < min(other.minimum, other.wanted)
        )
        for loser in wants
        if granted[loser.entity] < min(loser.running, loser.wanted)
    }
