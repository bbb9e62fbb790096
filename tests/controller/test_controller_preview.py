"""What a change would do and cost, before it is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from controller_world import ToyGateway, World, config, entity

from headrace.controller.asked import AskedConfig
from headrace.controller.endpoint import Endpoint, Options
from headrace.controller.preview import Cost, Preview, preview

HOUR_MICRO = 3_600_000
"""Price of a chunk for an hour."""
IDLE_S = 300.0
"""Of an endpoint, before its last chunk goes."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, places=4)
    world.model()
    world.model("other")
    world.fleet.ready_at_once = True
    return world


def previewed(world: World, before: Endpoint | None, after: Endpoint) -> Preview:
    fleet = world.controller.fleet
    replicas = world.controller.roster.of(after.id)
    return preview(before, after, replicas, room=fleet.room, shares=fleet.shares, idle_to_zero_s=IDLE_S)


def create(world: World, low: int, high: int) -> Preview:
    asked = AskedConfig(entities=(entity(None, low, high),))
    return previewed(world, None, world.controller.endpoints.planned("b", asked, creator="t", options=Options()))


def update(world: World, asked: AskedConfig) -> Preview:
    return previewed(world, world.get("a"), world.controller.endpoints.planned_update("a", asked))


async def reporting(world: World, gateway: ToyGateway, seconds: int) -> None:
    """Time in which a gateway has no request to tell of."""
    for _ in range(seconds):
        gateway.ack()
        gateway.report()
        await world.step(1)


async def running(world: World, low: int, high: int) -> None:
    """An endpoint ``a`` whose minimum serves."""
    world.create("a", low, high)
    await world.step()
    await world.step()
    assert world.get("a").update == "NOT_UPDATING"


async def test_a_new_endpoint_brings_up_its_minimum(world: World) -> None:
    seen = create(world, 2, 3)
    (one,) = seen.entities
    assert (one.roll_out, one.kept, one.starts, one.pending) == ("brings_up", 0, 2, 0)
    assert one.says == "brings up 2 chunks"
    assert (seen.before, seen.after) == (None, Cost(at_min=2 * HOUR_MICRO, at_max=3 * HOUR_MICRO))


async def test_a_new_endpoint_at_zero_brings_up_its_first_chunk_and_says_what_that_costs(world: World) -> None:
    (one,) = create(world, 0, 2).entities
    assert (one.roll_out, one.kept, one.starts, one.pending) == ("brings_up", 0, 1, 0)
    assert one.says == (
        "brings up 1 chunk, which goes to zero when it has been idle for 300 s (they cost 0.300000 USD); from then on "
        "a request starts one"
    )


async def test_a_new_endpoint_at_zero_starts_nothing_where_there_is_no_room(world: World) -> None:
    await running(world, 4, 4)
    (one,) = create(world, 0, 1).entities
    assert (one.starts, one.pending) == (0, 1)
    assert one.says.startswith("starts nothing: there is no room for its first chunk; for 1 chunk of its maximum")


async def test_what_is_told_of_a_new_endpoint_at_zero_is_what_happens(world: World) -> None:
    (told,) = create(world, 0, 1).entities
    gateway = await world.served("b", 0, 1)
    await reporting(world, gateway, 2)
    assert len(world.phases("b")) == told.starts
    await reporting(world, gateway, int(IDLE_S) - 10)
    assert world.phases("b") == ["ready"]
    await reporting(world, gateway, 20)
    assert world.phases("b") == []
    asleep = AskedConfig(entities=(entity(None, 0, 2, model="other"),))
    planned = world.controller.endpoints.planned_update("b", asked=asleep)
    (heir,) = previewed(world, world.get("b"), planned).entities
    assert (heir.starts, heir.says) == (0, "starts nothing until the first request"), "nothing is new to its callers"


async def test_an_entity_at_zero_that_an_update_adds_is_brought_up_first(world: World) -> None:
    gateway = await world.served("a", 1, 1)
    asked = config((entity("toy-1", 1, 1), 100), (entity("more", 0, 1, model="other"), 0))
    kept, more = update(world, asked).entities
    assert (kept.starts, more.starts) == (0, 1)
    world.controller.endpoints.update("a", asked)
    await reporting(world, gateway, 5)
    assert len(world.phases("a", "more")) == 1


async def test_chunks_for_which_there_is_no_room_are_told(world: World) -> None:
    await running(world, 2, 2)
    (one,) = create(world, 1, 4).entities
    assert (one.starts, one.pending) == (1, 2)
    assert one.says.endswith(
        "; for 2 chunks of its maximum there is no room as things are: they stay pending until there is"
    )


async def test_a_new_range_restarts_nothing(world: World) -> None:
    await running(world, 1, 2)
    seen = update(world, AskedConfig(entities=(entity(None, 2, 3),)))
    (one,) = seen.entities
    assert (one.roll_out, one.kept, one.starts) == ("restarts_nothing", 1, 1)
    assert one.says == "restarts nothing, and starts 1 chunk more"
    assert seen.before == Cost(at_min=HOUR_MICRO, at_max=2 * HOUR_MICRO)
    assert seen.after == Cost(at_min=2 * HOUR_MICRO, at_max=3 * HOUR_MICRO)


async def test_another_model_comes_up_beside_where_there_is_room(world: World) -> None:
    await running(world, 2, 2)
    (one,) = update(world, AskedConfig(entities=(entity(None, 2, 2, model="other"),))).entities
    assert (one.roll_out, one.starts) == ("beside", 2)
    assert "brings up 2 chunks beside the 2 replicas of the old config" in one.says


async def test_another_model_replaces_chunk_by_chunk_where_there_is_none(world: World) -> None:
    await running(world, 3, 3)
    (one,) = update(world, AskedConfig(entities=(entity(None, 3, 4, model="other"),))).entities
    assert (one.roll_out, one.starts, one.pending) == ("replaces", 3, 0)
    assert "chunk by chunk: there is room for 1 of the 3 chunks of its minimum" in one.says
    assert "held" in one.says


async def test_entities_share_the_room_in_their_order_and_what_goes_is_named(world: World) -> None:
    await running(world, 1, 1)
    asked = config((entity("x", 2, 2, model="other"), 50), (entity("y", 1, 2, model="other"), 50))
    seen = update(world, asked)
    assert [one.roll_out for one in seen.entities] == ["beside", "beside"]
    assert [one.pending for one in seen.entities] == [0, 0], "toy-1 leaves its place to the second one of y"
    assert [one.name for one in seen.removed] == ["toy-1"]


async def test_places_that_the_old_replicas_leave_are_not_missing(world: World) -> None:
    await running(world, 2, 2)
    (one,) = update(world, AskedConfig(entities=(entity(None, 1, 4, model="other"),))).entities
    assert (one.roll_out, one.starts, one.pending) == ("beside", 1, 0)
    asked = config((entity("x", 1, 3, model="other"), 50), (entity("y", 1, 4, model="other"), 50))
    assert [one.pending for one in update(world, asked).entities] == [0, 2], "each of them is left once"


async def test_a_newer_chunk_is_told(world: World) -> None:
    await running(world, 1, 1)
    world.model(chunk=500)
    (one,) = update(world, AskedConfig(entities=(entity(None, 1, 1),))).entities
    assert "its chunk becomes 500 reference tokens/s instead of 1000" in one.says


async def test_what_was_never_served_was_not_paid_for(world: World) -> None:
    world.fleet.refuses = "the file is gone"
    world.create("a", 1, 1)
    for _ in range(10):
        await world.step(60)
    assert world.get("a").update == "UPDATE_FAILED"
    assert update(world, AskedConfig(entities=(entity(None, 1, 1),))).before == Cost(at_min=0, at_max=0)


async def test_a_preview_changes_nothing(world: World) -> None:
    await running(world, 1, 2)
    before, kinds = world.get("a"), world.kinds()
    update(world, AskedConfig(entities=(entity(None, 2, 3),)))
    create(world, 1, 1)
    await world.step()
    assert world.get("a") == before
    assert world.kinds() == kinds
    assert [one.name for one in world.controller.store.endpoints()] == ["a"]
