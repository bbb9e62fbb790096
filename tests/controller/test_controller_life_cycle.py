"""What people see of the life of replicas: states, failures, what is pending, and how long starts take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from controller_world import CHUNK, REQUEST_WORK, ToyGateway, World

from headrace.config import ScalingConfig
from headrace.controller.backoff import LONGEST_DELAY_S, STEADY_S
from headrace.controller.endpoint import Options
from headrace.controller.events import Event
from headrace.controller.refusal import Refusal
from headrace.controller.view import endpoint_info
from headrace.controller.words import utc
from headrace.ledger.bills import bill
from headrace.profiles import starts


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = World(tmp_path / "data")
    world.model()
    return world


def events(world: World, kind: str) -> list[Event]:
    return [event for event in world.controller.events.list(limit=1000) if event.kind == kind]


# Room


async def test_minimums_that_do_not_fit_are_refused_with_what_is_free(world: World) -> None:
    world.create("a", 3, 4)
    with pytest.raises(Refusal, match="1 of 4 are free beside the other minimums: at most 1000"):
        world.create("b", 2, 2)
    world.create("b", 1, 4)
    await world.step()
    world.fleet.load()
    await world.step(1)
    with pytest.raises(Refusal, match="3 of 4 are free"):
        world.update("a", 4, 4)


async def test_chunks_above_the_minimums_stay_pending_and_an_event_says_what_is_missing(world: World) -> None:
    await world.served("a", 2, 2)
    gateway = await world.served("b", 1, 3)
    for _ in range(60):
        gateway.offer(world.get("b"), work=4.5 * CHUNK)
        gateway.report()
        await world.step(1)
        world.fleet.load()
    info = endpoint_info(world.controller, world.get("b"))
    assert (info.chunks_wanted, info.chunks_ready, info.chunks_pending) == (3, 2, 1)
    told = events(world, "chunks_pending")[-1]
    assert told.endpoint == "b"
    assert told.message == (
        "1 chunk of 3 is pending: the machine has room for 2 replicas of toy here, and a has the rest"
    )
    assert told.data == {"entity": "toy-1", "granted": 2, "wanted": 3, "pending": 1, "holders": ["a"]}
    count = len(events(world, "chunks_pending"))
    gateway.offer(world.get("b"), work=4.5 * CHUNK)
    gateway.report()
    await world.step(1)
    assert len(events(world, "chunks_pending")) == count, "what has not changed is not told again"
    world.controller.endpoints.delete("a")
    gateway.ack()
    for _ in range(5):
        gateway.offer(world.get("b"), work=4.5 * CHUNK)
        gateway.ack()
        gateway.report()
        await world.step(1)
        world.fleet.load()
    info = endpoint_info(world.controller, world.get("b"))
    assert (info.chunks_ready, info.chunks_pending) == (3, 0)


# States


async def test_every_state_of_a_replica_is_seen(world: World) -> None:
    def states() -> list[str]:
        info = endpoint_info(world.controller, world.get("a"))
        return sorted([one.state for one in info.replicas] + [one.state for one in info.replicas_ended])

    world.create("a", 2, 2)
    await world.step()
    assert states() == ["pending", "pending"]
    await world.step(1)
    assert states() == ["loading", "loading"]
    world.fleet.load()
    await world.step(1)
    assert states() == ["ready", "ready"]
    world.fleet.crash(world.fleet.living()[0])
    await world.step(0.5)
    assert states() == ["failed", "ready"]
    world.update("a", 1, 1)
    gateway = ToyGateway(world)
    gateway.on_replica = dict.fromkeys(world.fleet.living(), 1)
    await world.step(2)
    world.update("a", 2, 2) if world.get("a").update != "IN_PROGRESS" else None
    await world.step(2)
    world.fleet.load()
    await world.step(1)
    world.update("a", 1, 1)
    await world.step(1)
    assert "draining" in states()
    gateway.on_replica = {}
    gateway.ack()
    gateway.report()
    await world.step(1)
    await world.step(1)
    assert states() == ["failed", "ready", "stopped"]
    ended = {one.state: one for one in endpoint_info(world.controller, world.get("a")).replicas_ended}
    assert (ended["failed"].exit_code, ended["failed"].message) == (-9, "ended by SIGKILL")
    assert ended["stopped"].ended_ms is not None


async def test_a_crash_loop_says_when_the_next_start_is(world: World) -> None:
    world.create("a", 1, 1)
    for _ in range(30):
        await world.step(0.5)
        if world.fleet.living():
            world.fleet.crash()
    told = events(world, "replica_failed")
    waits = [event.data["next_start_ms"] - event.at_ms for event in told]
    assert waits[:4] == [1000, 2000, 4000, 8000]
    assert told[2].message.endswith("failed: ended by SIGKILL; failure 3 in a row; the next start is in 4 s")
    last = endpoint_info(world.controller, world.get("a")).last_failure
    assert last is not None
    assert (last.in_a_row, last.next_start_ms, last.log_tail) == (
        len(told),
        told[-1].data["next_start_ms"],
        "the last words",
    )


# Starts


async def test_each_start_is_measured_once_and_told(world: World) -> None:
    world.create("a", 2, 3)
    await world.step()
    world.fleet.load()
    for name in world.fleet.living():
        world.fleet.seen[name] = replace(world.fleet.seen[name], load_s=4.0)
    await world.step(1)
    await world.step(1)
    world.restart()
    await world.step(1)
    kept = starts.load(world.data.profiles, world.controller.offers.model("toy"))
    assert kept is not None and kept.seconds == (4.0, 4.0)
    (entity,) = endpoint_info(world.controller, world.get("a")).entities
    assert entity.start_s == 4.0


async def test_a_folder_that_takes_no_starts_keeps_nothing_from_being_served(world: World) -> None:
    (world.data.profiles / "starts").write_text("in the way")
    world.create("a", 1, 1)
    await world.step()
    world.fleet.load()
    await world.step(1)
    assert world.phases("a") == ["ready"]


# Demand


async def test_a_request_that_came_and_went_between_two_reports_wakes_an_endpoint_at_zero(world: World) -> None:
    gateway = await world.served("a", 0, 2)
    for _ in range(40):
        gateway.ack()
        gateway.report()
        await world.step(9)
    assert world.phases("a") == [], "asleep"
    gateway.offer(world.get("a"), work=50.0, abandoned=1)
    assert gateway.report() is False, "nobody waits"
    await world.step(1)
    assert world.phases("a") == ["pending"]


# What breaks in the middle


async def test_a_look_that_breaks_off_is_made_up_for_by_the_next(world: World) -> None:
    await world.served("a", 2, 2)
    start = world.clock.ms
    world.fleet.crash(world.fleet.living()[0])
    await world.break_off(1)
    await world.step(1)
    assert [event.data["replica"] for event in events(world, "replica_failed")] == [
        replica.id for replica in world.controller.roster.ended(world.get("a").id)[-1:]
    ]
    await world.step(2)
    world.fleet.load()
    await world.step(1)
    assert world.phases("a") == ["ready", "ready"]
    (one,) = bill(world.controller.timeline, world.get("a").id, start, world.clock.ms, world.clock.ms).entities
    spans = [span for line in one.lines for span in line.spans]
    assert [span.ready for span in spans] == [1, 2]
    assert [span.from_ms for span in spans][1:] == [span.to_ms for span in spans][:-1]


async def test_what_sleeps_sleeps_on_when_the_controller_starts_anew(world: World) -> None:
    for name in ("a", "b"):
        world.create(name, 0, 2)
    world.fleet.ready_at_once = True
    gateway = ToyGateway(world)
    for _ in range(310):
        for name in ("a", "b"):
            gateway.offer(world.get(name))
        gateway.report()
        await world.step(1)
        gateway.ack()
    assert world.phases("a") == world.phases("b") == []
    started, told = world.fleet.started, len(world.kinds())
    world.restart()
    gateway = ToyGateway(world)
    for _ in range(30):
        await world.step(1)
        for name in ("a", "b"):
            gateway.offer(world.get(name))
        gateway.ack()
        gateway.report()
    assert (world.fleet.started, len(world.kinds())) == (started, told), "nothing was started, and nothing told"
    gateway.offer(world.get("a"), work=REQUEST_WORK, queued=1)
    gateway.report()
    await world.step(1)
    assert world.phases("a") != [] and world.phases("b") == []


async def test_what_sleeps_and_finds_no_room_asks_for_none_when_the_controller_starts_anew(world: World) -> None:
    await world.served("a", 4, 4)
    world.create("b", 0, 2)

    async def pass_by(seconds: int) -> None:
        gateway = ToyGateway(world)
        for _ in range(seconds):
            await world.step(1)
            gateway.ack()
            gateway.offer(world.get("b"))
            gateway.report()

    await pass_by(310)
    assert len(events(world, "chunks_pending")) == 1, "of the time in which it was new"
    told = world.kinds()
    for _ in range(3):
        world.restart()
        await pass_by(10)
    assert world.kinds() == told


async def failed_thrice(world: World) -> None:
    """The endpoint's replicas, and the next one is ready then."""
    for _ in range(3):
        world.fleet.crash()
        await world.step(1)
        await world.step(LONGEST_DELAY_S)
    world.fleet.load()
    await world.step(1)


def problems(world: World) -> list[str]:
    return list(endpoint_info(world.controller, world.get("a")).problems)


async def test_a_problem_that_is_over_says_since_when(world: World) -> None:
    await world.served("a", 1, 1)
    await failed_thrice(world)
    (problem,) = problems(world)
    assert problem.startswith("3 replicas in a row failed, the last: ")
    (replica,) = world.controller.roster.of(world.get("a").id)
    assert replica.ready_ms is not None
    assert problem.endswith(f"; ready again since {utc(replica.ready_ms)}")
    world.fleet.crash()
    await world.step(1)
    (problem,) = problems(world)
    assert "ready again" not in problem
    await world.step(LONGEST_DELAY_S)
    world.fleet.load()
    for _ in range(2):
        await world.step(STEADY_S)
    assert problems(world) == []


async def test_what_was_ready_again_and_went_to_sleep_has_no_problem_and_is_not_failed(world: World) -> None:
    world.create("a", 0, 1, options=Options(scaling=ScalingConfig(idle_to_zero_s=20)))
    await world.step(1)
    gateway = ToyGateway(world)
    gateway.offer(world.get("a"), work=REQUEST_WORK, queued=1)
    gateway.report()
    await world.step(1)
    await failed_thrice(world)
    assert problems(world) != []
    gateway.offer(world.get("a"), queued=0)
    for _ in range(30):
        gateway.ack()
        gateway.report()
        await world.step(1)
    info = endpoint_info(world.controller, world.get("a"))
    assert (world.phases("a"), info.state, info.problems) == ([], "asleep", ())
