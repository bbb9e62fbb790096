"""``databricks-sdk``, unmodified, against the REST API over real HTTP, with a toy fleet behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest
from controller_http import Http, served_over_http
from controller_world import CHUNK, World
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, NotFound, OperationFailed, PermissionDenied, ResourceAlreadyExists
from databricks.sdk.service.serving import (
    AiGatewayConfig,
    EndpointCoreConfigInput,
    EndpointStateConfigUpdate,
    EndpointStateReady,
    EndpointTag,
    FallbackConfig,
    Route,
    ServedEntityInput,
    TrafficConfig,
)

from headrace.controller.keys import ALL_TIERS

T = TypeVar("T")


@pytest.fixture
async def http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Http]:
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    world = World(tmp_path / "data", places=4)
    world.model()
    world.fleet.ready_at_once = True
    async with served_over_http(world) as http:
        looking = asyncio.create_task(_look(world))
        yield http
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


async def _look(world: World) -> None:
    """The reconcile loop, as fast as changes come."""
    while True:
        await world.controller.wake.wait()
        world.controller.wake.clear()
        await world.step(1)
        await world.step(1)


async def call(function: Callable[[], T]) -> T:
    """The SDK blocks, so it runs beside the server."""
    return await asyncio.wait_for(asyncio.to_thread(function), 60)


def config(low: int = 1, high: int = 2, *, zero: bool = False, name: str = "a") -> EndpointCoreConfigInput:
    return EndpointCoreConfigInput(
        name=name,
        served_entities=[
            ServedEntityInput(
                entity_name="toy",
                entity_version="1",
                min_provisioned_throughput=low * CHUNK,
                max_provisioned_throughput=high * CHUNK,
                scale_to_zero_enabled=zero,
            )
        ],
    )


async def test_create_wait_update_list_and_delete(http: Http) -> None:
    w = await call(lambda: WorkspaceClient(host=http.url, token=http.key))
    endpoints = w.serving_endpoints
    made = await call(
        lambda: endpoints.create_and_wait("a", config=config(), tags=[EndpointTag(key="team", value="x")])
    )
    assert made.state is not None and made.config is not None and made.config.served_entities is not None
    assert (made.state.ready, made.state.config_update) == (
        EndpointStateReady.READY,
        EndpointStateConfigUpdate.NOT_UPDATING,
    )
    entity = made.config.served_entities[0]
    assert (entity.min_provisioned_throughput, entity.max_provisioned_throughput) == (CHUNK, 2 * CHUNK)
    assert (entity.entity_name, entity.entity_version, entity.name) == ("toy", "1", "toy-1")
    assert [tag.as_dict() for tag in made.tags or []] == [{"key": "team", "value": "x"}]

    changed = await call(lambda: endpoints.update_config_and_wait("a", served_entities=config(2, 3).served_entities))
    assert changed.config is not None and changed.config.config_version == 2

    tags = await call(lambda: endpoints.patch("a", add_tags=[EndpointTag(key="more", value="y")]))
    assert tags.tags is not None and [tag.key for tag in tags.tags] == ["more", "team"]
    assert [one.name for one in await call(lambda: list(endpoints.list()))] == ["a"]
    await call(lambda: endpoints.delete("a"))
    with pytest.raises(NotFound):
        await call(lambda: endpoints.get("a"))


async def test_several_served_entities_with_traffic_and_fallback(http: Http) -> None:
    w = await call(lambda: WorkspaceClient(host=http.url, token=http.key))
    served = [
        ServedEntityInput(
            name=name, entity_name="toy", min_provisioned_throughput=CHUNK, max_provisioned_throughput=CHUNK
        )
        for name in ("big", "small")
    ]
    routes = [Route(80, "big"), Route(20, "small")]
    with pytest.raises(BadRequest, match="traffic_config is missing"):
        await call(
            lambda: w.serving_endpoints.create("a", config=EndpointCoreConfigInput(name="a", served_entities=served))
        )
    asked = EndpointCoreConfigInput(name="a", served_entities=served, traffic_config=TrafficConfig(routes=routes))
    gateway = AiGatewayConfig(fallback_config=FallbackConfig(enabled=True))
    made = await call(lambda: w.serving_endpoints.create_and_wait("a", config=asked, ai_gateway=gateway))
    assert made.config is not None and made.config.traffic_config is not None
    told = [
        (route.served_entity_name, route.served_model_name, route.traffic_percentage)
        for route in made.config.traffic_config.routes or []
    ]
    assert told == [("big", "big", 80), ("small", "small", 20)]
    assert made.ai_gateway is not None and made.ai_gateway.fallback_config == FallbackConfig(enabled=True)
    other = TrafficConfig(routes=[Route(100, "small")])
    changed = await call(
        lambda: w.serving_endpoints.update_config_and_wait("a", served_entities=served, traffic_config=other)
    )
    assert changed.config is not None and changed.config.traffic_config is not None
    assert [route.traffic_percentage for route in changed.config.traffic_config.routes or []] == [0, 100]
    assert http.world.fleet.started == 2, "another split restarts nothing"


async def test_a_minimum_of_zero_is_accepted_without_a_replica(http: Http) -> None:
    w = await call(lambda: WorkspaceClient(host=http.url, token=http.key))
    made = await call(lambda: w.serving_endpoints.create_and_wait("a", config=config(0, 1, zero=True)))
    assert made.state is not None and made.state.ready is EndpointStateReady.READY
    assert http.world.fleet.started == 0


async def test_the_chunk_of_a_model_is_asked_for_as_databricks_notebooks_do(http: Http) -> None:
    w = await call(lambda: WorkspaceClient(host=http.url, token=http.key))
    path = "/api/2.0/serving-endpoints/get-model-optimization-info/toy/1"
    info = await call(lambda: w.api_client.do("GET", path))
    assert isinstance(info, dict)
    assert (info["optimizable"], info["throughput_chunk_size"]) == (True, CHUNK)


async def test_errors_become_the_exceptions_of_the_sdk(http: Http) -> None:
    w = await call(lambda: WorkspaceClient(host=http.url, token=http.key))
    bad = config()
    assert bad.served_entities is not None
    bad.served_entities[0].max_provisioned_throughput = 2 * CHUNK + 1
    with pytest.raises(BadRequest, match="nearest valid: 2000 and 3000"):
        await call(lambda: w.serving_endpoints.create("a", config=bad))
    await call(lambda: w.serving_endpoints.create_and_wait("a", config=config()))
    with pytest.raises(ResourceAlreadyExists):
        await call(lambda: w.serving_endpoints.create("a", config=config()))
    _, query = http.world.controller.keys.create(role="query", tiers=ALL_TIERS, name="", now_ms=1)
    other = await call(lambda: WorkspaceClient(host=http.url, token=query))
    with pytest.raises(PermissionDenied, match="needs the permission CAN_MANAGE"):
        await call(lambda: other.serving_endpoints.delete("a"))


async def test_a_config_whose_replicas_fail_is_an_operation_that_failed(http: Http) -> None:
    http.world.fleet.refuses = "the file is gone"
    w = await call(lambda: WorkspaceClient(host=http.url, token=http.key))
    waiting = await call(lambda: w.serving_endpoints.create("a", config=config()))
    for _ in range(10):
        await http.world.step(60)
    with pytest.raises(OperationFailed, match="UPDATE_FAILED"):
        await call(waiting.result)
