"""Endpoints whose size is in Databricks' model units."""

from __future__ import annotations

from typing import Any

import pytest
from controller_http import Http
from controller_world import CHUNK, NULL

from headrace.models.registry import Registry

BASE = "/api/2.0/serving-endpoints"


def body(units: Any, **more: Any) -> dict[str, Any]:
    entity = {"entity_name": "toy", "entity_version": "1", "provisioned_model_units": units} | more
    return {"name": "a", "config": {"served_entities": [entity]}}


async def settled(http: Http) -> dict[str, Any]:
    await http.world.step()
    await http.world.step()
    told: dict[str, Any] = (await http.get(f"{BASE}/a"))[1]
    return told


async def test_fifty_units_are_one_chunk_of_a_fixed_size(http: Http) -> None:
    assert (await http.post(f"{BASE}/pt", body(100)))[0] == 200
    served = (await settled(http))["config"]["served_entities"][0]
    assert served["provisioned_model_units"] == 100
    assert "min_provisioned_throughput" not in served, "a client would take it for the other kind"
    shown = (await http.get("/api/headrace/v1/endpoints/a"))[1]
    assert (shown["min_chunks"], shown["max_chunks"], shown["chunk"]) == (2, 2, CHUNK)
    assert (served["min_dbus"], served["max_dbus"]) == (7.2, 7.2), "two chunks at 3.6 an hour"


@pytest.mark.parametrize("burst", [True, False, None])
async def test_the_reply_says_that_nothing_is_served_above_the_size(http: Http, burst: bool | None) -> None:
    status, made = await http.post(f"{BASE}/pt", body(50, burst_scaling_enabled=burst))
    assert status == 200
    assert made["headrace"]["notes"] == [
        "toy-1: 50 model units are 1 chunk of 1000 reference tokens/s (50 units each), a fixed size: nothing is served "
        "above it, with burst_scaling_enabled or without"
    ]


async def test_an_update_changes_the_units_and_restarts_nothing(http: Http) -> None:
    await http.post(f"{BASE}/pt", body(50))
    await settled(http)
    status, _ = await http.put(f"{BASE}/pt/a/config", {"config": body(100)["config"]})
    assert status == 200
    assert (await settled(http))["config"]["served_entities"][0]["provisioned_model_units"] == 100
    assert http.world.fleet.started == 2


@pytest.mark.parametrize(
    ("units", "said"),
    [
        (75, "not a whole number of chunks: one chunk of 'toy' is 50 model units, 1000 reference tokens/s here"),
        (75, "the nearest valid: 50 and 100"),
        (20, "the nearest valid: 50"),
        (0, "must be one chunk or more"),
        (-50, "must be one chunk or more"),
        (250, "this machine holds 4 replicas of 'toy': at most 200"),
        ("50", "valid integer"),
    ],
)
async def test_units_that_cannot_be_sold_are_refused_with_those_that_can(http: Http, units: Any, said: str) -> None:
    status, answer = await http.post(f"{BASE}/pt", body(units))
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert said in answer["message"]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("min_provisioned_throughput", 1000, "for tokens/s call POST /api/2.0/serving-endpoints"),
        ("max_provisioned_throughput", 1000, "for tokens/s call POST /api/2.0/serving-endpoints"),
        ("scale_to_zero_enabled", True, "model units are a fixed size"),
    ],
)
async def test_a_size_in_units_takes_nothing_of_a_range(http: Http, field: str, value: Any, said: str) -> None:
    status, answer = await http.post(f"{BASE}/pt", body(50, **{field: value}))
    assert status == 400
    assert f"{field} is not supported" in answer["message"]
    assert said in answer["message"]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (body(50)["config"], "served_entities is not supported by Headrace: it stands in `config`"),
        ({"config": {"served_models": [{"model_name": "toy"}]}}, "give served_entities"),
    ],
)
async def test_what_stands_in_the_wrong_place_is_told_the_right_one(http: Http, sent: Any, said: str) -> None:
    await http.post(f"{BASE}/pt", body(50))
    await settled(http)
    status, answer = await http.put(f"{BASE}/pt/a/config", sent)
    assert status == 400
    assert said in answer["message"]


async def test_an_endpoint_keeps_the_unit_it_was_made_in(http: Http) -> None:
    tokens = {"entity_name": "toy", "min_provisioned_throughput": CHUNK, "max_provisioned_throughput": CHUNK}
    await http.post(f"{BASE}/pt", body(50))
    await http.post(BASE, {"name": "b", "config": {"served_entities": [tokens]}})
    status, answer = await http.put(f"{BASE}/a/config", {"served_entities": [tokens]})
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "PUT /api/2.0/serving-endpoints/pt/a/config" in answer["message"]
    status, answer = await http.put(f"{BASE}/pt/b/config", {"config": body(50)["config"]})
    assert status == 400
    assert "PUT /api/2.0/serving-endpoints/b/config" in answer["message"]


async def test_a_model_that_is_sold_in_units_tells_the_one_chunk_that_fits_it(http: Http) -> None:
    info = (await http.get(f"{BASE}/get-model-optimization-info/toy/1"))[1]
    assert (info["throughput_chunk_size"], info["dbus"]) == (CHUNK, 3.6)
    assert "model_unit_chunk_size" not in info
    Registry(http.world.data.models).add("toy", simulated=True, replace=True, units_per_chunk=20, engine_args=NULL)
    info = (await http.get(f"{BASE}/get-model-optimization-info/toy/1"))[1]
    assert info["model_unit_chunk_size"] == 20
    assert "throughput_chunk_size" not in info
    assert info["headrace"]["chunk"] == CHUNK
    assert (await http.post(f"{BASE}/pt", body(40)))[0] == 200
    assert (await http.get("/api/headrace/v1/endpoints/a"))[1]["max_chunks"] == 2


@pytest.mark.parametrize("name", ["system.ai.llama_v3", "main/default/llama"])
async def test_a_full_name_with_dots_or_slashes_is_one_name(http: Http, name: str) -> None:
    status, answer = await http.get(f"{BASE}/get-model-optimization-info/{name}/2")
    assert (status, answer["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert name in answer["message"]
    if "/" not in name:
        http.world.model(name)
        assert (await http.get(f"{BASE}/get-model-optimization-info/{name}/1"))[1]["optimizable"] is True


@pytest.mark.parametrize(
    ("model", "entity"),
    [("system.ai.llama_v3", "llama_v3-1"), ("ml.llm-catalog.mpt", "mpt-1"), ("qwen2.5-0.5b", "qwen2.5-0.5b-1")],
)
async def test_a_served_entity_has_the_last_part_of_a_full_name(http: Http, model: str, entity: str) -> None:
    http.world.model(model)
    made = (await http.post(f"{BASE}/pt", body(50, entity_name=model)))[1]
    assert made["pending_config"]["served_entities"][0]["name"] == entity
