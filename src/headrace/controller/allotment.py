"""Who gets the machine when the served entities want more replicas than it holds: minimums first.

What replicas share (cores, GPUs, servers that are not ours) is counted each by itself: one that needs a GPU and a few
cores leaves the other cores to those that need nothing else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

MOST_RIVALS = 4
"""As many as a person wants to read of."""

Shares = Mapping[str, Fraction]
"""Part that one replica takes of each thing that replicas share, by its name: see ``fleet.base.Fleet.shares``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What one served entity asks for, in replicas."""

    entity: str
    """Id."""
    shares: Shares
    """Of one replica. Who has no thing in common does not compete."""
    minimum: int
    """Sold as always there; that all minimums fit was checked when they were sold."""
    wanted: int
    running: int
    """Of them, already started."""


def taken(parts: Iterable[tuple[Shares, int]]) -> defaultdict[str, Fraction]:
    """Of each thing, by so many replicas of each."""
    sums = defaultdict[str, Fraction](Fraction)
    for shares, count in parts:
        for thing, share in shares.items():
            sums[thing] += share * count
    return sums


def fitting(shares: Shares, occupied: Mapping[str, Fraction]) -> int:
    """Replicas that fit beside what is occupied."""
    return max(0, min(int((1 - occupied.get(thing, 0)) / share) for thing, share in shares.items()))


def allot(wants: Sequence[Want]) -> dict[str, int]:
    """Replicas that each may have: its minimum, then what runs already, then one more each in turn."""
    if _all_fit(wants):
        return {want.entity: want.wanted for want in wants}
    granted = {want.entity: 0 for want in wants}
    left: dict[str, Fraction] = defaultdict(lambda: Fraction(1))

    def in_turn(limit: Callable[[Want], int]) -> None:
        granting = True
        while granting:
            granting = False
            for want in wants:
                fits = all(share <= left[thing] for thing, share in want.shares.items())
                if fits and granted[want.entity] < min(limit(want), want.wanted):
                    granted[want.entity] += 1
                    for thing, share in want.shares.items():
                        left[thing] -= share
                    granting = True

    in_turn(lambda want: want.minimum)
    in_turn(lambda want: want.running)
    in_turn(lambda want: want.wanted)
    return granted


def _all_fit(wants: Sequence[Want]) -> bool:
    """The usual case, and cheaper to find out than by granting one place after another."""
    alike = Counter[tuple[tuple[str, Fraction], ...]]()
    for want in wants:
        alike[tuple(want.shares.items())] += want.wanted
    return all(part <= 1 for part in taken((dict(shares), count) for shares, count in alike.items()).values())


def rivals(wants: Sequence[Want], granted: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Of each that gets less than it wants: others that hold of what it lacks, ``MOST_RIVALS`` at most."""
    short = [want for want in wants if granted[want.entity] < want.wanted]
    if not short:
        return {}
    occupied = taken((want.shares, granted[want.entity]) for want in wants)
    holders: dict[str, list[str]] = defaultdict(list)
    for want in wants:
        if granted[want.entity]:
            for thing in want.shares:
                holders[thing].append(want.entity)
    found = {}
    for want in short:
        lacking = (thing for thing, share in want.shares.items() if share > 1 - occupied[thing])
        others = dict.fromkeys(other for thing in lacking for other in holders[thing][: MOST_RIVALS + 1])
        found[want.entity] = tuple([other for other in others if other != want.entity][:MOST_RIVALS])
    return found


def takers(wants: Sequence[Want], granted: Mapping[str, int]) -> dict[str, tuple[Want, ...]]:
    """Of each that is to give up what runs although it wants it: those whose minimum needs the place.

    None are named where the machine itself has become smaller.
    """
    return {
        loser.entity: tuple(
            other
            for other in wants
            if other is not loser
            and other.shares.keys() & loser.shares.keys()
            and other.running < min(other.minimum, other.wanted)
        )
        for loser in wants
        if granted[loser.entity] < min(loser.running, loser.wanted)
    }
