"""Another model takes over without a gap where there is room, and chunk by chunk where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from controller_world import CHUNK, ToyGateway, World, entity

from headrace.controller.lifecycle import HUNG_AFTER_S, UNSEEN_S
from headrace.engines.base import READY_WITHIN_S
from headrace.ledger.bills import bill


def world_of(folder: Path, places: int) -> World:
    world = World(folder / "data", places=places)
    for model in ("toy", "other"):
        world.model(model)
    return world


async def look(world: World, gateway: ToyGateway, *, load: bool = True) -> None:
    """A second passes, in which what was started loads and the gateway hears of everything."""
    gateway.ack()
    gateway.report()
    await world.step(1)
    if load:
        world.fleet.load()


def crash_what_loads(world: World) -> None:
    for replica in [one.id for one in world.fleet.seen.values() if one.state == "loading"]:
        world.fleet.crash(replica)


def ready(world: World, model: str) -> int:
    """Replicas that new requests are sent to, if their config is the one that is served."""
    of_model = {r.id for r in world.controller.roster.all() if r.model.name == model}
    return sum(view.id in of_model and not view.draining for view in world.snapshot.replicas)


def serving(world: World) -> str:
    return world.snapshot.endpoints[0].entities[0].model


def billed(world: World, since_ms: int) -> int:
    """Chunk-milliseconds."""
    return bill(world.controller.timeline, world.get("a").id, since_ms, world.clock.ms, world.clock.ms).chunk_ms


async def test_a_range_only_change_keeps_every_replica_and_process(tmp_path: Path) -> None:
    world = world_of(tmp_path, 4)
    await world.served("a", 2, 2)
    before = {replica.id: replica.created_ms for replica in world.controller.roster.all()}
    world.update("a", 1, 4)
    for _ in range(5):
        await world.step(1)
    assert {replica.id: replica.created_ms for replica in world.controller.roster.all()} == before
    assert world.fleet.started == 2
    assert (world.get("a").current.version, world.get("a").update) == (2, "NOT_UPDATING")


async def test_the_new_model_takes_over_only_with_as_many_chunks_as_the_load_needs(tmp_path: Path) -> None:
    world = world_of(tmp_path, 6)
    gateway = await world.served("a", 1, 3)
    for _ in range(40):
        gateway.offer(world.get("a"), work=2.5 * CHUNK)
        await look(world, gateway)
    assert ready(world, "toy") == 3
    world.update("a", 1, 3, model="other")
    gateway.offer(world.get("a"), work=2.5 * CHUNK)
    await look(world, gateway, load=False)
    for loaded in range(3):
        assert (serving(world), ready(world, "toy")) == ("toy", 3), f"{loaded} of three are ready"
        world.fleet.load(next(r.id for r in world.fleet.seen.values() if r.state == "loading"))
        gateway.offer(world.get("a"), work=2.5 * CHUNK)
        await look(world, gateway, load=False)
    assert (serving(world), ready(world, "other"), ready(world, "toy")) == ("other", 3, 0)


async def test_without_room_for_both_the_chunks_are_replaced_one_by_one_and_half_of_them_always_serve(
    tmp_path: Path,
) -> None:
    world = world_of(tmp_path, 4)
    gateway = await world.served("a", 4, 4)
    world.update("a", 4, 4, model="other")
    seen = []
    while world.get("a").update == "IN_PROGRESS":
        seen.append((serving(world), ready(world, serving(world))))
        assert len(world.fleet.living()) <= 4
        await look(world, gateway)
        assert len(seen) < 60
    assert [count for model, count in seen if model == "toy"][:1] == [4]
    assert {count for model, count in seen if model == "toy"} == {4, 3, 2}
    assert {count for model, count in seen if model == "other"} <= {2, 3, 4}, "it took over with as much as was left"
    for _ in range(3):
        await look(world, gateway)
    assert (world.phases("a"), serving(world)) == (["ready"] * 4, "other")
    assert world.fleet.started == 8


async def test_the_only_chunk_gives_way_and_requests_wait_for_the_new_one(tmp_path: Path) -> None:
    world = world_of(tmp_path, 1)
    gateway = await world.served("a", 1, 1)
    world.update("a", 1, 1, model="other")
    await look(world, gateway, load=False)
    assert world.phases("a") == ["draining"]
    assert (serving(world), world.snapshot.endpoints[0].cold_start_deadline_s) == ("toy", 290)
    for _ in range(3):
        await look(world, gateway, load=False)
    assert world.phases("a") == ["loading"]
    assert serving(world) == "toy", "what is not ready takes nothing over"
    gateway.offer(world.get("a"), queued=1, queued_work=50.0)
    world.fleet.load()
    await look(world, gateway)
    assert (serving(world), world.get("a").update, world.phases("a")) == ("other", "NOT_UPDATING", ["ready"])


async def test_chunks_that_a_rollout_takes_away_are_not_billed(tmp_path: Path) -> None:
    world = world_of(tmp_path, 2)
    gateway = await world.served("a", 2, 2)
    world.update("a", 2, 2, model="other")
    start = world.clock.ms
    await look(world, gateway, load=False)
    gone_at = world.clock.ms
    for _ in range(10):
        await look(world, gateway, load=False)
    assert (serving(world), ready(world, "toy")) == ("toy", 1), "the new one loads still"
    assert billed(world, start) == 2 * (gone_at - start) + 1 * (world.clock.ms - gone_at)


async def test_an_update_that_fails_without_room_gives_back_what_gave_way_and_says_why(tmp_path: Path) -> None:
    world = world_of(tmp_path, 1)
    gateway = await world.served("a", 1, 1)
    world.update("a", 1, 1, model="other")
    for _ in range(60):
        if world.get("a").update == "UPDATE_FAILED":
            break
        await look(world, gateway, load=False)
        crash_what_loads(world)
    endpoint = world.get("a")
    assert (
        endpoint.update_message
        == "3 replicas in a row failed; the last: ended by SIGKILL; its log ended:\nthe last words"
    )
    (event,) = [event for event in world.controller.events.list(limit=1000) if event.kind == "config_failed"]
    assert event.message.endswith("config version 1 stays")
    assert event.data["tail"] == "the last words"
    assert (endpoint.current.version, endpoint.pending, serving(world)) == (1, None, "toy")
    for _ in range(3):
        await look(world, gateway)
    assert world.phases("a") == ["ready"]
    assert {replica.model.name for replica in world.controller.roster.all()} == {"toy"}


async def test_what_still_drains_for_an_update_serves_again_when_that_fails(tmp_path: Path) -> None:
    world = world_of(tmp_path, 2)
    gateway = await world.served("a", 2, 2)
    world.model("third", threads=2)
    first = set(world.fleet.living())
    gateway.on_replica = dict.fromkeys(first, 1)
    world.update("a", 1, 1, model="third")
    await look(world, gateway)
    assert world.phases("a") == ["draining", "ready"], "it waits for its last request"
    world.controller.store.conclude(world.get("a").id, "UPDATE_FAILED", "why", drop_pending=True)
    await look(world, gateway)
    assert world.phases("a") == ["ready", "ready"]
    assert set(world.fleet.living()) == first


async def test_the_old_minimum_is_kept_up_while_an_update_loads(tmp_path: Path) -> None:
    world = world_of(tmp_path, 4)
    gateway = await world.served("a", 1, 1)
    world.update("a", 1, 1, model="other")
    await look(world, gateway, load=False)
    old = next(r.id for r in world.controller.roster.all() if r.model.name == "toy")
    world.fleet.crash(old)
    for _ in range(3):
        await look(world, gateway, load=False)
    told = {r.id: r.model.name for r in world.controller.roster.all()}
    assert sorted(told.values()) == ["other", "toy"] and old not in told
    world.fleet.load(*(name for name, model in told.items() if model == "toy"))
    await look(world, gateway, load=False)
    assert (serving(world), ready(world, "toy")) == ("toy", 1)


async def test_what_an_endpoint_that_never_served_has_left_makes_room_at_once(tmp_path: Path) -> None:
    world = world_of(tmp_path, 1)
    world.create("a", 1, 1)
    for _ in range(30):
        await world.step(1)
        world.fleet.crash()
    assert world.get("a").update == "UPDATE_FAILED"
    while not world.fleet.living():
        await world.step(1)
    world.update("a", 1, 1, model="other")
    for _ in range(3):
        await world.step(RECONNECT)
    assert [replica.model.name for replica in world.controller.roster.all()] == ["other"]
    world.fleet.load()
    await world.step(1)
    assert (world.get("a").update, serving(world)) == ("NOT_UPDATING", "other")


RECONNECT = 6.0
"""Without a gateway a drain ends as soon as none can be on its way back."""


async def test_a_failure_after_the_takeover_ends_the_update_and_what_is_ready_serves(tmp_path: Path) -> None:
    world = world_of(tmp_path, 4)
    gateway = await world.served("a", 4, 4)
    world.update("a", 4, 4, model="other")
    while serving(world) == "toy":
        await look(world, gateway)
    assert world.get("a").update == "IN_PROGRESS"
    kept = ready(world, "other")
    for _ in range(60):
        await look(world, gateway, load=False)
        crash_what_loads(world)
    endpoint = world.get("a")
    assert (endpoint.update, endpoint.current.version, ready(world, "other")) == ("UPDATE_FAILED", 2, kept)
    world.update("a", 2, 2, model="other")
    await look(world, gateway)
    assert world.get("a").update == "NOT_UPDATING", "an update that has failed is in nobody's way"


async def test_a_start_that_never_ends_fails_and_is_tried_again(tmp_path: Path) -> None:
    world = world_of(tmp_path, 1)
    world.create("a", 1, 1)
    await world.step()
    (hung,) = world.fleet.living()
    await world.step(READY_WITHIN_S + HUNG_AFTER_S)
    assert world.fleet.living() == [hung]
    await world.step(1)
    await world.step(2)
    assert hung not in world.fleet.living() and len(world.fleet.living()) == 1
    (failed,) = world.controller.roster.ended(world.get("a").id)
    assert (failed.id, failed.message) == (hung, "it was not ready 180 s after its start")


async def test_a_replica_that_its_fleet_never_lists_is_given_up(tmp_path: Path) -> None:
    world = world_of(tmp_path, 1)
    world.create("a", 1, 1)
    await world.step()
    (lost,) = world.fleet.living()
    world.fleet.forget()
    await world.step(UNSEEN_S)
    assert world.phases("a") == ["pending"]
    await world.step(1)
    await world.step(2)
    (replica,) = world.controller.roster.all()
    assert replica.id != lost


@pytest.mark.parametrize("places", [2, 3, 4, 6])
async def test_several_entities_are_replaced_whatever_room_there_is(tmp_path: Path, places: int) -> None:
    world = world_of(tmp_path, places)
    world.model("third")
    world.create_several("a", (entity("x", 1, 1), 50), (entity("y", 1, 1), 50))
    gateway = await world.brought_up("a")
    world.update_several("a", (entity("x", 1, 1, model="other"), 50), (entity("y", 1, 1, model="third"), 50))
    for _ in range(20):
        await look(world, gateway)
    assert world.get("a").update == "NOT_UPDATING"
    assert sorted(r.model.name for r in world.controller.roster.all()) == ["other", "third"]
    assert world.phases("a") == ["ready", "ready"]


async def shrinking_beside_a_new_one(folder: Path, places: int) -> tuple[World, ToyGateway]:
    """Endpoint ``a`` with 4 chunks of x is to have 1 of them, and 4 of y, which loads still."""
    world = world_of(folder, places)
    world.create_several("a", (entity("x", 4, 4), 100))
    gateway = await world.brought_up("a")
    world.update_several("a", (entity("x", 1, 1), 10), (entity("y", 4, 4, model="other"), 90))
    for _ in range(4):
        await look(world, gateway, load=False)
    return world, gateway


async def test_a_smaller_range_holds_when_what_comes_with_it_is_ready(tmp_path: Path) -> None:
    world, gateway = await shrinking_beside_a_new_one(tmp_path, 8)
    start = world.clock.ms
    for _ in range(5):
        await look(world, gateway, load=False)
    assert (ready(world, "toy"), world.get("a").update) == (4, "IN_PROGRESS")
    assert billed(world, start) == 4 * 5_000
    world.fleet.load()
    for _ in range(4):
        await look(world, gateway)
    assert (ready(world, "toy"), ready(world, "other"), world.get("a").update) == (1, 4, "NOT_UPDATING")


async def test_what_an_update_without_room_takes_of_a_minimum_is_not_billed(tmp_path: Path) -> None:
    world, gateway = await shrinking_beside_a_new_one(tmp_path, 5)
    start = world.clock.ms
    for _ in range(5):
        await look(world, gateway, load=False)
    assert (world.phases("a", "x"), world.get("a").current.version) == (["ready"], 1)
    assert billed(world, start) == 5_000


async def test_what_an_update_took_is_billed_again_when_it_is_back_after_the_update_failed(tmp_path: Path) -> None:
    world = world_of(tmp_path, 2)
    gateway = await world.served("a", 2, 2)
    world.update("a", 2, 2, model="other")
    while world.get("a").update != "UPDATE_FAILED":
        await look(world, gateway, load=False)
        crash_what_loads(world)
    await look(world, gateway, load=False)
    start = world.clock.ms
    for _ in range(5):
        await look(world, gateway, load=False)
    assert (ready(world, "toy"), billed(world, start)) == (1, 5_000)
    world.fleet.load()
    start = world.clock.ms
    for _ in range(5):
        await look(world, gateway)
    assert (ready(world, "toy"), billed(world, start)) == (2, 2 * 5_000)
    world.fleet.crash(world.fleet.living()[0])
    start = world.clock.ms
    await look(world, gateway, load=False)
    assert billed(world, start) == 2 * 1_000, "this one is no matter of the update"


async def test_an_update_that_fails_half_way_is_billed_for_what_of_it_serves(tmp_path: Path) -> None:
    world = world_of(tmp_path, 4)
    gateway = await world.served("a", 4, 4)
    world.update("a", 4, 4, model="other")
    while serving(world) == "toy":
        await look(world, gateway)
    while world.get("a").update != "UPDATE_FAILED":
        await look(world, gateway, load=False)
        crash_what_loads(world)
    start, kept = world.clock.ms, ready(world, "other")
    for _ in range(5):
        await look(world, gateway, load=False)
        crash_what_loads(world)
    assert (kept < 4, billed(world, start)) == (True, kept * 5_000)
