"""What Databricks' clients read of an entity at zero."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from controller_http import Http, served_over_http
from controller_world import ToyGateway, World

from headrace.config import ScalingConfig
from headrace.controller.endpoint import Options


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
