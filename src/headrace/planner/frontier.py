"""Two laws compared at equal attainment.

A law with a knob turned from thrifty to generous gives points of (chunk-hours, attainment). A user who wants an
attainment takes the cheapest point that gives it, so only points count that no other one beats in both; between
neighbours of those the cost is interpolated. So no law is compared at a setting that is bad for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple


class Point(NamedTuple):
    """What one setting of a law gave."""

    cost: float
    """Chunk-hours."""
    attainment: float


def frontier(points: Iterable[Point]) -> list[Point]:
    """Those that no other one beats, the cheapest first; each attains more than the one before."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.attainment)):
        if not best or point.attainment > best[-1].attainment:
            best.append(point)
    return best


def cost_at(points: Iterable[Point], attainment: float) -> float | None:
    """The chunk-hours for which a law attains so much: interpolated on its frontier; None where no setting does.

    Less than its cheapest point attains costs what that point costs: nothing is extrapolated.
    """
    best = frontier(points)
    if not best or attainment > best[-1].attainment:
        return None
    if attainment <= best[0].attainment:
        return best[0].cost
    for below, above in pairwise(best):
        if attainment <= above.attainment:
            share = (attainment - below.attainment) / (above.attainment - below.attainment)
            return below.cost + share * (above.cost - below.cost)
    raise AssertionError("the loop ends at the last point")
