"""Laws swept over their own knobs, from thrifty to generous: Headrace's headroom, and for the others the requests per
replica that they aim at."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from cases import Case
from clairvoyant import Clairvoyant
from workloads import Workload

from headrace.planner.frontier import Point, cost_at
from headrace.planner.hpa import Hpa
from headrace.planner.laws import Headrace, Law
from headrace.planner.ray_serve import RayServe
from headrace.planner.result import Result
from headrace.planner.simulation import simulate
from headrace.policy.scaling import Knobs

HEADROOMS = (-0.3, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Below zero: less than demand, as a user who can wait might want it."""
LOADS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3)
"""Targets, as parts of a replica's slots."""
TARGETS = (0.9, 0.95, 0.97, 0.98, 0.99, 0.995)
"""Attainments at which laws are compared."""
SMOOTH_S = 60.0
HEADRACE, HPA, RAY, DEFAULT_RAY, EAGER_HPA = "headrace", "hpa", "ray serve", "ray serve, default", "hpa, 60 s"
KNOWN, KNOWN_RATE = "every request known", "rate of two minutes known"
KNOWN_LOADS = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.4)
"""Parts of what the work needs."""


@dataclass(frozen=True)
class Setting:
    """A law with a setting."""

    law: str
    knob: str
    make: Callable[[], Law]


CAREFUL = (
    (HEADRACE, "headroom 0.1"),
    (HPA, "target 0.8 k"),
    (RAY, "target 0.8 k"),
    (DEFAULT_RAY, "target 2"),
    (EAGER_HPA, "target 0.8 k"),
)
"""What an operator would take who does not know the future."""


@dataclass(frozen=True)
class Row:
    """What a setting gave."""

    case: str
    draw: int
    """Of the traffic: see ``Case``."""
    law: str
    knob: str
    attainment: float
    chunk_hours: float
    held_chunk_hours: float
    met_s: float | None
    """From the rise of demand until as many chunks were ready."""
    overshoot: int | None
    """Chunks above what demand rose to."""
    short: float
    """Part of the time in which ready chunks were fewer than demand (over a minute)."""
    events: int
    """Changes of the number of chunks."""
    refused: int
    seconds: float
    """Of processor."""

    @property
    def point(self) -> Point:
        return Point(self.chunk_hours, self.attainment)


def settings(case: Case, workload: Workload, *, quick: bool) -> list[Setting]:
    found = compared(case, HEADROOMS[3::3], LOADS[2::2]) if quick else compared(case, HEADROOMS, LOADS)
    loads = LOADS[2::2] if quick else LOADS
    slots = case.engine.slots
    found += [Setting(RAY, f"target {load:g} k", partial(RayServe, load * slots)) for load in loads]
    found.append(Setting(DEFAULT_RAY, "target 2", RayServe))
    if not quick:
        eager = partial(Hpa, down_window_s=60, average_s=60)
        found += [Setting(EAGER_HPA, f"target {load:g} k", partial(eager, load * slots)) for load in loads]
    if not quick and not case.held_out:
        for law, arounds in ((KNOWN, (20, 60)), (KNOWN_RATE, (120,))):
            known = [(load, around_s) for around_s in arounds for load in KNOWN_LOADS]
            found += [Setting(law, f"{g:g}, {s} s", partial(Clairvoyant, case, workload, g, s)) for g, s in known]
    return found


def compared(
    case: Case, headrooms: Iterable[float] = HEADROOMS[1:], loads: Iterable[float] = LOADS[:-1]
) -> list[Setting]:
    """Headrace and the autoscaler of Kubernetes."""
    found = [Setting(HEADRACE, f"headroom {h:g}", partial(Headrace, Knobs(headroom=h))) for h in headrooms]
    return found + [Setting(HPA, f"target {load:g} k", partial(Hpa, load * case.engine.slots)) for load in loads]


def measure(case: Case, draw: int, workload: Workload, setting: Setting) -> Row:
    began = time.process_time()
    result = simulate(
        workload,
        case.terms,
        case.engine.model,
        setting.make(),
        starts_s=[case.start_s],
        ready=case.ready,
        until_s=case.until_s,
    )
    met_s = overshoot = None
    if case.risen is not None:
        at_s, chunks = case.risen
        met_s, overshoot = result.reached(chunks, at_s), result.most(at_s, case.until_s) - chunks
    return Row(
        case=case.name,
        draw=draw,
        law=setting.law,
        knob=setting.knob,
        attainment=result.attainment(case.limits),
        chunk_hours=result.chunk_hours,
        held_chunk_hours=result.held_chunk_hours,
        met_s=met_s,
        overshoot=overshoot,
        short=short(result, case.engine.chunk),
        events=len(result.decisions),
        refused=result.refused,
        seconds=time.process_time() - began,
    )


def short(result: Result, chunk: float) -> float:
    """Part of the seconds in which fewer chunks were ready than the demand of the minute around needs."""
    seconds = int(result.until_s)
    offered = [0.0] * (seconds + 1)
    for request in result.requests:
        if request.arrived_s < seconds:
            offered[int(request.arrived_s) + 1] += request.work
    for second in range(seconds):
        offered[second + 1] += offered[second]
    half = int(SMOOTH_S / 2)
    missing = 0
    moments = iter([*result.moments, None])
    ready, following = 0, next(moments)
    for second in range(seconds):
        while following is not None and following.at_s <= second:
            ready, following = following.ready, next(moments)
        low, high = max(0, second - half), min(seconds, second + half)
        missing += (offered[high] - offered[low]) / (high - low) > ready * chunk
    return missing / max(1, seconds)


def saved(rows: list[Row], own: str, other: str) -> list[float | None]:
    """The part of the chunk-hours of the ``other`` law that ``own`` saves at each of ``TARGETS``; None: one of the two
    does not attain it."""
    ours, theirs = ([row.point for row in rows if row.law == law] for law in (own, other))
    found: list[float | None] = []
    for target in TARGETS:
        cost, of = cost_at(ours, target), cost_at(theirs, target)
        found.append(None if cost is None or of is None else 1 - cost / of)
    return found
