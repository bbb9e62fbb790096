"""Scaling laws on the same traffic, queue, routing and replicas: chunk-hours at equal attainment.

Each law is swept over its own knob, from thrifty to generous: Headrace's headroom, and for the others the requests per
replica that they aim at. The frontiers of (chunk-hours, attainment) are then compared; see
``headrace.planner.frontier``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from cases import Case, cases
from clairvoyant import Clairvoyant
from rich.console import Console
from rich.table import Table
from workloads import MissingError, Workload

from headrace.planner.frontier import Point, cost_at, frontier
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
HEADRACE, DEFAULT_RAY, HPA = "headrace", "ray serve, default", "hpa"
KNOWN, KNOWN_RATE = "every request known", "rate of two minutes known"
KNOWN_LOADS = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.4)
"""Parts of what the work needs."""


@dataclass(frozen=True)
class Setting:
    """A law with a setting."""

    law: str
    knob: str
    make: Callable[[], Law]


@dataclass(frozen=True)
class Row:
    """What a setting gave."""

    case: str
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


def settings(case: Case, workload: Workload, quick: bool) -> list[Setting]:
    slots = case.engine.slots
    headrooms, loads = (HEADROOMS[3::3], LOADS[2::2]) if quick else (HEADROOMS, LOADS)
    found = [Setting(HEADRACE, f"headroom {h:g}", partial(Headrace, Knobs(headroom=h))) for h in headrooms]
    found += [Setting(HPA, f"target {load:g} k", partial(Hpa, load * slots)) for load in loads]
    found += [Setting("ray serve", f"target {load:g} k", partial(RayServe, load * slots)) for load in loads]
    found.append(Setting(DEFAULT_RAY, "target 2", RayServe))
    if not quick:
        eager = partial(Hpa, down_window_s=60, average_s=60)
        found += [Setting("hpa, 60 s", f"target {load:g} k", partial(eager, load * slots)) for load in loads]
    if not quick and not case.held_out:
        for law, arounds in ((KNOWN, (20, 60)), (KNOWN_RATE, (120,))):
            known = [(load, around_s) for around_s in arounds for load in KNOWN_LOADS]
            found += [Setting(law, f"{g:g}, {s} s", partial(Clairvoyant, case, workload, g, s)) for g, s in known]
    return found


def measure(case: Case, workload: Workload, setting: Setting) -> Row:
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


def _measured(work: tuple[int, int, bool, Path]) -> Row:
    number, place, quick, folder = work
    case = cases()[number]
    workload = case.make(folder)
    return measure(case, workload, settings(case, workload, quick)[place])


def compare(rows: list[Row], own_law: str = HEADRACE) -> dict[str, dict[float, float | None]]:
    """Of each other law, the part of its chunk-hours that ``own_law`` saves at each attainment; None: one of them does
    not attain it."""

    def points(law: str) -> list[Point]:
        return [Point(row.chunk_hours, row.attainment) for row in rows if row.law == law]

    own = points(own_law)
    savings: dict[str, dict[float, float | None]] = {}
    for law in dict.fromkeys(row.law for row in rows if row.law != own_law):
        savings[law] = {}
        for target in TARGETS:
            ours, theirs = cost_at(own, target), cost_at(points(law), target)
            savings[law][target] = None if ours is None or theirs is None else 1 - ours / theirs
    return savings


def show(console: Console, case: Case, rows: list[Row]) -> None:
    limits = f"TTFT {case.limits.ttft_s:g} s, TPOT {1000 * case.limits.tpot_s:g} ms"
    held_out = "; held out" if case.held_out else ""
    title = f"{case.name}: {case.engine.name}, k {case.engine.slots}, start {case.start_s:g} s; {limits}{held_out}"
    table = Table("law", "setting", "attained", "chunk-hours", "held", "met, s", "over", "short", "events", title=title)
    best = {law: set(frontier(Point(r.chunk_hours, r.attainment) for r in rows if r.law == law)) for law in _laws(rows)}
    for row in rows:
        on = Point(row.chunk_hours, row.attainment) in best[row.law]
        table.add_row(
            row.law,
            row.knob,
            f"{row.attainment:.2%}",
            f"{row.chunk_hours:.3f}",
            f"{row.held_chunk_hours:.3f}",
            "" if row.met_s is None else f"{row.met_s:.0f}",
            "" if row.overshoot is None else f"{row.overshoot}",
            f"{row.short:.1%}",
            f"{row.events}",
            style="" if on else "dim",
        )
    console.print(table)
    savings = Table("chunk-hours saved at", *(f"{target:.1%}" for target in TARGETS))
    for law, saved in compare(rows).items():
        cells = ("" if part is None else f"{part:+.1%}" for part in saved.values())
        savings.add_row(f"beside {law}", *cells)
    for law in sorted({KNOWN, KNOWN_RATE} & set(_laws(rows))):
        cells = ("" if part is None else f"{part:+.1%}" for part in compare(rows, law)[HPA].values())
        savings.add_row(f"{law}, beside {HPA}", *cells)
    console.print(savings)


def _laws(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row.law for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, default=Path(os.environ.get("HEADRACE_TRACES", _at_hand())))
    parser.add_argument("--quick", action="store_true", default=bool(os.environ.get("QUICK")), help="under a minute")
    parser.add_argument("--cases", default="", help="only those whose names hold this")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.json"))
    given = parser.parse_args()
    console = Console(width=150)
    kept: list[dict[str, object]] = []
    with ProcessPoolExecutor(given.jobs) as pool:
        for number, case in enumerate(cases()):
            if given.cases not in case.name or (given.quick and case.held_out):
                continue
            try:
                workload = case.make(given.traces)
            except MissingError as missing:
                console.print(f"{case.name}: skipped, {missing}")
                continue
            work = [
                (number, place, given.quick, given.traces)
                for place in range(len(settings(case, workload, given.quick)))
            ]
            rows = list(pool.map(_measured, work))
            show(console, case, rows)
            kept += [asdict(row) for row in rows]
    given.out.write_text(json.dumps(kept, indent=1))


def _at_hand() -> str:
    """Where the traces lie beside the repository, if they do."""
    here = Path(__file__).resolve()
    found = (folder / "shared" / "data" / "traces" for folder in here.parents)
    return str(next((folder for folder in found if folder.is_dir()), here.parent))


if __name__ == "__main__":
    main()
