"""Who gets the machine when the endpoints want more replicas than it holds: minimums first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What one endpoint asks for, in replicas."""

    endpoint: str
    pool: str
    """Where its replicas run: this machine, or a server that is not ours. Pools do not compete."""
    share: Fraction
    """Of the pool that one replica takes."""
    minimum: int
    """Sold as always there; that all minimums fit was checked when the endpoints were made."""
    wanted: int
    running: int
    """Of them, already started."""


def allot(wants: Sequence[Want]) -> dict[str, int]:
    """Replicas that each endpoint may have: its minimum, then what runs already, then one more each in turn."""
    granted = {want.endpoint: 0 for want in wants}
    left = {want.pool: Fraction(1) for want in wants}

    def in_turn(limit: Callable[[Want], int]) -> None:
        granting = True
        while granting:
            granting = False
            for want in wants:
                if granted[want.endpoint] < min(limit(want), want.wanted) and want.share <= left[want.pool]:
                    granted[want.endpoint] += 1
                    left[want.pool] -= want.share
                    granting = True

    in_turn(lambda want: want.minimum)
    in_turn(lambda want: want.running)
    in_turn(lambda want: want.wanted)
    return granted
