"""Replicas on GPUs of their own, through a real supervisor on a machine that is said to have some."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from fleet_server import Server
from test_fleet_local import KEY, MODEL, ToyEngine

from headrace.engines.base import ReplicaSpec
from headrace.fleet import local
from headrace.fleet.base import FleetError
from headrace.fleet.gpus import visible_gpus
from headrace.fleet.local import LocalFleet

ON_ONE = msgspec.structs.replace(MODEL, gpus=1)


def fleet_of(server: Server, *gpus: int) -> LocalFleet:
    cores = tuple(sorted(os.sched_getaffinity(0)))
    return LocalFleet(server.data.socket("supervisor"), KEY, cores=cores, gpus=gpus)


@pytest.fixture
async def fleet(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalFleet]:
    monkeypatch.setattr(local, "engine_for", lambda name: ToyEngine())
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    fleet = fleet_of(server, 4, 7)
    await fleet.open()
    yield fleet
    await fleet.close()


async def given(server: Server, replica: str) -> ReplicaSpec:
    child = await server.ready(replica)
    assert child.report is not None
    return msgspec.json.decode(child.report["given"], type=ReplicaSpec)


async def test_no_two_replicas_share_a_gpu(server: Server, fleet: LocalFleet) -> None:
    await asyncio.gather(fleet.start("r1", ON_ONE), fleet.start("r2", ON_ONE))
    assert {(await given(server, name)).gpus for name in ("r1", "r2")} == {(4,), (7,)}
    assert (fleet.capacity(ON_ONE), fleet.room(ON_ONE)) == (2, 0)
    assert fleet.shares(ON_ONE) == {"cores": Fraction(ON_ONE.threads, len(fleet.cores)), "gpus": Fraction(1, 2)}
    assert fleet.shares(MODEL).keys() == {"cores"}


async def test_a_replica_on_two_gpus_takes_both_and_another_waits(server: Server, fleet: LocalFleet) -> None:
    on_two = msgspec.structs.replace(MODEL, gpus=2)
    assert (fleet.capacity(on_two), fleet.capacity(msgspec.structs.replace(MODEL, gpus=3))) == (1, 0)
    await fleet.start("r1", on_two)
    assert (await given(server, "r1")).gpus == (4, 7)
    with pytest.raises(FleetError, match="needs 1 GPUs of its own; 0 of 2 are free"):
        await fleet.start("r2", ON_ONE)
    assert fleet.room(MODEL) > 0  # a core is left for one without


async def test_a_fleet_that_opens_knows_whose_gpus_are_taken(server: Server, fleet: LocalFleet) -> None:
    await fleet.start("r1", ON_ONE, labels={"endpoint": "e"})
    await server.ready("r1")
    later = fleet_of(server, 4, 7)
    await later.open()
    assert later.room(ON_ONE) == 1
    (replica,) = later.replicas()
    assert replica.labels["endpoint"] == "e"
    await later.stop("r1")
    await later.close()


@pytest.mark.parametrize(("named", "seen"), [(None, (0, 1, 10)), ("1,3", (1, 3)), ("", ()), ("GPU-5a3e,2", (2,))])
def test_the_gpus_of_a_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None, seen: tuple[int, ...]
) -> None:
    for name in ("nvidia0", "nvidia10", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    if named is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus(tmp_path) == seen
