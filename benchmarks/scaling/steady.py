"""Constant demand, and nothing but chance: how often is a chunk given back and asked for again?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from replicas import plain
from workloads import steps

from headrace.planner.hpa import Hpa
from headrace.planner.laws import Headrace, Law
from headrace.planner.ray_serve import RayServe
from headrace.planner.result import Result
from headrace.planner.simulation import simulate
from headrace.policy.terms import Terms

DEMANDS = (0.6, 0.8, 1.3, 1.8, 2.3, 3.5, 5.1, 7.4)
"""Chunks."""
SEEDS = (1, 2, 3, 4, 5)
"""An hour of each."""
HOUR_S = 3600.0
START_S = 10.0
SETTLED_S = 400.0
"""From what the endpoint began with to what it needs."""
LOAD = 0.8
"""Target of HPA and Ray Serve, of a replica's slots."""
LAWS: dict[str, Callable[[int], Law]] = {
    "headrace": lambda slots: Headrace(),
    "hpa": lambda slots: Hpa(LOAD * slots),
    "ray serve": lambda slots: RayServe(LOAD * slots),
}


@dataclass(frozen=True)
class Steady:
    """An hour."""

    law: str
    cycles: int
    chunk_hours: float


HOURS = [(law, chunks, seed) for law in LAWS for chunks in DEMANDS for seed in SEEDS]


def steady(hour: tuple[str, float, int]) -> Steady:
    law, chunks, seed = hour
    replica = plain()
    terms = Terms(
        chunk=replica.chunk,
        min_chunks=1,
        max_chunks=12,
        weights=replica.weights,
        context=8192,
        slots=replica.slots,
        default_max_tokens=512,
    )
    result = simulate(
        steps(replica.chunk, ((chunks, HOUR_S),), seed),
        terms,
        replica.model,
        LAWS[law](replica.slots),
        starts_s=[START_S],
        ready=round(chunks + 1),
        until_s=HOUR_S,
    )
    return Steady(law, _cycles(result), result.chunk_hours)


def _cycles(result: Result) -> int:
    """Times that a chunk was asked for after one was given back."""
    found, given_back = 0, False
    for scaled in result.decisions:
        if scaled.at_s < SETTLED_S:
            continue
        found += given_back and scaled.chunks > scaled.before
        given_back = scaled.chunks < scaled.before
    return found
