"""Scaling laws on the same traffic, queue, routing and replicas: chunk-hours at equal attainment.

Each law is swept over its own knob, and the frontiers of (chunk-hours, attainment) are compared; see
``headrace.planner.frontier``.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

from cases import QUICK, Case, cases
from rich.console import Console
from rich.table import Table
from steady import HOURS, Steady, steady
from sweep import HEADRACE, HPA, KNOWN, KNOWN_RATE, TARGETS, Row, compared, measure, saved, settings
from tables import figures, whole
from workloads import MissingError, Workload

from headrace.planner.frontier import frontier

DRAWS = (1, 2, 3)
"""Of chance, beside the one of the tables."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, default=Path(os.environ.get("HEADRACE_TRACES", _at_hand())))
    parser.add_argument("--quick", action="store_true", default=bool(os.environ.get("QUICK")), help="under a minute")
    parser.add_argument("--cases", default="", help="only those whose names hold this")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.json"))
    parser.add_argument("--tables", type=Path, help="file for all tables, of a run of all cases")
    given = parser.parse_args()
    complete = not given.quick and not given.cases
    if given.tables is not None and not complete:
        parser.error("--tables is of all cases: leave out --quick and --cases")
    console = Console(width=150)
    shown: list[Case] = []
    rows: list[Row] = []
    draws: list[Row] = []
    hours: list[Steady] = []
    with ProcessPoolExecutor(given.jobs) as pool:
        for number, case in enumerate(cases()):
            if given.cases not in case.name or (given.quick and case.name not in QUICK):
                continue
            try:
                workload = case.make(given.traces, 0)
            except MissingError as missing:
                console.print(f"{case.name}: skipped, {missing}")
                continue
            places = range(len(settings(case, workload, quick=given.quick)))
            found = list(pool.map(_measured, [(number, place, given.quick, given.traces) for place in places]))
            show(console, case, found)
            shown.append(case)
            rows += found
            if complete and not case.held_out:
                again = [(number, draw, place, given.traces) for draw in DRAWS for place in range(len(compared(case)))]
                draws += pool.map(_drawn, again)
        if complete:
            hours += pool.map(steady, HOURS)
    given.out.write_text(json.dumps([asdict(row) for row in (*rows, *draws)], indent=1))
    if complete:
        text = whole(shown, rows, draws, hours)
        console.print(text, markup=False, soft_wrap=True)
        if given.tables is not None:
            given.tables.write_text(text)


def show(console: Console, case: Case, rows: list[Row]) -> None:
    title = f"{case.name}: {case.words}{'; held out' if case.held_out else ''}"
    table = Table("law", "setting", "attained", "chunk-hours", "held", "met, s", "over", "short", "events", title=title)
    best = {law: set(frontier(row.point for row in rows if row.law == law)) for law in _laws(rows)}
    for row in rows:
        table.add_row(row.law, row.knob, *figures(row), style="" if row.point in best[row.law] else "dim")
    console.print(table)
    savings = Table("chunk-hours saved at", *(f"{target:.1%}" for target in TARGETS))
    for law in _laws(rows):
        if law in (KNOWN, KNOWN_RATE):
            savings.add_row(f"{law}, beside {HPA}", *_cells(saved(rows, law, HPA)))
        elif law != HEADRACE:
            savings.add_row(f"beside {law}", *_cells(saved(rows, HEADRACE, law)))
    console.print(savings)


def _measured(work: tuple[int, int, bool, Path]) -> Row:
    number, place, quick, folder = work
    case, workload = _traffic(number, 0, folder)
    return measure(case, 0, workload, settings(case, workload, quick=quick)[place])


def _drawn(work: tuple[int, int, int, Path]) -> Row:
    number, draw, place, folder = work
    case, workload = _traffic(number, draw, folder)
    return measure(case, draw, workload, compared(case)[place])


@lru_cache(maxsize=1)
def _traffic(number: int, draw: int, folder: Path) -> tuple[Case, Workload]:
    case = cases()[number]
    return case, case.make(folder, draw)


def _laws(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row.law for row in rows))


def _cells(parts: list[float | None]) -> list[str]:
    return ["" if part is None else f"{part:+.1%}" for part in parts]


def _at_hand() -> str:
    """Where the traces lie beside the repository, if they do."""
    here = Path(__file__).resolve()
    found = (folder / "shared" / "data" / "traces" for folder in here.parents)
    return str(next((folder for folder in found if folder.is_dir()), here.parent))


if __name__ == "__main__":
    main()
