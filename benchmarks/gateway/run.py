"""What Headrace's gateway costs beside other proxies: ``make bench-gateway``; see README.md.

The same load goes through each row to the same upstream, in interleaved rounds; then each row alone is given streams to
hold. For a small part of it:

    python benchmarks/gateway/run.py --rows relay,headrace --measure request,event --rounds 6
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import uvloop

sys.path.append(str(Path(__file__).parents[1]))
import isolation
import memory
import peers
import report
from headrace_row import COMPILED, Headrace
from load import Load
from measures import FULL, MEASURES, QUICK, SLOW, WARM_UP, Figures, Started
from process import Failed, nothing_left
from rows import HERE, Cores, Direct, Place, Relay, Row, Upstream, start

from headrace import __version__
from headrace.profiles.hardware import this_machine

IS_QUICK = bool(os.environ.get("QUICK"))
ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        Direct(),
        Relay(),
        Headrace("headrace", "keys, queue, limiter, journal, ticks and access log (to a file) on"),
        Headrace("unmetered", "headrace with records made and dropped", launcher=(str(HERE / "unmetered.py"),)),
        *([Headrace("plain", "headrace as plain Python, without make compile", plain=True)] if COMPILED else []),
        peers.HTTPTOOLS,
        peers.AIOHTTP,
        peers.VLLM_ROUTER,
        peers.SMG,
        peers.LITELLM,
        peers.RAY_SERVE,
    )
}
REFERENCE = ("direct", "relay")
"""Rows that every group of rounds has."""
PHASES = (*MEASURES, "memory")
INTERVAL_MS = 2.0
"""Between the events of a stream."""
IDLE_S = 2.0
ROUNDS = 6 if IS_QUICK else 10
SLOW_ROUNDS = 6
QUICK_MEMORY = ("relay", "headrace")


def groups(rows: Sequence[str]) -> list[list[str]]:
    """Rows that run side by side. A slow one has rounds of its own: what it does when idle would disturb the rest."""
    slow = [name for name in rows if ROWS[name].slow]
    fast = [name for name in rows if name not in slow]
    only_reference = slow and all(name in REFERENCE for name in fast)
    return ([] if only_reference else [fast]) + [[*(name for name in REFERENCE if name in rows), name] for name in slow]


@contextlib.asynccontextmanager
async def running(
    names: Sequence[str], folder: Path, cores: Cores, failed: dict[str, str]
) -> AsyncIterator[list[Started]]:
    """The upstream and these rows; why one does not start is put into ``failed``."""
    upstream = Upstream(INTERVAL_MS)
    started: list[Started] = []
    try:
        place = Place(folder, await upstream.start(folder, cores), cores)
        for name in names:
            row = ROWS[name]
            try:
                await start(row, place)
            except Failed as error:
                failed[name] = str(error)
                continue
            effort = SLOW if any(ROWS[name].slow for name in names) else QUICK if IS_QUICK else FULL
            started.append(Started(row, Load(row.target), effort))
        yield started
    finally:
        for found in started:
            found.load.close()
            await found.row.stop()
        await upstream.stop()


async def rounds(started: list[Started], measures: Sequence[str], count: int) -> dict[str, list[Figures]]:
    """Figures of each row, one of a round; the order of the rows alternates."""
    for found in started:
        effort, found.effort = found.effort, SLOW if found.effort is SLOW else WARM_UP
        for measure in measures:
            await MEASURES[measure]([found])
        found.effort = effort
    before = [found.cpu_s() for found in started]
    await asyncio.sleep(IDLE_S)
    for found, cpu_s in zip(started, before, strict=True):
        found.idle = (found.cpu_s() - cpu_s) / IDLE_S
    figures: dict[str, list[Figures]] = {found.row.name: [{} for _ in range(count)] for found in started}
    for index in range(count):
        for measure in measures:
            for name, measured in (await MEASURES[measure](started if index % 2 else started[::-1])).items():
                figures[name][index] |= measured
        progress(f"round {index + 1}/{count} of {', '.join(figures)}")
    return figures


async def alone(names: Sequence[str], folder: Path, cores: Cores, failed: dict[str, str]) -> dict[str, Figures]:
    """Memory and start-up of each row."""
    upstream = Upstream(memory.INTERVAL_MS)
    found: dict[str, Figures] = {}
    try:
        place = Place(folder, await upstream.start(folder, cores), cores)
        for name in (name for name in names if (name in QUICK_MEMORY if IS_QUICK else name != Direct.name)):
            try:
                found[name] = await memory.memory(ROWS[name], place)
            except Failed as error:
                failed[name] = str(error)
            progress(f"memory of {name}")
    finally:
        await upstream.stop()
    return found


def progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What Headrace's gateway costs beside other proxies.")
    usual = [name for name, row in ROWS.items() if not (IS_QUICK and row.installed)]
    parser.add_argument("--rows", default=",".join(usual), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--measure", default=",".join(PHASES), help=f"of {', '.join(PHASES)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="six are needed for intervals")
    parser.add_argument("--results", type=Path, default=HERE / "results.json", help="written at the end")
    given = parser.parse_args()
    given.rows, given.measure = given.rows.split(","), given.measure.split(",")
    for name in (name for name in given.rows if name not in ROWS):
        parser.error(f"there is no row {name!r}; there are {', '.join(ROWS)}")
    for name in (name for name in given.measure if name not in PHASES):
        parser.error(f"there is no measure {name!r}; there are {', '.join(PHASES)}")
    return given


def prepare(names: Sequence[str], failed: dict[str, str]) -> list[str]:
    """Install what has to be, and tell which rows can run."""
    for name in names:
        try:
            ROWS[name].prepare()
        except Failed as error:
            failed[name] = str(error)
    return [name for name in names if name not in failed]


async def measure(given: argparse.Namespace, names: Sequence[str], failed: dict[str, str]) -> dict[str, Any]:
    """Everything, as it is written to results.json. SIGTERM ends it as Ctrl-C does: in order."""
    running_here = asyncio.current_task()
    assert running_here is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running_here.cancel)
    cores, machine = Cores.of_this_machine(), this_machine()
    os.sched_setaffinity(0, cores.rest)
    memory.most_streams()
    found: list[dict[str, list[Figures]]] = []
    held: dict[str, Figures] = {}
    wrong: dict[str, dict[str, int]] = {}
    measures = [name for name in given.measure if name in MEASURES]
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        for index, group in enumerate(groups(names) if measures else []):
            place = Path(folder) / f"{index}"
            place.mkdir()
            async with running(group, place, cores, failed) as started:
                count = given.rounds if index == 0 else min(given.rounds, SLOW_ROUNDS)
                found.append(await rounds(started, measures, count))
                wrong |= {one.row.name: dict(one.wrong) for one in started if one.wrong}
        if "memory" in given.measure:
            place = Path(folder) / "m"
            place.mkdir()
            held = await alone([name for name in names if name not in failed], place, cores, failed)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["QUICK=1"] * IS_QUICK + sys.argv),
        "machine": msgspec.to_builtins(machine) | {"system": platform.platform(), "python": platform.python_version()},
        "cores": {"proxy": cores.proxy, "load and upstream": cores.rest},
        "rows": {name: {"version": ROWS[name].version, "settings": ROWS[name].settings} for name in names},
        "failed": failed,
        "wrong": wrong,
        "rounds": found,
        "memory": held,
    }


def tell(results: dict[str, Any]) -> list[report.Goal]:
    """Print the tables; returns the goals."""
    found = report.goals(results["rounds"][0] if results["rounds"] else {}, results["memory"])
    machine = results["machine"]
    print(f"{results['at']}, Headrace {__version__}, {machine}")
    if results["rounds"]:
        print(f"\nmedians over the rounds\n\n{report.rounds_table(results['rounds'])}")
        print(f"\nwith their intervals\n\n{report.ratios_table(results['rounds'])}")
    if results["memory"]:
        print(f"\neach alone\n\n{report.memory_table(results['memory'])}")
    for name, why in results["failed"].items():
        print(f"\n{name} was not run: {why}")
    for name, counts in results["wrong"].items():
        print(f"\n{name}, answers that were not as they should be: {counts}")
    print()
    for goal in found:
        print(goal)
    return found


def main() -> int:
    given = arguments()
    failed: dict[str, str] = {}
    names = prepare(given.rows, failed)
    if not isolation.enter():
        for name in [name for name in names if ROWS[name].opens_ports]:
            failed[name] = "it opens ports on all interfaces, and no network namespace can be made here"
            names.remove(name)
    try:
        with nothing_left():
            results = uvloop.run(measure(given, names, failed))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    found = tell(results)
    results["goals"] = report.goals_told(found)
    given.results.write_text(json.dumps(results, indent=2) + "\n")
    return 0 if all(goal.met for goal in found) and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
