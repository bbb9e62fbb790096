"""A model's next version rolled out under load: the traffic moves to it, or stays where it was when it cannot run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from system_load import Load
from system_server import Server, until
from system_simulated import register_simulated

from headrace.models.registry import Registry
from headrace.profiles.files import path_of, save
from headrace.profiles.profile import IterationTime, Profile

pytestmark = pytest.mark.system

FIRST = IterationTime(base_s=0.004, prefill_s=0.0001, decode_s=0.001, context_s=0.0)
"""About 200 output tokens a second."""
SECOND = IterationTime(base_s=0.003, prefill_s=0.0001, decode_s=0.001, context_s=0.0)
"""Faster, so that its chunk is another."""
SLOTS = 2


@pytest.fixture
def first(tmp_path: Path) -> Profile:
    return register_simulated(tmp_path / "data", "mine", FIRST, slots=SLOTS)


@pytest.fixture
def running(tmp_path: Path, first: Profile) -> Iterator[Server]:
    """A server whose endpoint ``e`` serves two chunks of the only version of ``mine``."""
    with Server(tmp_path / "data") as server:
        server.cli("endpoints", "create", "e", "--model", "mine", "--min-chunks", "2", "--max-chunks", "2", "--wait")
        yield server


def roll_out(server: Server, profile: Profile, state: str) -> None:
    """Two chunks of this version, over the REST API as Databricks' clients do it."""
    size = 2 * profile.chunk
    entity = {
        "entity_name": profile.model,
        "entity_version": profile.model_version,
        "min_provisioned_throughput": size,
        "max_provisioned_throughput": size,
        "scale_to_zero_enabled": False,
    }
    server.call("PUT", "/api/2.0/serving-endpoints/e/config", {"served_entities": [entity]})
    until(lambda: server.endpoint("e")["config_update"] == state or None, within_s=60, what=f"e is {state}")


def replicas(server: Server) -> set[str]:
    return {replica["id"] for replica in server.endpoint("e")["replicas"]}


def served(server: Server) -> dict[str, Any]:
    (entity,) = server.get("/api/2.0/serving-endpoints/e")["config"]["served_entities"]
    return dict(entity)


def test_version_2_takes_the_traffic_over_from_version_1_and_gives_it_back(tmp_path: Path, running: Server) -> None:
    before = replicas(running)
    second = register_simulated(tmp_path / "data", "mine", SECOND, slots=SLOTS, version="2")
    with Load(running, "e", clients=8, max_tokens=50) as load_of:
        until(lambda: load_of.streaming() or None, within_s=20, what="answers stream")
        roll_out(running, second, "NOT_UPDATING")
        until(
            lambda: (len(replicas(running)) == 2 and not replicas(running) & before) or None,
            within_s=60,
            what="the replicas of version 1 have drained",
        )
        moved = time.monotonic()
        until(lambda: load_of.answered_since(moved) >= 8 or None, within_s=30, what="version 2 answers")
    assert load_of.failed() == []
    assert {one.entity for one in load_of.asked} == {"mine-1", "mine-2"}
    assert {one.entity for one in load_of.asked if one.began > moved} == {"mine-2"}
    now = served(running)
    assert (now["entity_name"], now["entity_version"], now["name"]) == ("mine", "2", "mine-2")
    assert now["min_provisioned_throughput"] == 2 * second.chunk

    running.cli("endpoints", "update", "e", "--model", "mine/1", "--wait")
    assert served(running)["entity_version"] == "1"


def test_a_version_that_cannot_run_leaves_the_one_before_it_serving(
    tmp_path: Path, running: Server, first: Profile
) -> None:
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\necho CUDA out of memory >&2\nexit 1\n")
    program.chmod(0o755)
    broken = Registry(running.data_dir / "models").add(
        "mine", version="2", engine="vllm", weights="some/weights", program=str(program), gpus=0, slots=SLOTS
    )
    profile = msgspec.structs.replace(first, model_version="2", engine="vllm")
    save(path_of(broken, running.data_dir / "profiles"), profile)
    before = replicas(running)
    with Load(running, "e", clients=4, max_tokens=50) as load_of:
        roll_out(running, profile, "UPDATE_FAILED")
        failed = time.monotonic()
        until(lambda: load_of.answered_since(failed) >= 4 or None, within_s=30, what="version 1 answers")
        told = running.endpoint("e")
    assert load_of.failed() == []
    assert {one.entity for one in load_of.asked} == {"mine-1"}
    assert {replica["id"] for replica in told["replicas"]} == before
    assert "CUDA out of memory" in told["update_message"]
    assert served(running)["entity_version"] == "1"
    assert [entity["model_version"] for entity in told["entities"]] == ["1"]
