"""A crash loop stays slowed down whatever happens beside it, the death of the controller included."""

from __future__ import annotations

from pathlib import Path

import pytest
from controller_world import World
from sqlalchemy import select

from headrace.controller.backoff import STEADY_S
from headrace.controller.tables import FailuresRow
from headrace.controller.view import endpoint_info


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = World(tmp_path / "data")
    world.model()
    return world


def waits_s(world: World) -> list[float]:
    """Before the start that follows each failure so far."""
    failed = [event for event in world.controller.events.list(limit=1000) if event.kind == "replica_failed"]
    return [(event.data["next_start_ms"] - event.at_ms) / 1000 for event in failed]


async def crash_loop(world: World, failures: int) -> None:
    """Whatever is started fails, until so many have, one after another."""
    while len(waits_s(world)) < failures:
        await world.step(0.5)
        for replica in [one.id for one in world.fleet.seen.values() if one.state == "loading"]:
            world.fleet.crash(replica)


def stored(world: World) -> list[FailuresRow]:
    with world.controller.database.read() as session:
        return list(session.scalars(select(FailuresRow)))


async def test_a_controller_that_starts_goes_on_with_the_backoff_of_the_one_before(world: World) -> None:
    world.create("a", 1, 1)
    await crash_loop(world, 4)
    assert waits_s(world) == [1, 2, 4, 8]
    before = endpoint_info(world.controller, world.get("a"))
    started = world.fleet.started
    world.restart()
    after = endpoint_info(world.controller, world.get("a"))
    assert (after.state, after.problems, after.last_failure) == ("failed", before.problems, before.last_failure)
    for _ in range(7):
        await world.step(1)
    assert world.fleet.started == started, "8 s have not passed"
    await crash_loop(world, 5)
    assert waits_s(world) == [1, 2, 4, 8, 16]


async def test_a_failure_while_no_controller_ran_is_the_next_in_the_row(world: World) -> None:
    world.create("a", 1, 1)
    await crash_loop(world, 3)
    while not world.fleet.living():
        await world.step(1)
    world.fleet.crash()
    world.restart()
    await world.step(1)
    assert waits_s(world) == [1, 2, 4, 8]


async def test_starts_that_are_refused_are_counted_on_over_a_restart(world: World) -> None:
    world.fleet.refuses = "the file is gone"
    world.create("a", 1, 1)
    await world.step(1)
    world.restart()
    await world.step(1)
    world.restart()
    await world.step(2)
    assert waits_s(world) == [1, 2, 4]
    last = endpoint_info(world.controller, world.get("a")).last_failure
    assert last is not None and last.message == "the file is gone"


async def test_a_replica_that_serves_on_does_not_hurry_the_one_that_fails_beside_it(world: World) -> None:
    world.create("a", 2, 2)
    await world.step()
    world.fleet.load()
    await world.step(1)
    await world.step(2 * STEADY_S)
    world.fleet.crash(world.fleet.living()[0])
    await crash_loop(world, 6)
    assert waits_s(world) == [1, 2, 4, 8, 16, 32]
    info = endpoint_info(world.controller, world.get("a"))
    assert info.state == "degraded"
    assert info.problems[0].startswith("6 replicas in a row failed, the last: ended by SIGKILL")


async def test_the_row_is_over_when_all_replicas_have_served_for_long(world: World) -> None:
    world.create("a", 2, 2)
    await world.step()
    world.fleet.load()
    await world.step(1)
    world.fleet.crash(world.fleet.living()[0])
    await crash_loop(world, 3)
    while len(world.fleet.living()) < 2:
        await world.step(1)
    await world.step(2 * STEADY_S)
    assert endpoint_info(world.controller, world.get("a")).problems != (), "one of the two loads still"
    world.fleet.load()
    await world.step(1)
    assert len(stored(world)) == 1
    await world.step(STEADY_S)
    assert (endpoint_info(world.controller, world.get("a")).problems, stored(world)) == ((), [])
    world.restart()
    await world.step(1)
    assert endpoint_info(world.controller, world.get("a")).last_failure is None


async def test_failures_of_a_deleted_endpoint_are_forgotten(world: World) -> None:
    world.create("a", 1, 1)
    await crash_loop(world, 2)
    assert [row.failures for row in stored(world)] == [2]
    world.controller.endpoints.delete("a")
    await world.step(1)
    assert stored(world) == []


async def test_a_log_with_a_zero_character_is_kept_too(world: World) -> None:
    world.create("a", 1, 1)
    await world.step(1)
    (entity,) = world.get("a").target.entities
    backoff = world.controller.reconciler.watches.of(entity.id).backoff
    backoff.failed(world.clock.ms, entity.runs_as, started_ms=0, served_ms=0, message="why\0", tail="a\0b")
    await world.step(1)
    (row,) = stored(world)
    assert (row.message, row.tail) == ("why\N{REPLACEMENT CHARACTER}", "a\N{REPLACEMENT CHARACTER}b")


async def test_a_look_that_breaks_off_counts_no_failure_twice(world: World) -> None:
    world.create("a", 1, 1)
    await crash_loop(world, 2)
    while not world.fleet.living():
        await world.step(1)
    world.fleet.crash()
    await world.break_off(1)
    await world.step(1)
    assert waits_s(world) == [1, 2, 4]
