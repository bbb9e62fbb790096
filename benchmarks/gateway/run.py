"""What Headrace's gateway costs beside other proxies: ``make bench-gateway``; see README.md.

The same load goes through each row to the same upstream, in interleaved rounds. For a small part of it:

    python benchmarks/gateway/run.py --rows direct,relay,headrace --measure request,event --rounds 6
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import uvloop

sys.path.append(str(Path(__file__).parents[1]))
from headrace_row import Headrace
from load import Load
from measures import MEASURES, Effort, Figures, Started
from pairs import ratio
from process import Failed
from rows import Cores, Direct, Place, Relay, Row, Upstream

from headrace.profiles.hardware import this_machine

ROWS: dict[str, Callable[[], Row]] = {"direct": Direct, "relay": Relay, "headrace": Headrace}
FLOOR = "relay"
INTERVAL_MS = 2.0
"""Between the events of a stream."""
IDLE_S = 1.0
WARM_UP = Effort(requests=300, short_streams=16, long_streams=8)


@contextlib.asynccontextmanager
async def running(names: list[str], folder: Path, cores: Cores) -> AsyncIterator[dict[str, Started]]:
    """The upstream and these rows; what does not start is told and left out."""
    upstream = Upstream(INTERVAL_MS)
    started: dict[str, Started] = {}
    try:
        place = Place(folder, await upstream.start(folder, cores), cores)
        for name in names:
            row = ROWS[name]()
            try:
                await row.start(place)
            except Failed as error:
                print(f"{name} does not run here: {error}", file=sys.stderr, flush=True)
                continue
            started[name] = Started(row, Load(row.target))
        yield started
    finally:
        for found in started.values():
            found.load.close()
            await found.row.stop()
        await upstream.stop()


async def rounds(started: dict[str, Started], measures: list[str], count: int) -> dict[str, list[Figures]]:
    """Figures of each row, one of a round; the order of the rows alternates."""
    for found in started.values():
        for measure in measures:
            await MEASURES[measure](found, WARM_UP)
    before = {name: found.cpu_s() for name, found in started.items()}
    await asyncio.sleep(IDLE_S)
    for name, found in started.items():
        found.idle = (found.cpu_s() - before[name]) / IDLE_S
    figures: dict[str, list[Figures]] = {name: [] for name in started}
    for index in range(count):
        for name in list(started) if index % 2 else reversed(started):
            measured: Figures = {}
            for measure in measures:
                measured |= await MEASURES[measure](started[name], Effort())
            figures[name].append(measured)
        print(f"  round {index + 1}/{count}", file=sys.stderr, flush=True)
    return figures


def table(figures: dict[str, list[Figures]], wrong: dict[str, dict[str, int]]) -> str:
    """Medians, and ratios to the floor of the same rounds."""
    names = list(dict.fromkeys(key for rows in figures.values() for row in rows for key in row))
    lines = []
    for name in names:
        lines.append(f"\n{name}")
        floor = [one[name] for one in figures.get(FLOOR, []) if name in one]
        for row, found in figures.items():
            values = [one[name] for one in found if name in one]
            if not values:
                continue
            text = f"  {row:12} {statistics.median(values):10.2f}  [{min(values):.2f}, {max(values):.2f}]"
            if row not in (FLOOR, "direct") and len(floor) == len(values) >= 6 and all(floor):
                text += f"   / {FLOOR}: {ratio(values, floor)}"
            lines.append(text)
    lines += [f"\n{row} went wrong: {dict(counts)}" for row, counts in wrong.items() if counts]
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What Headrace's gateway costs beside other proxies.")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--measure", default=",".join(MEASURES), help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--rounds", type=int, default=6)
    given = parser.parse_args()
    given.rows, given.measure = given.rows.split(","), given.measure.split(",")
    for name in (name for name in given.rows if name not in ROWS):
        parser.error(f"there is no row {name!r}; there are {', '.join(ROWS)}")
    for name in (name for name in given.measure if name not in MEASURES):
        parser.error(f"there is no measure {name!r}; there are {', '.join(MEASURES)}")
    return given


async def main() -> None:
    given = arguments()
    cores = Cores.of_this_machine()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        async with running(given.rows, Path(folder), cores) as started:
            os.sched_setaffinity(0, cores.rest)
            figures = await rounds(started, given.measure, given.rounds)
            wrong = {name: dict(found.wrong) for name, found in started.items()}
    print(table(figures, wrong))
    results: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "machine": msgspec.to_builtins(this_machine()) | {"system": platform.platform()},
        "figures": figures,
        "wrong": wrong,
    }
    Path(__file__).with_name("results.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    uvloop.run(main())
