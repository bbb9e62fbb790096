"""What load clients cost and how true they are, beside each other: ``make bench-load``; see README.md.

All on the same cases against the same server, which records the truth, in interleaved rounds. For a small part of it:

    python benchmarks/load/run.py --rows bare,headrace --cases requests,seventy --rounds 3
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

sys.path.append(str(Path(__file__).parents[1]))
import cases
import isolation
import tables
from cases import Case
from client_row import HERE, ClientRow
from floors import Bare, Timer
from headrace_row import Headrace
from measure import Figures, Place, measure
from peer_rows import AIPerf, GuideLLM, Locust
from process import Failed, nothing_left
from server_process import TruthServer

from headrace import __version__
from headrace.profiles.hardware import this_machine

IS_QUICK = bool(os.environ.get("QUICK"))
ROWS: dict[str, ClientRow] = {row.name: row for row in (Bare(), Timer(), Headrace(), Locust(), AIPerf(), GuideLLM())}
CASES = ("apart", "dense", "dense_unrecorded", "together", "requests", "seventy", "promised", "common")
ONLY = {
    "dense": ("bare", "headrace"),
    "dense_unrecorded": ("bare",),
    "promised": ("bare", "timer", "headrace"),
}
"""Of a case that the other rows cannot keep up with, or that is about the server."""
OPEN_LOOP = ("seventy", "promised", "common")
ROUNDS = 3 if IS_QUICK else 4
PEER_ROUNDS = 3
"""They take ten to twenty seconds to start, each time."""
SECONDS = 2.0 if IS_QUICK else 3.0


def case(name: str, row: str, saturation: dict[str, float]) -> Case | None:
    """None where the row has no part in it."""
    if row not in ONLY.get(name, (row,)) or (ROWS[row].open_loop_only and name not in OPEN_LOOP):
        return None
    if name == "seventy":
        # The floors send what Headrace sends: its figures are held against theirs.
        of = saturation.get(row if ROWS[row].installed else Headrace.name)
        return None if of is None else cases.seventy(SECONDS, cases.SHARE * of)
    return {
        "apart": lambda: cases.apart(SECONDS),
        "dense": lambda: cases.dense(SECONDS),
        "dense_unrecorded": lambda: cases.dense(SECONDS, record=False),
        "together": lambda: cases.together(SECONDS),
        "requests": lambda: cases.requests(SECONDS),
        "promised": lambda: cases.promised(SECONDS),
        "common": lambda: cases.common(SECONDS + 1),
    }[name]()


def in_order(names: Sequence[str], asked: Sequence[str], count: int) -> Iterator[tuple[int, str, str]]:
    """Round, case and row: a case of all rows before the next case, the rows in alternating order."""
    for index in range(count):
        rows = [name for name in names if not ROWS[name].installed or index < PEER_ROUNDS]
        for name in asked:
            for row in rows if index % 2 == 0 else rows[::-1]:
                yield index, name, row


async def rounds(
    names: Sequence[str], asked: Sequence[str], count: int, failed: dict[str, str]
) -> list[dict[str, dict[str, Figures]]]:
    """Figures by case and row, of each round. A row that fails on a case is left out of it from then on."""
    running = asyncio.current_task()
    assert running is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    mine = sorted(os.sched_getaffinity(0))
    server_cores, client_cores = tuple(mine[:-1]) or tuple(mine), (mine[-1],)
    os.sched_setaffinity(0, server_cores)
    found: list[dict[str, dict[str, Figures]]] = [{name: {} for name in asked} for _ in range(count)]
    saturation: dict[str, float] = {}
    server = TruthServer()
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        await server.start(Path(folder), server_cores)
        try:
            place = Place(server, server_cores, client_cores)
            for index, name, row in in_order(names, asked, count):
                load = None if f"{row}, {name}" in failed else case(name, row, saturation)
                if load is None:
                    continue
                try:
                    figures = await measure(ROWS[row], load, place)
                except Failed as error:
                    failed[f"{row}, {name}"] = str(error)
                    continue
                if name == "requests":
                    saturation[row] = figures["requests_per_s"]
                found[index][name][row] = figures
                print(f"  round {index + 1}/{count}: {name} of {row}", file=sys.stderr, flush=True)
        finally:
            await server.stop()
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What load clients cost and how true they are.")
    usual = [name for name, row in ROWS.items() if not (IS_QUICK and row.installed)]
    parser.add_argument("--rows", default=",".join(usual), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}; seventy follows requests")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"peers take part in {PEER_ROUNDS} at most")
    parser.add_argument("--results", type=Path, default=HERE / "results.json", help="written at the end")
    given = parser.parse_args()
    given.rows, given.cases = given.rows.split(","), given.cases.split(",")
    for name in (name for name in given.rows if name not in ROWS):
        parser.error(f"there is no row {name!r}; there are {', '.join(ROWS)}")
    for name in (name for name in given.cases if name not in CASES):
        parser.error(f"there is no case {name!r}; there are {', '.join(CASES)}")
    return given


def prepare(names: Sequence[str], failed: dict[str, str]) -> list[str]:
    """Install what has to be, and tell which rows can run."""
    for name in names:
        try:
            ROWS[name].prepare()
        except Failed as error:
            failed[name] = f"could not be installed here: {error}"
    return [name for name in names if name not in failed]


def main() -> int:
    given, machine = arguments(), this_machine()
    failed: dict[str, str] = {}
    names = prepare(given.rows, failed)
    isolation.enter()  # nothing that a client calls home to is there; without it they run all the same
    try:
        with nothing_left():
            found = asyncio.run(rounds(names, given.cases, given.rounds, failed))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    goals = tables.goals(found)
    results: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["QUICK=1"] * IS_QUICK + sys.argv),
        "machine": msgspec.to_builtins(machine) | {"system": platform.platform(), "python": platform.python_version()},
        "rows": {name: {"version": ROWS[name].version, "settings": ROWS[name].settings} for name in names},
        "failed": failed,
        "rounds": found,
        "goals": tables.goals_told(goals),
    }
    given.results.write_text(json.dumps(results, indent=2) + "\n")
    print(f"{results['at']}, Headrace {__version__}, {results['machine']}")
    print(tables.told(found, [name for name in ROWS if name in names]))
    for name, why in failed.items():
        print(f"\n{name} was not measured: {why}")
    print()
    for goal in goals:
        print(goal)
    return 0 if all(goal.met for goal in goals) and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
