"""What is read of an entity at zero: that it sleeps, or that there is no room for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from controller_http import Http, served_over_http
from controller_world import CHUNK, ToyGateway, World

from headrace.config import ScalingConfig
from headrace.controller.endpoint import Options
from headrace.controller.view import endpoint_info


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[Http]:
    world = World(tmp_path / "data")
    world.model()
    async with served_over_http(world) as http:
        yield http


async def state(http: Http) -> dict[str, Any]:
    body = (await http.get("/api/2.0/serving-endpoints/a"))[1]
    told: dict[str, Any] = body["config"]["served_entities"][0]["state"]
    return told


async def test_at_zero_it_says_that_it_was_scaled_to_zero_and_with_a_chunk_or_a_start_it_does_not(http: Http) -> None:
    world = http.world
    world.fleet.ready_at_once = True
    world.create("a", 0, 1, options=Options(scaling=ScalingConfig(idle_to_zero_s=20)))
    await world.step(1)
    gateway = ToyGateway(world)

    async def pass_by(seconds: int) -> None:
        for _ in range(seconds):
            gateway.ack()
            gateway.report()
            await world.step(1)

    gateway.offer(world.get("a"))
    await pass_by(5)
    assert await state(http) == {"deployment": "DEPLOYMENT_READY", "deployment_state_message": ""}
    await pass_by(30)
    assert world.phases("a") == []
    assert await state(http) == {"deployment": "DEPLOYMENT_READY", "deployment_state_message": "Scaled to zero"}
    world.fleet.ready_at_once = False
    gateway.offer(world.get("a"), work=50, queued=1)
    await pass_by(2)
    assert (await state(http))["deployment_state_message"] == ""


NO_ROOM = (
    "no room for its first chunk: it should have 1 chunk, and there is room for none: make the range of full smaller, "
    "or use a machine with more cores"
)
AT_ZERO = {
    "name": "a",
    "config": {
        "served_entities": [
            {"entity_name": "toy", "max_provisioned_throughput": CHUNK, "scale_to_zero_enabled": True},
        ]
    },
}


async def test_a_new_one_without_room_says_so_from_its_creation_on(http: Http) -> None:
    world = http.world
    world.fleet.ready_at_once = True
    await world.served("full", 4, 4)
    gateway = ToyGateway(world)
    status, created = await http.post("/api/2.0/serving-endpoints", AT_ZERO)
    assert status == 200
    assert created["headrace"]["notes"] == [
        "toy-1: no room for its first chunk as things are: it starts when another endpoint leaves a place"
    ]
    gateway.ack()
    gateway.report()
    await world.step(1)
    told = (await http.get("/api/2.0/serving-endpoints/a"))[1]
    assert told["state"] == {"ready": "READY", "config_update": "NOT_UPDATING", "suspend": "NOT_SUSPENDED"}
    assert await state(http) == {"deployment": "DEPLOYMENT_READY", "deployment_state_message": NO_ROOM}
    assert told["headrace"]["notes"] == [f"toy-1: {NO_ROOM}"]
    info = endpoint_info(world.controller, world.get("a"))
    assert (info.state, info.entities[0].state) == ("pending", "pending")
    assert NO_ROOM.endswith(info.problems[0]), "the status tells the same"


async def test_one_that_gets_a_place_says_nothing_of_room_any_more(http: Http) -> None:
    world = http.world
    world.fleet.ready_at_once = True
    await world.served("full", 4, 4)
    gateway = ToyGateway(world)
    await http.post("/api/2.0/serving-endpoints", AT_ZERO)
    gateway.ack()
    gateway.report()
    await world.step(1)
    assert world.phases("a") == []
    await http.delete("/api/2.0/serving-endpoints/full")
    for _ in range(5):
        gateway.ack()
        gateway.report()
        await world.step(1)
    told = (await http.get("/api/2.0/serving-endpoints/a"))[1]
    assert (world.phases("a"), told["headrace"]["notes"]) == (["ready"], [])
    assert await state(http) == {"deployment": "DEPLOYMENT_READY", "deployment_state_message": ""}
    assert endpoint_info(world.controller, world.get("a")).state == "ready"
