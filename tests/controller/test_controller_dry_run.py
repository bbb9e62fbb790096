"""``?dry_run=true`` over REST: everything is checked as in a real call, priced and told, and nothing is done."""

from __future__ import annotations

from typing import Any

import pytest
from controller_http import Http
from controller_world import CHUNK

BASE = "/api/2.0/serving-endpoints"
DRY = "?dry_run=true"


def served(low: int, high: int) -> dict[str, Any]:
    entity = {
        "entity_name": "toy",
        "min_provisioned_throughput": low * CHUNK,
        "max_provisioned_throughput": high * CHUNK,
    }
    return {"served_entities": [entity]}


async def made(http: Http, low: int, high: int) -> None:
    assert (await http.post(BASE, {"name": "a", "config": served(low, high)}))[0] == 200
    await http.world.step()
    await http.world.step()


async def test_a_create_is_priced_and_told(http: Http) -> None:
    status, told = await http.post(BASE + DRY, {"name": "a", "config": served(1, 2)})
    assert status == 200
    assert (told["dry_run"], told["name"], told["config_version"]) == (True, "a", 1)
    assert told["cost_per_hour"] == {"currency": "USD", "after": {"at_min": "3.600000", "at_max": "7.200000"}}
    (entity,) = told["served_entities"]
    assert (entity["roll_out"], entity["chunks_started"], entity["min_chunks"], entity["max_chunks"]) == (
        "brings_up",
        1,
        1,
        2,
    )
    assert told["says"] == ["toy-1: brings up 1 chunk", "it costs 3.600000 to 7.200000 USD an hour"]
    assert (await http.get(BASE))[1] == {"endpoints": []}


async def test_an_update_is_compared_with_what_is_sold(http: Http) -> None:
    await made(http, 1, 2)
    status, told = await http.put(f"{BASE}/a/config{DRY}", served(2, 3))
    assert status == 200
    assert told["cost_per_hour"] == {
        "currency": "USD",
        "before": {"at_min": "3.600000", "at_max": "7.200000"},
        "after": {"at_min": "7.200000", "at_max": "10.800000"},
        "difference": {"at_min": "3.600000", "at_max": "3.600000"},
    }
    assert told["config_version"] == 2
    assert told["says"] == [
        "toy-1: restarts nothing, and starts 1 chunk more; the range rises from 1000..2000 to 2000..3000 reference "
        "tokens/s",
        "it costs 7.200000 to 10.800000 USD an hour, instead of 3.600000 to 7.200000: 3.600000 more at the minimum, "
        "3.600000 more at the maximum",
    ]
    assert http.world.get("a").target.version == 1


async def test_another_model_in_as_many_chunks_is_another_range(http: Http) -> None:
    http.world.model("small", chunk=400)
    await made(http, 2, 2)
    small = {"name": "toy-1", "entity_name": "small", "max_provisioned_throughput": 800}
    small["min_provisioned_throughput"] = 800
    status, told = await http.put(f"{BASE}/a/config{DRY}", {"served_entities": [small]})
    assert status == 200
    (entity,) = told["served_entities"]
    assert (entity["tokens_s"], entity["tokens_s_before"]) == ({"min": 800, "max": 800}, {"min": 2000, "max": 2000})
    assert told["says"][0].endswith("; the range falls from 2000 to 800 reference tokens/s")
    assert told["removed"] == [], "it keeps its name"
    assert not any("any more" in said for said in told["says"])
    renamed = await http.put(f"{BASE}/a/config{DRY}", {"served_entities": [small | {"name": "little"}]})
    assert renamed[1]["removed"] == ["toy-1"]
    assert "toy-1: is not served any more" in renamed[1]["says"]
    status, updated = await http.put(f"{BASE}/a/config", {"served_entities": [small]})
    assert status == 200
    assert updated["headrace"]["notes"] == ["the range falls from 2000 to 800 reference tokens/s"]


async def test_replicas_that_drain_take_no_room(http: Http) -> None:
    await made(http, 4, 4)
    assert (await http.delete(f"{BASE}/a"))[0] == 200
    _, told = await http.post(BASE + DRY, {"name": "b", "config": served(1, 4)})
    (entity,) = told["served_entities"]
    assert (entity["chunks_started"], entity["chunks_pending"]) == (1, 0)
    assert told["says"][0] == "toy-1: brings up 1 chunk"


async def test_units_are_told_in_units(http: Http) -> None:
    entity = {"entity_name": "toy", "provisioned_model_units": 100}
    status, told = await http.post(f"{BASE}/pt{DRY}", {"name": "a", "config": {"served_entities": [entity]}})
    assert status == 200
    assert told["served_entities"][0]["provisioned_model_units"] == 100
    assert "min_provisioned_throughput" not in told["served_entities"][0]
    assert any("100 model units are 2 chunks" in said for said in told["says"])
    await http.post(f"{BASE}/pt", {"name": "a", "config": {"served_entities": [entity]}})
    await http.world.step()
    await http.world.step()
    smaller = {"config": {"served_entities": [entity | {"provisioned_model_units": 50}]}}
    status, told = await http.put(f"{BASE}/pt/a/config{DRY}", smaller)
    assert told["cost_per_hour"]["difference"] == {"at_min": "-3.600000", "at_max": "-3.600000"}
    assert told["says"][-1].endswith("3.600000 less at the minimum, 3.600000 less at the maximum")


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("", {"name": "a", "config": served(1, 1)}, 409, "already exists"),
        ("", {"name": "pt", "config": served(1, 1)}, 400, "reserved word"),
        ("", {"name": "b", "config": served(2, 1)}, 400, "above max_provisioned_throughput"),
        ("", {"name": "b", "config": served(4, 4)}, 400, "3 of 4 are free"),
        ("", {"name": "b", "config": served(1, 5)}, 400, "holds 4 replicas"),
    ],
)
async def test_what_a_real_call_would_refuse_is_refused(
    http: Http, path: str, body: dict[str, Any], status: int, said: str
) -> None:
    await made(http, 1, 1)
    got, answer = await http.post(BASE + path + DRY, body)
    assert got == status
    assert said in answer["message"]
    assert (await http.post(BASE + path, body))[1]["message"] == answer["message"], "as in a real call"


async def test_an_endpoint_that_is_being_updated_conflicts(http: Http) -> None:
    http.world.fleet.ready_at_once = False
    await http.post(BASE, {"name": "a", "config": served(1, 1)})
    status, answer = await http.put(f"{BASE}/a/config{DRY}", served(1, 2))
    assert (status, answer["error_code"]) == (409, "RESOURCE_CONFLICT")
