"""Every body that the OpenAPI documents show as an example is taken as it stands, by what takes real ones."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from controller_http import Http, served_over_http
from controller_world import World

from headrace.controller.api.databricks_examples import CREATE, CREATE_PT, MODEL
from headrace.gateway import prompt
from headrace.gateway.request import Shape, check, parse, shape_of

BASE = "/api/2.0/serving-endpoints"


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[Http]:
    """Endpoint ``in-tokens`` has a range in tokens/s, ``in-units`` a size in model units."""
    world = World(tmp_path / "data", places=8)
    world.model(MODEL, chunk=100)
    world.fleet.ready_at_once = True
    async with served_over_http(world) as http:
        for path, name, example in ((BASE, "in-tokens", CREATE["range"]), (f"{BASE}/pt", "in-units", PT)):
            assert (await http.post(path, {**example["value"], "name": name}))[0] == 200
        await world.step()
        await world.step()
        yield http


PT = CREATE_PT["model_units"]


def examples(document: dict[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    """Method, path, name and value of each."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                for name, example in content.get("examples", {}).items():
                    yield method, path, name, example["value"]


async def test_every_example_of_a_call_that_makes_or_changes_an_endpoint_is_taken(http: Http) -> None:
    _, document = await http.get("/api/headrace/v1/openapi.json")
    seen = set()
    for method, path, name, body in examples(document):
        seen.add((method, path))
        named = path.replace("{name}", "in-units" if "/pt/" in path else "in-tokens")
        status, answer = await http.call(method.upper(), f"{named}?dry_run=true", body)
        assert (status, answer.get("dry_run")) == (200, True), (path, name, answer)
    assert seen == {
        ("post", BASE),
        ("post", f"{BASE}/pt"),
        ("put", f"{BASE}/{{name}}/config"),
        ("put", f"{BASE}/pt/{{name}}/config"),
    }


async def test_every_example_of_a_request_is_taken_by_the_gateway(http: Http) -> None:
    _, document = await http.get(f"{BASE}/in-tokens/openapi")
    entity = http.world.get("in-tokens").current.entities[0]
    shapes = []
    for _, _, _, value in examples(document):
        body = parse(json.dumps(value).encode())
        check(body)
        shapes.append(shape_of(body))
        size = prompt.measure(body, shapes[-1])
        limits = prompt.limits(body, size, size.at_least, context=entity.model.context, default_max_tokens=16)
        assert limits.max_tokens == value.get("max_tokens", 0)
    assert shapes == [Shape.CHAT, Shape.COMPLETION, Shape.EMBEDDING]
