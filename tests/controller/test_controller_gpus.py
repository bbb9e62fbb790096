"""Models that need a GPU and models that need only cores share a machine: each thing is counted by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from controller_world import World, entity

from headrace.controller.refusal import Refusal


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Eight cores and a GPU, which replicas of ``big`` and ``bigger`` need beside two cores."""
    world = World(tmp_path / "data", places=8)
    world.fleet.gpus, world.fleet.on_gpu = 1, frozenset({"big", "bigger"})
    for model in ("big", "bigger"):
        world.model(model, threads=2)
    for model in ("toy", "other"):
        world.model(model)
    return world


async def test_the_cores_beside_a_gpu_are_sold_to_models_that_need_none(world: World) -> None:
    world.create("on-gpu", 1, 1, model="big")
    with pytest.raises(Refusal, match="6 of 8 are free beside the other minimums"):
        world.create("on-cores", 7, 7)
    world.create("on-cores", 6, 8)
    with pytest.raises(Refusal, match="0 of 1 are free beside the other minimums"):
        world.create("too", 1, 1, model="bigger")
    await world.step()
    world.fleet.load()
    await world.step(1)
    assert (world.phases("on-gpu"), world.phases("on-cores")) == (["ready"], ["ready"] * 6)


async def test_a_start_that_lacks_the_gpu_takes_the_place_of_what_has_it(world: World) -> None:
    world.create_several("a", (entity("x", 2, 2), 50), (entity("y", 1, 1, model="big"), 50))
    gateway = await world.brought_up("a")
    gateway.on_replica = {name: 5 for name, model in world.fleet.runs.items() if model == "big"}
    world.update_several("a", (entity("x", 2, 2, model="other"), 50), (entity("y", 1, 1, model="bigger"), 50))
    for _ in range(3):
        gateway.ack()
        gateway.report()
        await world.step(1)
        world.fleet.load()
    draining = [world.fleet.runs[one.id] for one in world.snapshot.replicas if one.draining]
    assert draining == ["big"], "although it has more to finish than those on cores"
    gateway.on_replica = {}
    for _ in range(6):
        gateway.ack()
        gateway.report()
        await world.step(1)
        world.fleet.load()
    assert world.get("a").update == "NOT_UPDATING"
    assert sorted(world.fleet.runs[name] for name in world.fleet.living()) == ["bigger", "other", "other"]
