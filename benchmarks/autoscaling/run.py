"""How soon capacity follows demand on the real engine, what a start from zero costs, and whether decisions replay.

1. Replicas of the embedded engine are started on their own: the start-up time of this machine.
2. An endpoint of one to two of them gets a constant rate of 1.8 chunks: when is a second one decided, when is it ready,
   when is it used, and when is it given back?
3. The same endpoint with a minimum of 0 goes to zero, and requests wake it.
4. Ten minutes of simulated replicas under a varying load, with knobs and range changed and the controller killed.

Every decision of 2 to 4 is recorded and decided again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

sys.path.append(str(Path(__file__).parents[2] / "tests" / "system"))
from live import live
from measured import Load, cold_starts, decisions, until
from system_server import Server

from headrace.decisions.reader import read
from headrace.engines.base import ModelSettings
from headrace.fleet.spawn import start_replica
from headrace.models.pull import pull
from headrace.models.registry import Registry
from headrace.planner.replay import replay
from headrace.policy.scaling import Knobs, windows
from headrace.profiles.hardware import this_machine

MODEL = "smollm2-135m-instruct"
QUICK = bool(os.environ.get("QUICK"))
STARTS = 3
COLD_STARTS = 1 if QUICK else 3
FAST_S = 10.0 if QUICK else None
"""None: the law's own, three service times of the reference request."""
SLOW_S, DOWN_S = (10.0, 5.0) if QUICK else (30.0, 20.0)
ALLOWED_S = 2.0
"""Beyond the engine's own start-up time, from a decision to a ready chunk."""
LIVE_S = 40.0 if QUICK else 600.0


async def starts(model: ModelSettings, folder: Path) -> list[float]:
    """Seconds from the start of a process to a warm engine, with nothing else on the machine."""
    took = []
    for number in range(STARTS):
        began = time.monotonic()
        replica = await start_replica(model, cpus=(0,), log=folder / f"alone-{number}.log")
        took.append(time.monotonic() - began)
        await replica.stop()
    return took


def step(server: Server, start_s: float) -> dict[str, Any]:
    """One to two chunks under a rate of 1.8."""
    knobs = ["--slow-window", f"{SLOW_S}", "--down-window", f"{DOWN_S}"]
    if FAST_S is not None:
        knobs += ["--fast-window", f"{FAST_S}"]
    server.cli("endpoints", "create", "e", "--model", MODEL, "--min-chunks", "1", "--max-chunks", "2", *knobs, "--wait")
    (entity,) = server.endpoint("e")["entities"]
    fast_s, _ = windows(Knobs(fast_window_s=FAST_S), entity["chunk"], entity["slots"])
    with Load(server, "e", chunks=1.8, seconds=fast_s + (10 if QUICK else 30)) as load:
        up = until(lambda: decisions(server, "e", 1, 2), within_s=2 * fast_s, what="a decision for two chunks")
        until(lambda: server.endpoint("e")["chunks_ready"] == 2, within_s=60, what="two chunks are ready")
        second = max(server.endpoint("e")["replicas"], key=lambda replica: replica["created_ms"])
        load.wait()
    over_ms = time.time() * 1000
    until(lambda: server.endpoint("e")["chunks_in_use"] == 1, within_s=SLOW_S + DOWN_S + 60, what="back to one chunk")
    down = decisions(server, "e", 2, 1)
    assert down is not None
    rows = until(load.settled, within_s=15, what="the ledger has every request")
    used_ms = min(row["arrived_ms"] + row["queue_ms"] for row in rows if row["replica"] == second["id"])
    told = {
        "chunk": entity["chunk"],
        "fast_window_s": fast_s,
        "rate_to_decision_s": (up["at_ms"] - min(row["arrived_ms"] for row in rows)) / 1000,
        "decision_to_ask_s": (second["created_ms"] - up["at_ms"]) / 1000,
        "decision_to_ready_s": (second["ready_ms"] - up["at_ms"]) / 1000,
        "load_and_warm_up_s": second["load_s"],
        "ready_to_first_request_s": (used_ms - second["ready_ms"]) / 1000,
        "start_alone_s": start_s,
        "end_to_decision_back_s": (down["at_ms"] - over_ms) / 1000,
        "requests": len(rows),
        "refused_by_the_deadline": sum(row["replica"] is None for row in rows),
        "reasons": [up["message"], down["message"]],
    }
    told["met"] = told["rate_to_decision_s"] <= fast_s and told["decision_to_ready_s"] <= start_s + ALLOWED_S
    return told


def again(log: Path) -> dict[str, Any]:
    """Its decisions, decided again."""
    came = replay(read(log))
    different = None if came.difference is None else f"{came.difference.place}: {came.difference.reason}"
    return {
        "decisions": came.decisions,
        "changes": came.changes,
        "segments": came.segments,
        "seconds": round(came.seconds),
        "bytes": sum(file.stat().st_size for file in log.parent.glob(log.name + "*")),
        "difference": different,
        "met": different is None and came.decisions > 0,
    }


def embedded(folder: Path) -> dict[str, Any]:
    """1 to 3."""
    pull(MODEL)
    data, log = folder / "embedded", folder / "embedded.jsonl"
    alone = asyncio.run(starts(Registry(data / "models").get(MODEL), folder))
    print(f"start of a replica on its own: {', '.join(f'{took:.2f} s' for took in alone)}", flush=True)
    with Server(data, "--record-decisions", str(log)) as server:
        stepped = step(server, statistics.median(alone))
        cold = cold_starts(server, "e", COLD_STARTS)
    return {"starts_alone_s": alone, "step": stepped, "from_zero": cold, "replayed": again(log)}


def simulated(folder: Path) -> dict[str, Any]:
    """4."""
    log = folder / "live.jsonl"
    return {"live": live(folder / "live", log, LIVE_S), "replayed": again(log)}


PARTS = {"embedded": embedded, "simulated": simulated}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=PARTS, help="One part; all of it by default.")
    only = parser.parse_args().only
    machine = msgspec.to_builtins(this_machine()) | {"system": platform.platform()}
    file, met = Path(__file__).with_name("results.json"), True
    for part in [only] if only else PARTS:
        with tempfile.TemporaryDirectory(prefix="headrace-autoscaling-") as folder:
            found = PARTS[part](Path(folder))
        print(json.dumps(found, indent=2), flush=True)
        met &= all(one["met"] for one in found.values() if isinstance(one, dict))
        at = datetime.now(UTC).isoformat(timespec="seconds")
        before = json.loads(file.read_text()) if file.exists() else {}
        results = before | {part: {"at": at, "quick": QUICK, "machine": machine, **found}}
        file.write_text(json.dumps(results, indent=2) + "\n")
    print("met" if met else "NOT MET")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
