"""Replicas on the cores of this machine, through a real supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from fleet_server import Server
from fleet_toys import argv

from headrace.engines.base import EngineError, EngineTraits, ModelSettings, ReplicaSpec
from headrace.fleet import local
from headrace.fleet.base import FleetError, FleetReplica
from headrace.fleet.local import LocalFleet, fleet_key

KEY = b"k" * 32


class ToyEngine:
    """Runs a toy of the model's name as the replica."""

    name = "toy"

    def traits(self, model: ModelSettings) -> EngineTraits:
        return EngineTraits()

    def check(self, model: ModelSettings) -> None:
        if model.name == "broken":
            raise EngineError("no such weights")

    def argv(self, model: ModelSettings) -> tuple[str, ...]:
        return argv(model.name)


class Watched(LocalFleet):
    """A fleet that keeps what it was told."""

    def __init__(self, server: Server, cores: tuple[int, ...]) -> None:
        self.told: list[FleetReplica] = []
        self._news = asyncio.Event()
        super().__init__(server.data.socket("supervisor"), KEY, changed=self._hear, cores=cores)

    def _hear(self, replica: FleetReplica) -> None:
        self.told.append(replica)
        self._news.set()

    async def until(self, wanted: Callable[[FleetReplica], bool]) -> FleetReplica:
        async with asyncio.timeout(10):
            while True:
                for replica in self.told:
                    if wanted(replica):
                        return replica
                self._news.clear()
                await self._news.wait()


MODEL = ModelSettings(name="replica", engine="toy")


@pytest.fixture
async def fleet(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    """On two cores. A machine of one core lends it twice: the supervisor pins to what exists."""
    monkeypatch.setattr(local, "engine_for", lambda name: ToyEngine())
    cores = tuple(sorted(os.sched_getaffinity(0))[:2])
    if len(cores) < 2:
        pytest.skip("needs two cores")
    fleet = Watched(server, cores)
    await fleet.open()
    yield fleet
    await fleet.close()


async def test_a_replica_is_ready_with_its_url_secret_and_labels(fleet: Watched) -> None:
    started = await fleet.start("r1", MODEL, labels={"entity": "e1"})
    assert started.state == "loading"
    ready = await fleet.until(lambda r: r.state == "ready")
    assert (ready.id, ready.url, ready.labels) == ("r1", "http://127.0.0.1:1", {"entity": "e1"})
    assert ready.ready_ms is not None and ready.ready_ms >= ready.started_ms


async def test_the_process_is_given_the_secret_that_the_fleet_tells(server: Server, fleet: Watched) -> None:
    await fleet.start("r1", MODEL, cache_prompts=False)
    child = await server.ready("r1")
    assert child.report is not None
    spec = msgspec.json.decode(child.report["given"], type=ReplicaSpec)
    (replica,) = fleet.replicas()
    assert (spec.replica, spec.secret, spec.cpus, spec.cache_prompts) == ("r1", replica.secret, replica.cpus, False)
    assert len(spec.secret) >= 32
    assert spec.secret not in repr(replica)


async def test_no_two_replicas_share_a_core_and_what_does_not_fit_is_refused(fleet: Watched) -> None:
    first, second = await asyncio.gather(fleet.start("r1", MODEL), fleet.start("r2", MODEL))
    assert {*first.cpus, *second.cpus} == set(fleet.cores)
    assert (fleet.capacity(MODEL), fleet.room(MODEL)) == (2, 0)
    with pytest.raises(FleetError, match="needs 1 cores of its own; 0 of 2"):
        await fleet.start("r3", MODEL)


async def test_a_replica_of_two_threads_takes_two_cores(fleet: Watched) -> None:
    model = msgspec.structs.replace(MODEL, threads=2)
    assert (fleet.capacity(model), fleet.room(model)) == (1, 1)
    assert (await fleet.start("r1", model)).cpus == fleet.cores
    assert fleet.capacity(msgspec.structs.replace(MODEL, threads=3)) == 0


async def test_a_core_is_free_again_once_its_replica_has_exited(fleet: Watched) -> None:
    for name in ("r1", "r2"):
        await fleet.start(name, MODEL)
    await fleet.stop("r1")
    await fleet.until(lambda r: r.id == "r1" and r.state == "exited")
    assert fleet.room(MODEL) == 1
    await fleet.start("r3", MODEL)


async def test_a_start_of_a_known_replica_returns_it(fleet: Watched) -> None:
    first = await fleet.start("r1", MODEL)
    assert (await fleet.start("r1", MODEL)).pid == first.pid
    assert fleet.room(MODEL) == 1


async def test_a_killed_replica_is_told_with_the_signal(fleet: Watched) -> None:
    replica = await fleet.start("r1", MODEL)
    assert replica.pid is not None
    os.kill(replica.pid, signal.SIGKILL)
    exited = await fleet.until(lambda r: r.state == "exited")
    assert (exited.exit_code, exited.error, exited.url) == (-signal.SIGKILL, "ended by SIGKILL", None)


async def test_the_last_lines_of_a_replica_can_be_read_while_it_runs(fleet: Watched) -> None:
    await fleet.start("r1", msgspec.structs.replace(MODEL, name="chatty"))
    await fleet.until(lambda r: r.state == "ready")
    lines = (await fleet.log_tail("r1")).splitlines()
    assert lines and all(line.startswith("line ") for line in lines)
    with pytest.raises(FleetError, match="no child has the token 'r9'"):
        await fleet.log_tail("r9")


async def test_a_replica_that_fails_to_load_tells_why(fleet: Watched) -> None:
    await fleet.start("r1", msgspec.structs.replace(MODEL, name="fails"))
    exited = await fleet.until(lambda r: r.state == "exited")
    assert (exited.exit_code, exited.error) == (1, "no such weights")


async def test_a_model_that_cannot_run_is_refused_and_takes_no_core(fleet: Watched) -> None:
    with pytest.raises(EngineError, match="no such weights"):
        await fleet.start("r1", msgspec.structs.replace(MODEL, name="broken"))
    assert fleet.room(MODEL) == 2


async def test_a_new_controller_takes_over_what_runs(server: Server, fleet: Watched) -> None:
    await fleet.start("r1", MODEL, labels={"entity": "e1"})
    before = await fleet.until(lambda r: r.state == "ready")
    await fleet.close()
    successor = Watched(server, fleet.cores)
    await successor.open()
    try:
        assert successor.replicas() == (before,)
        assert successor.told == [before]
        assert successor.room(MODEL) == 1
        await successor.stop("r1")
    finally:
        await successor.close()


def test_the_fleets_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "replica.key"
    key = fleet_key(path)
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert fleet_key(path) == key
    assert [p.name for p in tmp_path.iterdir()] == ["replica.key"]


async def test_a_simulated_replica_takes_no_core(fleet: Watched) -> None:
    simulated = msgspec.structs.replace(MODEL, engine="simulated", threads=8)
    room = fleet.room(simulated)
    for name in ("s1", "s2", "s3"):
        assert (await fleet.start(name, simulated)).cpus == ()
    assert (fleet.room(simulated), fleet.capacity(simulated)) == (room - 3, room)
    assert fleet.room(MODEL) == 2
