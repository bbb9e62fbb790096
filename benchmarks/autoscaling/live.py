"""Minutes in the life of a server of simulated replicas, in which everything happens that a decision depends on."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from openai import OpenAI
from system_server import HEADRACE, Server, clean_environment
from system_simulated import register_simulated

from headrace.profiles.profile import IterationTime

ITERATION = IterationTime(base_s=0.02, prefill_s=0.0005, decode_s=0.004, context_s=0.0)
"""Slow, so that many chunks need few requests."""
MOST_CHUNKS = 6
START_S = 2.0
STAGES = 10
KNOBS = ("--fast-window", "10", "--slow-window", "20", "--down-window", "10", "--wait-target", "4")


def live(data: Path, log: Path, seconds: float, seed: int = 1) -> dict[str, Any]:
    """A varying load on one endpoint, a request now and then on one that goes to zero; knobs, range and autoscaling
    change, and the controller is killed."""
    profile = register_simulated(data, "sim", ITERATION, slots=2, start_s=START_S)
    draw, each = random.Random(seed), seconds / STAGES
    per_chunk = profile.chunk / profile.weights.work(128, 0, 64)
    levels = [draw.uniform(0.2, MOST_CHUNKS * 0.9) * per_chunk for _ in range(STAGES)]
    with Server(data, "--record-decisions", str(log)) as server:
        size = ("--min-chunks", "1", "--max-chunks", f"{MOST_CHUNKS}")
        server.cli("endpoints", "create", "busy", "--model", "sim", *size, *KNOBS, "--wait")
        idle = ("--min-chunks", "0", "--max-chunks", "1", "--scale-to-zero", "--idle-to-zero", "5")
        server.cli("endpoints", "create", "idle", "--model", "sim", *idle, "--wait")
        stages = ",".join(f"{each:g}@{level:.3f}" for level in levels)
        load = subprocess.Popen(
            [HEADRACE, "load", "busy", "--input-tokens", "128", "--output-tokens", "64", "--stages", stages],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=clean_environment(HEADRACE_URL=server.url, HEADRACE_API_KEY=server.key),
        )
        try:
            failed = _meanwhile(server, seconds)
            load.wait(seconds + 120)
        finally:
            load.kill()
            load.wait()
        time.sleep(2.0)  # the ledger reads the journal every now and then
        (usage,) = server.get("/api/headrace/v1/usage?endpoint=busy&group=endpoint")["rows"]
        scaled = server.get("/api/headrace/v1/events?endpoint=busy&kind=scaled&limit=1000")["events"]
    return {
        "seconds": seconds,
        "requests": usage["requests"],
        "rejected": usage["rejected"],
        "changes": len(scaled),
        "most_chunks": max(event["data"]["to"] for event in scaled),
        "failed_at_the_idle_endpoint": failed,
        "met": failed == 0 and usage["requests"] > 0 and len(scaled) >= 4,
    }


def _meanwhile(server: Server, seconds: float) -> int:
    """What happens beside the load; how many requests to the idle endpoint failed."""
    changes: list[tuple[float, Callable[[], object]]] = [
        (0.25, lambda: server.cli("endpoints", "update", "busy", "--headroom", "0.5", "--slow-window", "40")),
        (0.40, lambda: server.cli("endpoints", "update", "busy", "--min-chunks", "2", "--max-chunks", "5")),
        (0.55, lambda: _kill_controller(server)),
        (0.70, lambda: server.cli("endpoints", "update", "busy", "--autoscaling", "off")),
        (0.80, lambda: server.cli("endpoints", "update", "busy", "--autoscaling", "on", "--headroom", "default")),
    ]
    client = OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=60)
    began, failed = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        if changes and passed >= changes[0][0] * seconds:
            changes.pop(0)[1]()
        try:
            client.completions.create(model="idle", prompt=[7] * 16, max_tokens=4)
        except Exception as error:
            print(f"a request at an endpoint that goes to zero failed: {error}", flush=True)
            failed += 1
        time.sleep(min(12.0, seconds / 10))
    return failed


def _kill_controller(server: Server) -> None:
    for process in server.family():
        with contextlib.suppress(psutil.Error):
            if any("headrace.controller" in part for part in process.cmdline()):
                process.send_signal(signal.SIGKILL)
