"""What an endpoint tells of its replicas, of how its model was brought up, and of how to call it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from controller_http import Http, served_over_http
from controller_world import World

from headrace.controller.built import built
from headrace.engines.base import ModelSettings
from headrace.gateway.request import LONGEST_ID, SERVICE_TIERS
from headrace.models.catalogue import CATALOGUE

BASE = "/api/2.0/serving-endpoints"


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[Http]:
    world = World(tmp_path / "data", places=4)
    world.model()
    world.fleet.ready_at_once = True
    world.create("a", 1, 2)
    async with served_over_http(world) as http:
        await world.step()
        yield http


async def logs(http: Http, kind: str = "logs", entity: str = "toy-1") -> tuple[int, str]:
    status, answer = await http.get(f"{BASE}/a/served-models/{entity}/{kind}")
    return status, answer["logs"] if status == 200 else answer["message"]


async def test_the_log_of_each_replica_is_told(http: Http) -> None:
    (replica,) = http.world.fleet.living()
    status, told = await logs(http)
    assert status == 200
    head, line = told.splitlines()
    assert head.startswith(f"== {replica}: ready, started at 2023-")
    assert line == f"{replica} says so"


async def test_the_last_words_of_a_replica_that_failed_are_told_first(http: Http) -> None:
    http.world.fleet.crash()
    await http.world.step(1)
    _, told = await logs(http)
    assert told.startswith("== a replica that failed at 2023-")
    assert "ended by SIGKILL\nthe last words" in told


async def test_a_replica_whose_log_cannot_be_read_does_not_hide_the_others(http: Http) -> None:
    http.world.fleet.forget()
    _, told = await logs(http)
    assert "its log cannot be read: no replica" in told


@pytest.mark.parametrize("kind", ["logs", "build-logs"])
async def test_an_entity_that_is_not_there_is_answered_with_those_that_are(http: Http, kind: str) -> None:
    assert await logs(http, kind, "other") == (404, "endpoint 'a' has no served entity 'other'; there are: toy-1")


async def test_build_logs_tell_what_was_done_to_bring_the_model_up(http: Http) -> None:
    status, told = await logs(http, "build-logs")
    assert status == 200
    assert "no image is built" in told
    assert "sold by profile toy-1000-measured (measured): a chunk is 1000 reference tokens/s" in told
    assert "invented by a test" in told
    (replica,) = http.world.fleet.living()
    assert f"replica {replica}: loaded and warmed in 1.0 s" in told


async def test_build_logs_name_weights_by_their_content_and_not_by_their_place(http: Http) -> None:
    entry = CATALOGUE["smollm2-135m-instruct"]
    model = ModelSettings(
        name=entry.name, engine="llamacpp", path="/secret/place/w.gguf", sha256=entry.converted.sha256
    )
    entity = msgspec.structs.replace(http.world.get("a").current.entities[0], model=model)
    told = "\n".join(built(entity, None, ()))
    assert f"w.gguf, SHA-256 {entry.converted.sha256}" in told
    assert f"fetched: {entry.package} {entry.package_version}" in told
    assert "converted on this machine: Q4_1 to Q8_0" in told
    assert "/secret" not in told


async def test_an_endpoint_describes_its_own_path(http: Http) -> None:
    status, document = await http.get(f"{BASE}/a/openapi")
    assert status == 200
    assert list(document["paths"]) == ["/serving-endpoints/a/invocations"]
    assert document["info"]["title"] == "a"
    chat = document["components"]["schemas"]["ChatRequest"]
    context = http.world.get("a").current.entities[0].model.context
    assert chat["properties"]["max_tokens"]["maximum"] == context - 1
    assert chat["properties"]["user"]["maxLength"] == LONGEST_ID, "as the gateway has it"
    assert chat["properties"]["service_tier"]["enum"] == [*SERVICE_TIERS, None]


async def test_the_document_comes_as_text_where_that_is_asked_for(http: Http) -> None:
    headers = {"Authorization": f"Bearer {http.key}", "Accept": "text/plain"}
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{http.url}{BASE}/a/openapi", headers=headers)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert json.loads(answer.text)["openapi"].startswith("3.")
