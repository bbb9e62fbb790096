"""Scaling of a whole server on simulated replicas: soon enough, told with its reason, and replayed from its record."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import OpenAI
from system_server import HEADRACE, Server, clean_environment, until
from system_simulated import register_simulated

from headrace.profiles.profile import IterationTime, Profile

pytestmark = pytest.mark.system

ITERATION = IterationTime(base_s=0.005, prefill_s=0.0001, decode_s=0.001, context_s=0.0)
START_S = 1.0
"""Of a simulated replica, beside the start of its process."""
PROCESS_S = 3.0
"""For a process to start on a machine that runs other tests too."""
FAST_S, DOWN_S = 4.0, 4.0
KNOBS = ("--fast-window", f"{FAST_S}", "--slow-window", "5", "--down-window", f"{DOWN_S}", "--wait-target", "3")


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return register_simulated(tmp_path / "data", "sim", ITERATION, slots=2, start_s=START_S)


@pytest.fixture
def server(tmp_path: Path, profile: Profile) -> Iterator[Server]:
    """A server that records its decisions."""
    with Server(tmp_path / "data", "--record-decisions", str(tmp_path / "decisions.jsonl")) as server:
        yield server


class ConstantLoad:
    """Requests of 128/64 tokens, each sent when it is due whatever became of those before it."""

    def __init__(self, server: Server, endpoint: str, requests_per_s: float) -> None:
        self._client = OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=60)
        self._endpoint = endpoint
        self._every_s = 1 / requests_per_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.errors: list[Exception] = []
        self.began_ms = 0.0

    def __enter__(self) -> ConstantLoad:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        start, sent = time.monotonic(), []
        self.began_ms = time.time() * 1000
        for number in itertools.count():
            if self._stop.wait(max(0.0, start + number * self._every_s - time.monotonic())):
                break
            sent.append(threading.Thread(target=self._ask, args=(number,)))
            sent[-1].start()
        for request in sent:
            request.join()

    def _ask(self, number: int) -> None:
        try:
            self._client.completions.create(
                model=self._endpoint, prompt=[1000 + number] * 128, max_tokens=64, extra_body={"ignore_eos": True}
            )
        except Exception as error:
            self.errors.append(error)


def events(server: Server, kind: str) -> list[dict[str, Any]]:
    return list(server.get(f"/api/headrace/v1/events?endpoint=e&kind={kind}")["events"])


def decided(server: Server, before: int, after: int) -> dict[str, Any] | None:
    """The last decision from so many chunks to so many."""
    found = [
        event for event in events(server, "scaled") if (event["data"]["from"], event["data"]["to"]) == (before, after)
    ]
    return found[-1] if found else None


def ready(server: Server) -> int | None:
    """Chunks; None while no controller answers."""
    with contextlib.suppress(OSError):
        return int(server.endpoint("e")["chunks_ready"])
    return None


def kill_controller(server: Server) -> None:
    (controller,) = (p for p in server.family() if any("headrace.controller" in part for part in p.cmdline()))
    controller.send_signal(signal.SIGKILL)
    psutil.wait_procs([controller], timeout=10)


def test_demand_brings_a_chunk_within_the_window_and_its_end_takes_it_back_and_all_of_it_replays(
    tmp_path: Path, server: Server, profile: Profile
) -> None:
    server.cli("endpoints", "create", "e", "--model", "sim", "--min-chunks", "1", "--max-chunks", "2", *KNOBS, "--wait")
    with ConstantLoad(server, "e", 1.8 * profile.chunk / profile.weights.work(128, 0, 64)) as load:
        up = until(lambda: decided(server, 1, 2), within_s=30, what="a decision for two chunks")
        until(lambda: server.endpoint("e")["chunks_ready"] == 2, within_s=30, what="two chunks are ready")
        kill_controller(server)
        until(lambda: ready(server) == 2, within_s=30, what="a new controller has adopted both")
    until(lambda: server.endpoint("e")["chunks_ready"] == 1, within_s=60, what="back to one chunk")

    assert load.errors == []
    assert up["at_ms"] - load.began_ms < (FAST_S + 2) * 1000
    second = events(server, "replica_ready")[1]
    assert second["at_ms"] - up["at_ms"] < (START_S + PROCESS_S) * 1000
    down = events(server, "scaled")[-1]
    assert "2 -> 1 chunk: " in down["message"] and "would have been enough" in down["message"]
    assert server.stop() == 0
    said = server.cli("decisions", "replay", str(tmp_path / "decisions.jsonl")).stdout
    assert "in 2 segments, all identical" in said


def test_an_idle_endpoint_goes_to_zero_and_its_next_request_waits_for_a_start_and_is_answered(server: Server) -> None:
    words = ("--min-chunks", "0", "--max-chunks", "1", "--scale-to-zero", "--idle-to-zero", "3")
    server.cli("endpoints", "create", "e", "--model", "sim", *words, "--wait")
    client = OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=60)

    def ask() -> float:
        began = time.monotonic()
        answer = client.completions.create(model="e", prompt=[7] * 16, max_tokens=4)
        assert answer.usage is not None and answer.usage.completion_tokens == 4
        return time.monotonic() - began

    ask()
    until(lambda: server.endpoint("e")["chunks_in_use"] == 0, within_s=30, what="zero chunks")
    assert START_S < ask() < START_S + PROCESS_S
    assert server.endpoint("e")["state"] == "ready"


def test_autoscaling_off_stays_at_the_minimum_and_says_so(server: Server, profile: Profile) -> None:
    words = ("--min-chunks", "1", "--max-chunks", "2", "--autoscaling", "off")
    server.cli("endpoints", "create", "e", "--model", "sim", *words, *KNOBS, "--wait")
    pid = server.endpoint("e")["replicas"][0]["pid"]
    with ConstantLoad(server, "e", 1.8 * profile.chunk / profile.weights.work(128, 0, 64)):
        until(lambda: server.endpoint("e")["gauges"]["queued"] > 4, within_s=30, what="a queue")
        assert "autoscaling is off" in server.cli("status").stdout
        assert server.endpoint("e")["chunks_wanted"] == 1
        server.cli("endpoints", "update", "e", "--autoscaling", "on")
        until(lambda: server.endpoint("e")["chunks_ready"] == 2, within_s=30, what="two chunks are ready")
    assert server.endpoint("e")["config_version"] == 1
    assert pid in [replica["pid"] for replica in server.endpoint("e")["replicas"]]


def test_a_decision_log_that_cannot_be_written_is_said_before_anything_is_started(tmp_path: Path) -> None:
    log = tmp_path / "none" / "decisions.jsonl"
    done = subprocess.run(
        [HEADRACE, "serve", "--port", "0", "--data-dir", str(tmp_path / "data"), "--record-decisions", str(log)],
        capture_output=True,
        text=True,
        timeout=30,
        env=clean_environment(),
        check=False,
    )
    assert done.returncode == 1
    assert f"cannot record decisions in {log}: No such file or directory" in done.stderr
