"""Updates and deaths under load: what is served goes on, the same processes are kept, and the bill has every moment."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from system_load import Load
from system_server import Server, until
from system_simulated import register_simulated

from headrace.engines.base import ModelSettings
from headrace.models.registry import Registry
from headrace.profiles.files import save, shipped
from headrace.profiles.profile import IterationTime, Profile

pytestmark = pytest.mark.system

FAST = IterationTime(base_s=0.004, prefill_s=0.0001, decode_s=0.001, context_s=0.0)
"""About 200 output tokens a second."""
SLOTS = 2


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return register_simulated(tmp_path / "data", "sim", FAST, slots=SLOTS, start_s=0.5)


@pytest.fixture
def running(tmp_path: Path, profile: Profile) -> Iterator[Server]:
    """A server with a simulated model and no endpoint."""
    with Server(tmp_path / "data") as server:
        yield server


def core_config(profile: Profile, low: int, high: int) -> dict[str, Any]:
    entity = {
        "entity_name": profile.model,
        "entity_version": "1",
        "min_provisioned_throughput": low * profile.chunk,
        "max_provisioned_throughput": high * profile.chunk,
        "scale_to_zero_enabled": False,
    }
    return {"served_entities": [entity]}


def updated(server: Server, state: str = "NOT_UPDATING", within_s: float = 60) -> None:
    until(lambda: server.endpoint("e")["config_update"] == state or None, within_s=within_s, what=f"e is {state}")


def create(server: Server, profile: Profile, chunks: int) -> None:
    config = core_config(profile, chunks, chunks)
    server.call("POST", "/api/2.0/serving-endpoints", {"name": "e", "config": config})
    updated(server)


def update(server: Server, profile: Profile, chunks: int) -> None:
    server.call("PUT", "/api/2.0/serving-endpoints/e/config", core_config(profile, chunks, chunks))


def processes(server: Server) -> dict[str, int]:
    """Process by replica, as the controller tells."""
    return {replica["id"]: replica["pid"] for replica in server.endpoint("e")["replicas"]}


def billed_chunk_ms(server: Server, from_ms: int, to_ms: int) -> int:
    bills = server.get(f"/api/headrace/v1/bill?endpoint=e&from_ms={from_ms}&to_ms={to_ms}")["bills"]
    return int(sum(bill["chunk_ms"] for bill in bills))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# Updates


def test_another_range_keeps_every_process_that_it_has_room_for(running: Server, profile: Profile) -> None:
    create(running, profile, 2)
    before = processes(running)
    with Load(running, "e", clients=4, max_tokens=50) as load_of:
        until(lambda: load_of.streaming() or None, within_s=20, what="answers stream")
        update(running, profile, 3)
        updated(running)
        grown = processes(running)
        update(running, profile, 1)
        updated(running)
        until(lambda: len(processes(running)) == 1 or None, within_s=120, what="what is left over has drained")
        shrunk = processes(running)
    assert before.items() < grown.items() and len(grown) == 3
    assert shrunk.items() < grown.items()
    assert load_of.failed() == []


def test_another_model_takes_over_under_load_and_no_request_fails(
    tmp_path: Path, running: Server, profile: Profile
) -> None:
    other = register_simulated(tmp_path / "data", "other", FAST, slots=SLOTS, start_s=1.0)
    create(running, profile, 2)
    before = processes(running)
    with Load(running, "e", clients=8, max_tokens=50) as load_of:
        until(lambda: load_of.streaming() or None, within_s=20, what="answers stream")
        update(running, other, 2)
        updated(running)
        taken_over = time.monotonic()
        until(lambda: load_of.answered_since(taken_over) >= 8 or None, within_s=30, what="the new model answers")
        until(lambda: len(processes(running)) == 2 or None, within_s=60, what="the old replicas have drained")
    assert load_of.failed() == []
    assert not processes(running).keys() & before.keys()
    (served,) = running.endpoint("e")["entities"]
    assert served["model"] == "other"
    assert 1.0 <= served["start_s"] < 10, "what its starts took, as measured"


@pytest.mark.engine
def test_where_both_do_not_fit_the_machine_the_chunks_are_replaced_while_requests_wait(
    tmp_path: Path, smollm2: ModelSettings
) -> None:
    """One replica of the real model on each core: there is no room beside them."""
    cores = len(os.sched_getaffinity(0))
    with Server(tmp_path / "data") as server:
        assert smollm2.path is not None
        measured = shipped(smollm2.name)
        assert measured is not None
        for name in ("old", "new"):
            place = ("--context", "512", "--data-dir", str(server.data_dir))
            server.cli("models", "add", name, "--gguf", smollm2.path, *place)
            save(server.data_dir / "profiles" / f"{name}.json", profile_of(measured, name))
        create(server, profile_of(measured, "old"), cores)
        before = processes(server)
        with Load(server, "e", clients=cores, max_tokens=8) as load_of:
            until(lambda: load_of.answered_since(0) or None, within_s=60, what="requests are answered")
            update(server, profile_of(measured, "new"), cores)
            updated(server, within_s=120)
            until(lambda: server.endpoint("e")["chunks_ready"] == cores or None, within_s=60, what="all are ready")
        assert load_of.failed() == []
        assert not processes(server).keys() & before.keys()
        assert server.endpoint("e")["entities"][0]["model"] == "new"


def test_an_update_to_what_cannot_run_says_why_and_what_served_serves_on(
    tmp_path: Path, running: Server, profile: Profile
) -> None:
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\necho loading weights >&2\necho CUDA out of memory >&2\nexit 1\n")
    program.chmod(0o755)
    Registry(running.data_dir / "models").add(
        "broken", engine="vllm", weights="some/weights", program=str(program), gpus=0, slots=SLOTS
    )
    broken = profile_of(profile, "broken", engine="vllm")
    save(running.data_dir / "profiles" / "broken.json", broken)
    create(running, profile, 2)
    before = processes(running)
    with Load(running, "e", clients=4, max_tokens=50) as load_of:
        update(running, broken, 1)
        updated(running, "UPDATE_FAILED")
        told = running.endpoint("e")
        (event,) = [one for one in running.events("e") if one["kind"] == "config_failed"]
    assert load_of.failed() == []
    assert processes(running) == before
    why, _, log = told["update_message"].partition("; its log ended:\n")
    assert why.startswith("3 replicas in a row failed; the last: ")
    assert "CUDA out of memory" in log
    assert "CUDA out of memory" in event["data"]["tail"]
    assert event["message"].endswith("config version 1 stays")
    (served,) = running.get("/api/2.0/serving-endpoints/e")["config"]["served_entities"]
    assert served["state"]["deployment"] == "DEPLOYMENT_READY"
    assert "CUDA out of memory" in served["state"]["deployment_state_message"]
    failed = [one for one in running.events("e") if one["kind"] == "replica_failed"]
    waits = [one["data"]["next_start_ms"] - one["at_ms"] for one in failed]
    assert waits[:3] == [1000, 2000, 4000], "each failure in a row doubles the wait"
    assert [replica["state"] for replica in told["replicas_ended"]] == ["failed"] * 3
    assert f"the next start is in {waits[2] / 1000:.0f} s" in failed[2]["message"]


def profile_of(measured: Profile, name: str, **changed: str) -> Profile:
    """The same figures under another model's name: good enough to be sold by."""
    return msgspec.structs.replace(measured, model=name, model_sha256=None, **changed)


# Deaths


def test_a_controller_that_is_killed_under_load_fails_no_request_and_bills_every_millisecond_once(
    running: Server, profile: Profile
) -> None:
    create(running, profile, 2)
    before, since_ms = processes(running), now_ms()
    with Load(running, "e", clients=12, max_tokens=60) as load_of:
        for _ in range(2):
            until(lambda: load_of.streaming() or None, within_s=20, what="answers stream")
            (killed,) = (p for p in running.family() if any("headrace.controller" in part for part in p.cmdline()))
            os.kill(killed.pid, signal.SIGKILL)
            dead = time.monotonic()
            # While there is no controller, too: one is back in a second or so.
            until(lambda dead=dead: load_of.answered_since(dead) >= 4 or None, within_s=20, what="requests are served")
            until(lambda: known(running) or None, within_s=30, what="another controller answers")
            back = time.monotonic()
            until(lambda back=back: load_of.answered_since(back) >= 12 or None, within_s=20, what="and after that")
    assert load_of.failed() == []
    assert processes(running) == before, "the same replicas, in the same processes"
    assert {p.pid for p in running.family() if any("headrace.engines" in part for part in p.cmdline())} == set(
        before.values()
    )
    until_ms = now_ms() - 1
    assert billed_chunk_ms(running, since_ms, until_ms) == 2 * (until_ms - since_ms)
    halves = (since_ms + until_ms) // 2
    assert billed_chunk_ms(running, since_ms, halves) == 2 * (halves - since_ms)
    asked = len(load_of.asked)

    def ledger() -> tuple[int, ...]:
        told = running.get("/api/headrace/v1/usage?endpoint=e&group=endpoint")
        total = told["total"]
        return (total["requests"], total["output_tokens"], total["recovered"], told["in_flight"], told["conflicts"])

    until(lambda: ledger() == (asked, 60 * asked, 0, 0, 0) or None, within_s=20, what=f"{asked} once: {ledger()}")


def known(server: Server) -> bool:
    try:
        return bool(processes(server))
    except (OSError, ValueError):
        return False


def test_a_replica_that_is_killed_under_load_fails_at_most_its_own_streams_and_is_replaced(
    running: Server, profile: Profile
) -> None:
    create(running, profile, 3)
    before = processes(running)
    with Load(running, "e", clients=12, max_tokens=100) as load_of:
        until(lambda: len(load_of.streaming()) >= 3 or None, within_s=20, what="answers stream")
        (victim, pid) = next(iter(before.items()))
        psutil.Process(pid).send_signal(signal.SIGKILL)

        def replaced() -> bool:
            now = processes(running)
            return running.endpoint("e")["chunks_ready"] == 3 and victim not in now

        until(replaced, within_s=30, what="three are ready, another one among them")
        back = time.monotonic()
        until(lambda: load_of.answered_since(back) >= 12 or None, within_s=30, what="and serve")
    failed = load_of.failed()
    assert len(failed) <= SLOTS, [one.failure for one in failed]
    assert all(one.stream and one.bytes > 0 for one in failed), [one.failure for one in failed]
    assert before.items() - {(victim, pid)} <= processes(running).items(), "nothing else was touched"
    (told,) = [one for one in running.endpoint("e")["replicas_ended"] if one["id"] == victim]
    assert (told["state"], told["exit_code"]) == ("failed", -signal.SIGKILL)
