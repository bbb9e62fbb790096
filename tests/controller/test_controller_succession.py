"""An update that replaces replicas forgets nothing of the demand, and its decisions replay."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from controller_world import CHUNK, ToyGateway, World, entity

from headrace.controller.rollout import predecessors
from headrace.decisions.reader import read
from headrace.planner.replay import replay


@pytest.fixture
def world(tmp_path: Path) -> World:
    """With a decision log."""
    world = World(tmp_path / "data", places=8)
    world.model()
    world.model("other")
    world.fleet.ready_at_once = True
    world.config = msgspec.structs.replace(world.config, record_decisions=str(tmp_path / "d.jsonl"))
    world.restart()
    return world


async def loaded(world: World, gateway: ToyGateway, chunks: float, seconds: int) -> None:
    """What is active gets load of so many chunks."""
    for _ in range(seconds):
        gateway.ack()
        gateway.offer(world.get("a"), work=chunks * CHUNK, in_flight=1)
        gateway.report()
        await world.step(1)


def reasons(world: World) -> list[str]:
    return [event.message for event in world.controller.events.list(endpoint="a", kinds=["scaled"], limit=1000)]


def offered(reason: str) -> float:
    """Reference tokens/s of which a reason speaks."""
    found = re.search(r"([\d,]+) reference tokens/s offered", reason)
    assert found is not None, reason
    return float(found[1].replace(",", ""))


async def test_another_model_goes_on_with_the_demand_that_was_seen(world: World, tmp_path: Path) -> None:
    world.create("a", 1, 4)
    await world.step()
    gateway = ToyGateway(world)
    await loaded(world, gateway, 2.5, 60)
    (before,) = world.get("a").current.entities
    assert len(world.phases("a")) == 3
    told = reasons(world)
    world.update("a", 1, 4, model="other")
    await loaded(world, gateway, 2.5, 4)
    (after,) = world.get("a").current.entities
    assert after.id != before.id
    assert offered(world.controller.reconciler.watches.of(after.id).reason) > 2 * CHUNK
    await loaded(world, gateway, 2.5, 120)
    assert reasons(world) == told, "what the load needs was there from the first moment on"
    assert world.controller.reconciler.watches.of(after.id).wanted == 3
    came = replay(read(tmp_path / "d.jsonl"))
    assert came.difference is None
    assert len(came.entities) == 2


async def test_a_rise_during_the_update_is_answered_as_if_there_were_none(world: World) -> None:
    world.create("a", 1, 4)
    await world.step()
    gateway = ToyGateway(world)
    await loaded(world, gateway, 0.5, 60)
    world.update("a", 1, 4, model="other")
    world.fleet.ready_at_once = False
    await loaded(world, gateway, 3.4, 5)
    world.fleet.ready_at_once = True
    world.fleet.load()
    await loaded(world, gateway, 3.4, 3)
    (after,) = world.get("a").current.entities
    assert after.model.name == "other"
    await loaded(world, gateway, 3.4, 6)
    assert world.controller.reconciler.watches.of(after.id).wanted == 4


async def test_by_other_names_the_place_says_what_takes_over_from_what(world: World) -> None:
    world.create_several("a", (entity("x", 1, 2), 60), (entity("y", 1, 2), 40))
    await world.step(1)
    await world.step(1)
    x, y = world.get("a").current.entities
    world.update_several("a", (entity("z", 1, 2, model="other"), 60), (entity("y", 1, 2, model="other"), 40))
    new_z, new_y = world.get("a").target.entities
    assert predecessors(world.get("a")) == {new_z.id: x, new_y.id: y}


async def test_one_more_entity_takes_over_from_none(world: World) -> None:
    world.create("a", 1, 2)
    await world.step(1)
    await world.step(1)
    (only,) = world.get("a").current.entities
    world.update_several("a", (entity(only.name, 1, 2), 60), (entity("new", 1, 2, model="other"), 40))
    assert set(predecessors(world.get("a"))) == {only.id}
