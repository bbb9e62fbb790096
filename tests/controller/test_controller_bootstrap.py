"""The first endpoint of a new server, and its measurement."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from controller_world import CHUNK, ToyGateway, World

from headrace.config import FirstEndpoint
from headrace.controller import bootstrap
from headrace.controller.bootstrap import (
    GAVE_UP,
    MOST_ATTEMPTS,
    Measure,
    Outcome,
    first_endpoint,
    measure_first,
    to_measure,
)

FIRST = FirstEndpoint(name="a", model="toy")


async def world_with_first(folder: Path, *, places: int = 2, status: str = "provisional") -> World:
    world = World(folder / "data", places=places)
    world.model(status=status)
    world.fleet.ready_at_once = True
    await first_endpoint(world.controller, FIRST)
    await world.step()
    await world.step()
    return world


def measuring(world: World, *during: Callable[[], object]) -> Measure:
    """A measurement that takes no time; in its n-th attempt ``during[n]`` happens meanwhile."""
    attempts = list(during)

    async def measure(model: str, data_dir: Path) -> Outcome:
        assert "a" in world.controller.measuring
        if attempts:
            attempts.pop(0)()
        world.model(chunk=700, status="quick")
        return Outcome(0, "")

    return measure


@pytest.mark.parametrize(("places", "most"), [(1, 1), (2, 2), (8, 2)])
async def test_a_new_server_sells_one_to_two_chunks_as_its_cores_allow(tmp_path: Path, places: int, most: int) -> None:
    world = await world_with_first(tmp_path, places=places)
    entity = world.get("a").target.entities[0]
    assert (entity.min_chunks, entity.max_chunks, entity.profile_status) == (1, most, "provisional")


async def test_a_server_that_had_an_endpoint_makes_none(tmp_path: Path) -> None:
    world = await world_with_first(tmp_path)
    world.controller.endpoints.delete("a")
    await first_endpoint(world.controller, FIRST)
    assert world.controller.store.endpoints() == []


async def test_a_model_that_is_not_there_is_an_event_and_no_end_of_the_server(tmp_path: Path) -> None:
    world = World(tmp_path / "data")
    await first_endpoint(world.controller, FIRST)
    await world.step()
    assert world.kinds() == ["first_endpoint_refused"]
    assert world.snapshot.restored


async def test_what_was_measured_becomes_a_new_config_with_the_same_chunk_counts(tmp_path: Path) -> None:
    world = await world_with_first(tmp_path)
    running = world.fleet.living()
    await measure_first(world.controller, world.get("a"), "toy", measuring(world))
    await world.step()
    config = world.get("a").active
    assert config is not None
    assert (config.version, len(config.entities)) == (2, 1)
    (entity,) = config.entities
    assert (entity.chunk, entity.min_chunks, entity.max_chunks) == (700, 1, 2)
    assert entity.profile_status == "quick"
    assert world.fleet.living() == running, "the same replicas serve on"
    assert "config_measured" in world.kinds()
    assert world.controller.measuring == set()
    assert to_measure(world.controller, FIRST) is None


async def test_a_measurement_that_requests_spoiled_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await world_with_first(tmp_path)
    gateway = ToyGateway(world)
    gateway.offer(world.get("a"))
    gateway.report()

    def chat() -> None:
        gateway.offer(world.get("a"), work=10.0, dispatched=1)
        gateway.report()

    monkeypatch.setattr(bootstrap, "QUIET_S", 0.0)
    await measure_first(world.controller, world.get("a"), "toy", measuring(world, chat))
    assert world.get("a").target.entities[0].chunk == 700
    assert world.kinds().count("measuring_spoiled") == 1


async def test_a_request_ends_a_measurement_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "POLL_S", 0.001)
    monkeypatch.setattr(bootstrap, "MOST_ATTEMPTS", 1)
    world = await world_with_first(tmp_path)
    gateway = ToyGateway(world)
    gateway.offer(world.get("a"))
    gateway.report()

    async def endless(model: str, data_dir: Path) -> Outcome:
        gateway.offer(world.get("a"), work=10.0, dispatched=1)
        gateway.report()
        return await asyncio.get_running_loop().create_future()

    await asyncio.wait_for(measure_first(world.controller, world.get("a"), "toy", endless), 10)
    assert events(world, "measuring_spoiled") == [
        "measuring toy, attempt 1 of 1: not kept, since a request was served meanwhile"
    ]


async def test_after_a_request_it_is_quiet_for_a_while_before_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "POLL_S", 0.001)
    monkeypatch.setattr(bootstrap, "QUIET_S", 3600.0)
    world = await world_with_first(tmp_path)
    gateway = ToyGateway(world)
    gateway.offer(world.get("a"))
    gateway.report()
    attempts = 0

    async def spoiled(model: str, data_dir: Path) -> Outcome:
        nonlocal attempts
        attempts += 1
        gateway.offer(world.get("a"), work=10.0, dispatched=attempts)
        gateway.report()
        return Outcome(0, "")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(measure_first(world.controller, world.get("a"), "toy", spoiled), 0.1)
    assert attempts == 1


async def test_a_measurement_can_be_stopped_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "POLL_S", 0.001)
    world = await world_with_first(tmp_path)
    began, ended = asyncio.Event(), asyncio.Event()

    async def endless(model: str, data_dir: Path) -> Outcome:
        began.set()
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    task = asyncio.create_task(measure_first(world.controller, world.get("a"), "toy", endless))
    await asyncio.wait_for(began.wait(), 10)
    world.controller.measuring.discard("a")
    await asyncio.wait_for(task, 10)
    assert ended.is_set(), "the process that measured is not left behind"
    assert events(world, GAVE_UP) == [
        "toy keeps its provisional profile: measuring was stopped by hand; `headrace profile toy` measures it by hand"
    ]
    assert to_measure(world.controller, FIRST) is None, "nor does it begin again at the next start"


async def test_after_three_spoiled_measurements_the_provisional_figures_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "QUIET_S", 0.0)
    world = await world_with_first(tmp_path)
    gateway = ToyGateway(world)
    gateway.offer(world.get("a"))
    gateway.report()
    served = 0

    def chat() -> None:
        nonlocal served
        served += 1
        gateway.offer(world.get("a"), work=10.0, dispatched=served)
        gateway.report()

    await measure_first(world.controller, world.get("a"), "toy", measuring(world, *[chat] * MOST_ATTEMPTS))
    assert world.get("a").target.entities[0].chunk == CHUNK
    assert world.kinds().count(GAVE_UP) == 1
    assert not (world.data.profiles / "toy.json").exists(), "a spoiled profile is sold to nobody"
    assert to_measure(world.controller, FIRST) is None, "nor is it tried at every start"


async def test_a_measurement_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RETRY_S", 0.0)
    world = await world_with_first(tmp_path)

    async def fails(model: str, data_dir: Path) -> Outcome:
        return Outcome(1, "no engine here")

    await measure_first(world.controller, world.get("a"), "toy", fails)
    assert "it ended with code 1: no engine here" in events(world, GAVE_UP)[0]


@pytest.mark.parametrize(
    ("outcome", "words"),
    [(Outcome(3, ""), "it ended with code 3: it said nothing"), (Outcome(-9, "\n"), "it ended by signal 9: it said")],
)
async def test_a_measurement_that_fails_without_a_word_has_a_reason_all_the_same(
    outcome: Outcome, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "RETRY_S", 0.0)
    world = await world_with_first(tmp_path)

    async def fails(model: str, data_dir: Path) -> Outcome:
        return outcome

    await measure_first(world.controller, world.get("a"), "toy", fails)
    assert words in events(world, GAVE_UP)[0]
    assert all(words in told for told in events(world, "measuring_spoiled"))


def events(world: World, kind: str) -> list[str]:
    """Their messages."""
    return [event.message for event in world.controller.events.list() if event.kind == kind]


def disturbed_times(world: World, times: int) -> Measure:
    """A measurement that other programs disturb in its first ``times`` attempts; each finds another chunk."""
    attempts = 0

    async def measure(model: str, data_dir: Path) -> Outcome:
        nonlocal attempts
        attempts += 1
        world.model(chunk=700 + attempts, status="quick")
        return Outcome(0, "", others=0.42, disturbed=True) if attempts <= times else Outcome(0, "", others=0.01)

    return measure


async def test_a_measurement_that_other_programs_disturbed_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "RETRY_S", 0.0)
    world = await world_with_first(tmp_path)
    await measure_first(world.controller, world.get("a"), "toy", disturbed_times(world, 1))
    assert world.get("a").target.entities[0].chunk == 702
    assert events(world, "measuring_spoiled") == [
        "measuring toy, attempt 1 of 3: not kept, since other programs used 42% of the cores' time meanwhile; it is "
        "measured again"
    ]


async def test_a_measurement_that_is_disturbed_every_time_is_kept_and_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "RETRY_S", 0.0)
    world = await world_with_first(tmp_path)
    await measure_first(world.controller, world.get("a"), "toy", disturbed_times(world, MOST_ATTEMPTS))
    assert world.get("a").target.entities[0].chunk == 700 + MOST_ATTEMPTS
    assert world.kinds().count("measuring_spoiled") == MOST_ATTEMPTS - 1
    kept = next(event for event in world.controller.events.list() if event.kind == "measuring_disturbed")
    assert "42% of the cores' time" in kept.message
    assert GAVE_UP not in world.kinds()


async def test_what_a_profile_process_tells_of_others_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = '{"profile": {"id": "p"}, "others": 0.25, "disturbed": true, "path": "p.json"}'
    program = tmp_path / "profile"
    program.write_text(f"#!/bin/sh\necho '{line}'\necho slow >&2\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    assert await bootstrap.quick_profile("toy", tmp_path) == Outcome(0, "slow", others=0.25, disturbed=True)
    program.write_text(f"#!/bin/sh\necho '{line}'\nexit 3\n")
    assert await bootstrap.quick_profile("toy", tmp_path) == Outcome(0, "", others=0.25, disturbed=True)
    program.write_text("#!/bin/sh\nexit 3\n")
    assert await bootstrap.quick_profile("toy", tmp_path) == Outcome(3, "")


async def test_a_restart_in_the_middle_of_a_measurement_measures_again(tmp_path: Path) -> None:
    world = await world_with_first(tmp_path)
    world.restart()
    assert to_measure(world.controller, FIRST) == world.get("a")


async def test_a_measurement_begins_when_no_request_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "POLL_S", 0.001)
    world = await world_with_first(tmp_path)
    gateway = ToyGateway(world)
    gateway.offer(world.get("a"), work=10.0, dispatched=1, in_flight=1)
    gateway.report()
    began = asyncio.Event()

    async def measure(model: str, data_dir: Path) -> Outcome:
        began.set()
        return Outcome(1, "")

    task = asyncio.create_task(measure_first(world.controller, world.get("a"), "toy", measure))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(began.wait(), 0.05)
    gateway.offer(world.get("a"), work=10.0, dispatched=1, in_flight=0)
    gateway.report()
    await asyncio.wait_for(began.wait(), 5)
    task.cancel()
