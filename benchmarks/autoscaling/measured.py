"""What a run puts on a server, and what it reads of it."""

from __future__ import annotations

import math
import statistics
import subprocess
import time
from typing import Any

from openai import OpenAI
from system_server import HEADRACE, Server, clean_environment, until

from headrace.policy.work import Weights

MOST_REQUESTS = 10_000
IDLE_S = 3.0
"""Of an endpoint that is to go to zero."""


class Load:
    """``headrace load`` at a constant rate for so long, open loop, 128 input and 64 output tokens."""

    def __init__(self, server: Server, endpoint: str, *, chunks: float, seconds: float) -> None:
        self._server = server
        self._endpoint = endpoint
        self._began_ms = int(time.time() * 1000)
        self._seconds = seconds
        (entity,) = server.endpoint(endpoint)["entities"]
        rate = chunks * entity["chunk"] / Weights(**entity["weights"]).work(128, 0, 64)
        self.requests = math.ceil(seconds * rate)
        lengths = ("--input-tokens", "128", "--output-tokens", "64")
        amount = ("--rate-chunks", f"{chunks}", "--requests", f"{self.requests}")
        self._process = subprocess.Popen(
            [HEADRACE, "load", endpoint, *lengths, *amount, "--arrivals", "constant", "--calibration", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(HEADRACE_URL=server.url, HEADRACE_API_KEY=server.key),
        )

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def wait(self) -> None:
        """Until every request has its answer. Raises RuntimeError where it could not be sent."""
        _, said = self._process.communicate(timeout=self._seconds + 120)
        if self._process.returncode not in (0, 3):  # 3: the client of a busy machine was late, which is no matter here
            raise RuntimeError(f"headrace load ended with {self._process.returncode}: {said[-500:]}")

    def settled(self) -> list[dict[str, Any]] | None:
        """Its requests as the ledger has them; None until it has all of them."""
        path = f"/api/headrace/v1/usage?endpoint={self._endpoint}&group=request&from_ms={self._began_ms}"
        rows = list(self._server.get(f"{path}&limit={MOST_REQUESTS}")["rows"])
        return rows if len(rows) >= self.requests else None


def decisions(server: Server, endpoint: str, before: int, after: int) -> dict[str, Any] | None:
    """The last decision from so many chunks to so many."""
    events = server.get(f"/api/headrace/v1/events?endpoint={endpoint}&kind=scaled&limit=1000")["events"]
    found = [event for event in events if (event["data"]["from"], event["data"]["to"]) == (before, after)]
    return found[-1] if found else None


def cold_starts(server: Server, endpoint: str, times: int) -> dict[str, Any]:
    """The endpoint with a minimum of zero: how long it takes to get there, and what the next request waits."""
    words = ("--min-chunks", "0", "--scale-to-zero", "--idle-to-zero", f"{IDLE_S}")
    server.cli("endpoints", "update", endpoint, *words, "--wait")
    client = OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=60)
    cold, warm, idle, errors = [], [], [], 0
    for number in range(times):
        at_zero = lambda: server.endpoint(endpoint)["chunks_in_use"] == 0  # noqa: E731
        began = time.monotonic()
        until(at_zero, within_s=60, what="zero chunks")
        idle.append(time.monotonic() - began)
        for took in (cold, warm):
            began = time.monotonic()
            try:
                prompt = [1000 + number] * 16
                client.completions.create(model=endpoint, prompt=prompt, max_tokens=4, extra_body={"ignore_eos": True})
            except Exception as error:
                print(f"a request at an endpoint at zero failed: {error}", flush=True)
                errors += 1
            took.append(time.monotonic() - began)
    return {
        "times": times,
        "idle_to_zero_s": IDLE_S,
        "to_zero_s": idle,
        "cold_s": cold,
        "warm_s": warm,
        "cold_start_s": statistics.median(cold) - statistics.median(warm),
        "errors": errors,
        "met": errors == 0,
    }
