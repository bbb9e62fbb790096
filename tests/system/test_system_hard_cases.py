"""What goes wrong on real machines: ports in use, broken models, processes killed at a bad moment, clients gone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from openai import OpenAI
from system_server import HEADRACE, Server, clean_environment, until
from system_simulated import register_simulated

from headrace.engines.base import ModelSettings
from headrace.profiles.profile import IterationTime, Profile

pytestmark = pytest.mark.system

FAST = IterationTime(base_s=0.004, prefill_s=0.0001, decode_s=0.001, context_s=0.0)
"""About 200 output tokens a second."""


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return register_simulated(tmp_path / "data", "sim", FAST, slots=2)


@pytest.fixture
def running(tmp_path: Path, profile: Profile) -> Iterator[Server]:
    """A server with a simulated model and no endpoint."""
    with Server(tmp_path / "data") as server:
        yield server


def create(server: Server, name: str, profile: Profile, low: int, high: int, **headrace: Any) -> None:
    server.call(
        "POST",
        "/api/2.0/serving-endpoints",
        {
            "name": name,
            "headrace": headrace,
            "config": {
                "served_entities": [
                    {
                        "entity_name": profile.model,
                        "entity_version": "1",
                        "min_provisioned_throughput": low * profile.chunk,
                        "max_provisioned_throughput": high * profile.chunk,
                        "scale_to_zero_enabled": low == 0,
                    }
                ]
            },
        },
    )
    until(
        lambda: server.endpoint(name)["config_update"] == "NOT_UPDATING" or None,
        within_s=30,
        what=f"{name} is updated",
    )


def serve(*words: str) -> subprocess.CompletedProcess[str]:
    """A ``headrace serve`` that is expected to end by itself."""
    return subprocess.run(
        [HEADRACE, "serve", *words], capture_output=True, text=True, timeout=30, env=clean_environment(), check=False
    )


def child(server: Server, word: str) -> psutil.Process:
    """The one process of a server whose command line holds ``word``."""
    (found,) = (p for p in server.family() if any(word in part for part in p.cmdline()))
    return found


class Stream:
    """One streamed completion in a thread: events as they come, and how it ended."""

    def __init__(self, server: Server, endpoint: str, *, max_tokens: int, input_tokens: int = 16) -> None:
        self._client = OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=60)
        self._ask = {"model": endpoint, "prompt": [7] * input_tokens, "max_tokens": max_tokens}
        self.events = 0
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            for _ in self._client.completions.create(stream=True, extra_body={"ignore_eos": True}, **self._ask):  # type: ignore[call-overload]
                self.events += 1
        except Exception as error:
            self.error = error

    def join(self) -> Stream:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self


def usage_rows(server: Server, endpoint: str) -> list[dict[str, Any]]:
    return list(server.get(f"/api/headrace/v1/usage?endpoint={endpoint}&group=request")["rows"])


# Starting and stopping


def test_a_port_in_use_is_said_and_nothing_is_left_running(tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve("--port", str(port), "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}: it is in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert not set(psutil.Process().children(recursive=True)) - before


def test_a_second_server_on_one_data_directory_is_refused(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        done = serve("--port", "0", "--data-dir", str(server.data_dir))
        assert done.returncode == 1
        assert f"process {server.process.pid}" in done.stderr
        assert server.healthy()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_finishes_what_is_in_flight_and_leaves_nothing(
    tmp_path: Path, profile: Profile, sign: signal.Signals
) -> None:
    with Server(tmp_path / "data") as server:
        create(server, "e", profile, 1, 1)
        stream = Stream(server, "e", max_tokens=300)
        until(lambda: stream.events > 10, within_s=20, what="the answer streams")
        assert server.stop(sign=sign) == 0  # fails where a process is left
        assert stream.join().error is None and stream.events >= 300
        assert (server.data_dir / "admin.key").stat().st_mode & 0o777 == 0o600


def test_when_the_supervisor_is_killed_everything_ends(tmp_path: Path, profile: Profile) -> None:
    with Server(tmp_path / "data") as server:
        create(server, "e", profile, 2, 2)
        family = server.family()
        assert len(family) >= 4  # gateway, controller, two replicas
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(10)
        _, left = psutil.wait_procs(family, timeout=10)
        assert not left


def test_endpoints_keys_and_usage_outlive_a_restart(tmp_path: Path, profile: Profile) -> None:
    server = Server(tmp_path / "data")
    with server:
        create(server, "e", profile, 1, 2)
        Stream(server, "e", max_tokens=20).join()
        until(lambda: usage_rows(server, "e"), within_s=10, what="the request is in the ledger")
        admin = server.key
    began = time.monotonic()
    with server:
        took = time.monotonic() - began
        assert server.key == admin
        assert server.endpoint("e")["chunks_ready"] == 1  # ready before /healthz says so
        assert [row["output_tokens"] for row in usage_rows(server, "e")] == [20]
        assert took < 30


# Models that cannot run


@pytest.mark.engine
@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_a_model_file_that_is_gone_or_broken_is_named_and_the_rest_serves(
    tmp_path: Path, profile: Profile, smollm2: ModelSettings, damage: str
) -> None:
    assert smollm2.path is not None
    weights = tmp_path / "mine.gguf"
    shutil.copy(smollm2.path, weights)
    server = Server(tmp_path / "data")
    with server:
        server.cli("models", "add", "mine", "--gguf", str(weights), "--data-dir", str(server.data_dir))
        measured = server.data_dir / "profiles" / "mine.json"
        told = json.loads((Path(measured).with_name("sim.json")).read_text())
        measured.write_text(json.dumps(told | {"model": "mine", "engine": "llamacpp", "model_sha256": None}))
        create(server, "good", profile, 1, 1)
        create(server, "bad", profile_named(profile, "mine"), 1, 1)
    if damage == "missing":
        weights.unlink()
    else:
        os.truncate(weights, 1_000_000)
    with server:  # /healthz says 200 although one endpoint has failed
        Stream(server, "good", max_tokens=5).join()
        until(lambda: server.endpoint("bad")["problems"], within_s=30, what="the problem is told")
        problems = json.dumps(server.endpoint("bad")["problems"])
        assert "mine.gguf" in problems
        status = server.cli("status", check=False)
        assert "mine.gguf" in status.stdout + status.stderr
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.call("POST", "/v1/completions", {"model": "bad", "prompt": "x", "service_tier": "nonsense"})
        assert refused.value.code == 400


def profile_named(profile: Profile, name: str) -> Profile:
    return msgspec.structs.replace(profile, model=name)


# Processes killed


def test_a_killed_gateway_loses_no_record_of_what_it_streamed(running: Server, profile: Profile) -> None:
    create(running, "e", profile, 1, 1)
    stream = Stream(running, "e", max_tokens=2000)
    until(lambda: stream.events > 250, within_s=20, what="the answer streams for more than a second")
    os.kill(child(running, "headrace.gateway").pid, signal.SIGKILL)
    assert stream.join().error is not None

    def recovered() -> Any:
        return [row for row in usage_rows(running, "e") if row["outcome"] == "recovered"]

    (row,) = until(recovered, within_s=20, what="the request is settled by what was journaled")
    assert row["input_tokens"] == 16 and row["exact"] is False
    assert 0 < row["output_tokens"] <= stream.events + 100
    until(running.healthy, within_s=20, what="another gateway serves")
    assert Stream(running, "e", max_tokens=5).join().error is None
    until(lambda: len(usage_rows(running, "e")) == 2, within_s=10, what="two requests, each once")


# Zero and back, clients that leave


def test_an_idle_endpoint_goes_to_zero_and_a_request_is_held_until_it_is_back(tmp_path: Path) -> None:
    profile = register_simulated(tmp_path / "data", "sim", FAST, slots=2, start_s=1.0)
    with Server(tmp_path / "data") as server:
        create(server, "e", profile, 0, 1, scaling={"idle_to_zero_s": 2, "down_window_s": 2, "slow_window_s": 2})
        until(lambda: server.endpoint("e")["chunks_in_use"] == 1, within_s=40, what="the first chunk of a new endpoint")
        until(lambda: server.endpoint("e")["chunks_in_use"] == 0, within_s=40, what="nothing runs")
        held = Stream(server, "e", max_tokens=5)
        assert held.join().error is None and held.events >= 5
        (row,) = until(lambda: usage_rows(server, "e"), within_s=10, what="the request is in the ledger")
        assert row["queue_ms"] >= 1000  # the start that it waited for
        until(lambda: server.endpoint("e")["chunks_in_use"] == 0, within_s=40, what="nothing runs again")


@pytest.mark.engine
def test_a_client_that_leaves_in_prefill_frees_the_replica_within_three_seconds(
    tmp_path: Path, smollm2: ModelSettings
) -> None:
    with Server(tmp_path / "data") as server:
        server.cli(
            "endpoints", "create", "e", "--model", smollm2.name, "--min-chunks", "1", "--max-chunks", "1", "--wait"
        )
        body = json.dumps({"model": "e", "prompt": [1000 + i for i in range(3000)], "max_tokens": 10}).encode()
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                + f"Authorization: Bearer {server.key}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            until(lambda: server.endpoint("e")["gauges"]["in_flight"] == 1, within_s=10, what="it is in flight")
        left = time.monotonic()
        replica = psutil.Process(server.endpoint("e")["replicas"][0]["pid"])

        def idle() -> bool:
            return replica.cpu_percent(0.3) < 20

        until(idle, within_s=3, what="the engine computes no more")
        assert time.monotonic() - left < 3.5
        (row,) = until(lambda: usage_rows(server, "e"), within_s=10, what="the request is in the ledger")
        assert (row["status"], row["outcome"], row["output_tokens"]) == (499, "client_gone", 0)
