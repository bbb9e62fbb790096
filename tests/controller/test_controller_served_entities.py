"""Several served entities over the REST API: traffic, what is refused and why, and what a client reads back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from controller_http import Http, served_over_http
from controller_world import CHUNK, World

from headrace.ledger.schema import Usage

BASE = "/api/2.0/serving-endpoints"


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[Http]:
    world = World(tmp_path / "data", places=4)
    world.model()
    world.model("other")
    world.fleet.ready_at_once = True
    async with served_over_http(world) as http:
        yield http


def entity(name: str | None, low: int = 1, high: int = 1, **changes: Any) -> dict[str, Any]:
    given = {
        "name": name,
        "entity_name": "toy",
        "min_provisioned_throughput": low * CHUNK,
        "max_provisioned_throughput": high * CHUNK,
        "scale_to_zero_enabled": low == 0,
    }
    return {key: value for key, value in (given | changes).items() if value is not None}


def routes(**parts: Any) -> dict[str, Any]:
    return {"routes": [{"served_entity_name": name, "traffic_percentage": part} for name, part in parts.items()]}


def config(*entities: dict[str, Any], traffic: Any = None) -> dict[str, Any]:
    told: dict[str, Any] = {"served_entities": list(entities)}
    return told if traffic is None else told | {"traffic_config": traffic}


BOTH = (entity("big"), entity("small", entity_name="other"))


@pytest.mark.parametrize(
    ("asked", "param", "said"),
    [
        (config(*BOTH), "traffic_config", "with 2 served entities it must say which of them gets which percentage"),
        (config(*BOTH, traffic=routes()), "traffic_config", "traffic_config is missing"),
        (config(*BOTH, traffic=routes(big=60, small=30)), "traffic_config", "add up to 90 (big 60, small 30)"),
        (config(*BOTH, traffic=routes(big=60, small=60)), "traffic_config", "add up to 120"),
        (config(*BOTH, traffic=routes(big=0, small=0)), "traffic_config", "add up to 0"),
        (
            config(*BOTH, traffic=routes(big=120, small=-20)),
            "traffic_config",
            "of 'big' is 120; expected a whole number",
        ),
        (config(*BOTH, traffic=routes(big=70.5, small=29.5)), None, "traffic_percentage"),
        (config(*BOTH, traffic=routes(big="70", small="30")), None, "traffic_percentage"),
        (config(*BOTH, traffic=routes(big=True, small=99)), None, "traffic_percentage"),
        (
            config(*BOTH, traffic=routes(big=70, tiny=30)),
            "traffic_config",
            "'tiny'; the served entities are big, small",
        ),
        (
            config(*BOTH, traffic={"routes": [*routes(big=50)["routes"], *routes(big=50)["routes"]]}),
            "traffic_config",
            "two routes to 'big'",
        ),
        (config(*BOTH, traffic={"routes": [{"traffic_percentage": 100}]}), "traffic_config", "a route names nothing"),
        (
            config(
                *BOTH,
                traffic={
                    "routes": [{"served_entity_name": "big", "served_model_name": "small", "traffic_percentage": 100}]
                },
            ),
            "traffic_config",
            "a route names 'big' and 'small'",
        ),
        (config(entity("x"), traffic=routes(x=50)), "traffic_config", "add up to 50"),
        (config(entity("x"), traffic=routes(y=100)), "traffic_config", "'y'; the served entities are x"),
        (
            config(entity("x"), entity("x"), traffic=routes(x=100)),
            "served_entities",
            "two served entities are named 'x'",
        ),
        (
            config(entity(None), entity(None), traffic=routes(**{"toy-1": 100})),
            "served_entities",
            "two served entities are named 'toy-1'",
        ),
        (
            config(*(entity(f"e{n}", 0) for n in range(16)), traffic=routes(e0=100)),
            "served_entities",
            "16 served entities; an endpoint has 1 to 15",
        ),
        (
            {"served_entities": [entity("x")], "served_models": [{"model_name": "toy", "name": "y"}]},
            None,
            "served_models[0].max_provisioned_throughput is missing",
        ),
        (
            {
                "served_entities": [entity("x")],
                "served_models": [{"model_name": "toy", "name": "y", "max_provisioned_throughput": CHUNK}],
            },
            "served_models",
            "both served_entities and served_models are given",
        ),
        (
            config(entity("big", 1, 9), entity("small"), traffic=routes(big=100)),
            "max_provisioned_throughput",
            "served entity 'big': max_provisioned_throughput is 9 chunks",
        ),
        (
            config(entity("big", 3, 3), entity("small", 2, 2, entity_name="other"), traffic=routes(big=100)),
            "min_provisioned_throughput",
            "served entity 'small': min_provisioned_throughput is 2 chunks of 1000 reference tokens/s, and 1 of 4 are",
        ),
    ],
)
async def test_a_config_that_does_not_fit_together_is_refused_with_what_is_wrong(
    http: Http, asked: dict[str, Any], param: str | None, said: str
) -> None:
    status, answer = await http.post(BASE, {"name": "a", "config": asked})
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert said in answer["message"]
    if param is not None:
        assert answer["param"] == param
    assert (await http.get(BASE))[1] == {"endpoints": []}


async def test_traffic_is_echoed_with_both_names_and_what_has_no_route_gets_none(http: Http) -> None:
    tiny = entity("tiny", 0)
    status, answer = await http.post(
        BASE, {"name": "a", "config": config(*BOTH, tiny, traffic=routes(small=30, big=70))}
    )
    assert status == 200
    pending = answer["pending_config"]
    assert pending["traffic_config"]["routes"] == [
        {"served_entity_name": name, "served_model_name": name, "traffic_percentage": part}
        for name, part in (("big", 70), ("small", 30), ("tiny", 0))
    ]
    assert [one["name"] for one in pending["served_entities"]] == ["big", "small", "tiny"]
    assert [one["model_name"] for one in pending["served_models"]] == ["toy", "other", "toy"]
    await http.world.step()
    await http.world.step()
    view = http.world.snapshot.endpoints[0]
    assert [(one.name, one.traffic) for one in view.entities] == [("big", 70), ("small", 30), ("tiny", 0)]


async def test_routes_may_name_the_legacy_twin(http: Http) -> None:
    models = [
        {"name": name, "model_name": "toy", "min_provisioned_throughput": CHUNK, "max_provisioned_throughput": CHUNK}
        for name in ("x", "y")
    ]
    traffic = {"routes": [{"served_model_name": "y", "traffic_percentage": 100}]}
    status, answer = await http.post(
        BASE, {"name": "a", "config": {"served_models": models, "traffic_config": traffic}}
    )
    assert status == 200
    told = answer["pending_config"]["traffic_config"]["routes"]
    assert [route["traffic_percentage"] for route in told] == [0, 100]


async def test_one_served_entity_has_all_the_traffic_whether_it_is_said_or_not(http: Http) -> None:
    for name, traffic in (("a", None), ("b", routes(**{"toy-1": 100}))):
        status, answer = await http.post(BASE, {"name": name, "config": config(entity(None), traffic=traffic)})
        assert (status, answer["pending_config"]["traffic_config"]["routes"][0]["traffic_percentage"]) == (200, 100)


@pytest.mark.parametrize(
    ("asked", "fallback"),
    [
        ({}, False),
        ({"ai_gateway": {"fallback_config": {"enabled": True}}}, True),
        ({"ai_gateway": {"fallback_config": {"enabled": False}}}, False),
        ({"headrace": {"fallback": True}}, True),
        ({"headrace": {"fallback": True}, "ai_gateway": {"fallback_config": {"enabled": True}}}, True),
    ],
)
async def test_fallback_is_asked_for_in_either_place_and_echoed_in_both(
    http: Http, asked: dict[str, Any], fallback: bool
) -> None:
    made = {"name": "a", "config": config(*BOTH, traffic=routes(big=100))} | asked
    status, answer = await http.post(BASE, made)
    assert status == 200
    assert answer["ai_gateway"]["fallback_config"] == {"enabled": fallback}
    assert answer["headrace"]["fallback"] is fallback
    await http.world.step()
    assert http.world.snapshot.endpoints[0].fallback is fallback


async def test_two_places_that_disagree_on_fallback_are_refused(http: Http) -> None:
    asked = {"headrace": {"fallback": False}, "ai_gateway": {"fallback_config": {"enabled": True}}}
    status, answer = await http.post(BASE, {"name": "a", "config": config(entity("x"))} | asked)
    assert (status, answer["param"]) == (400, "headrace.fallback")
    assert "say two things" in answer["message"]


async def test_spill_needs_somewhere_to_spill_to(http: Http) -> None:
    spill = {"headrace": {"overload": "spill"}}
    status, answer = await http.post(BASE, {"name": "a", "config": config(entity("x"))} | spill)
    assert (status, answer["param"]) == (400, "headrace.overload")
    assert "nowhere to spill to" in answer["message"]
    two = config(*BOTH, traffic=routes(big=100))
    assert (await http.post(BASE, {"name": "a", "config": two} | spill))[0] == 200
    await http.world.step()
    await http.world.step()
    assert http.world.snapshot.endpoints[0].overload == "spill"
    status, answer = await http.put(f"{BASE}/a/config", config(entity("big")))
    assert (status, answer["param"]) == (400, "headrace.overload")


async def test_an_endpoint_is_ready_when_all_that_has_traffic_is(http: Http) -> None:
    http.world.fleet.ready_at_once = False
    three = config(*BOTH, entity("spare"), traffic=routes(big=70, small=30))
    await http.post(BASE, {"name": "a", "config": three})
    await http.world.step()
    http.world.fleet.load()
    await http.world.step(1)
    of = {replica.entity: replica.id for replica in http.world.snapshot.replicas}
    ids = {one.name: one.id for one in http.world.snapshot.endpoints[0].entities}

    async def told() -> tuple[str, dict[str, str]]:
        body = (await http.get(f"{BASE}/a"))[1]
        return body["state"]["ready"], {
            one["name"]: one["state"]["deployment"] for one in body["config"]["served_entities"]
        }

    assert await told() == ("READY", dict.fromkeys(("big", "small", "spare"), "DEPLOYMENT_READY"))
    http.world.fleet.crash(of[ids["spare"]])
    await http.world.step(1)
    state, deployments = await told()
    assert (state, deployments["spare"]) == ("READY", "DEPLOYMENT_RECOVERING"), "nothing is routed there"
    http.world.fleet.crash(of[ids["small"]])
    await http.world.step(1)
    state, deployments = await told()
    assert (state, deployments["small"], deployments["big"]) == (
        "NOT_READY",
        "DEPLOYMENT_RECOVERING",
        "DEPLOYMENT_READY",
    )


async def test_an_endpoint_shows_each_of_its_entities_and_the_sum(http: Http) -> None:
    await http.post(
        BASE, {"name": "a", "config": config(entity("big", 2, 3), entity("small"), traffic=routes(big=100))}
    )
    await http.world.step()
    await http.world.step()
    told = (await http.get("/api/headrace/v1/endpoints/a"))[1]
    big, small = told["entities"]
    assert [(one["name"], one["traffic"], one["chunks_ready"]) for one in (big, small)] == [
        ("big", 100, 2),
        ("small", 0, 1),
    ]
    assert (big["min_tokens_s"], big["max_tokens_s"]) == (2 * CHUNK, 3 * CHUNK)
    assert (told["state"], told["chunks_ready"], told["chunks_billed"]) == ("ready", 3, 3)
    assert sorted(replica["entity"] for replica in told["replicas"]) == ["big", "big", "small"]


async def test_a_point_of_the_chart_has_the_capacity_of_each_chunk_size(http: Http) -> None:
    http.world.model("other", chunk=300)
    small = entity("small", entity_name="other") | dict.fromkeys(
        ("min_provisioned_throughput", "max_provisioned_throughput"), 600
    )
    await http.post(BASE, {"name": "a", "config": config(entity("big"), small, traffic=routes(big=100))})
    await http.world.step()
    await http.world.step()
    await http.world.controller._add_points()
    of_all = (await http.get("/api/headrace/v1/series?endpoint=a"))[1]["points"][0]
    of_one = (await http.get("/api/headrace/v1/series?endpoint=a&entity=small"))[1]["points"][0]
    assert (of_all["ready"], of_all["capacity_tokens_s"]) == (3, CHUNK + 600)
    assert (of_one["ready"], of_one["capacity_tokens_s"]) == (2, 600)
    status, answer = await http.get("/api/headrace/v1/series?endpoint=a&entity=tiny")
    assert (status, answer["message"]) == (404, "endpoint 'a' has no served entity 'tiny'; there are: big, small")


async def test_the_bill_names_the_entity_of_each_line_and_adds_them_up(http: Http) -> None:
    await http.post(
        BASE, {"name": "a", "config": config(entity("big", 2, 2), entity("small"), traffic=routes(big=100))}
    )
    await http.world.step()
    await http.world.step()
    http.world.clock.ms += 90_000
    (bill,) = (await http.get("/api/headrace/v1/bill?endpoint=a"))[1]["bills"]
    assert [(line["entity"], line["chunk_ms"]) for line in bill["lines"]] == [("big", 180_000), ("small", 90_000)]
    assert (bill["chunk_ms"], bill["amount"]) == (270_000, "0.270000")


async def test_usage_is_told_by_served_entity(http: Http) -> None:
    await http.post(BASE, {"name": "a", "config": config(*BOTH, traffic=routes(big=100))})
    ids = {one.name: one.id for one in http.world.get("a").target.entities}
    rows = [("r1", ids["small"], 5), ("r2", ids["big"], 7), ("r3", ids["big"], 1)]
    with http.world.controller.database.write() as session:
        for rid, entity_id, output in rows:
            row = Usage(rid=rid, writer="g", endpoint_name="a", entity=entity_id, settled_ms=1, ended="settled")
            row.input_tokens, row.cached_tokens, row.output_tokens, row.work, row.exact = 10, 0, output, 1.0, True
            session.add(row)
        session.add(Usage(rid="r4", writer="g", endpoint_name="a", settled_ms=1, ended="rejected"))
    told = (await http.get("/api/headrace/v1/usage?endpoint=a&group=entity"))[1]["rows"]
    assert [(one["group"], one["requests"], one["output_tokens"]) for one in told] == [
        ("", 0, 0),
        ("a/big", 2, 8),
        ("a/small", 1, 5),
    ]
    requests = (await http.get("/api/headrace/v1/usage?endpoint=a&group=request"))[1]["rows"]
    assert {one["rid"]: one["entity"] for one in requests} == {"r1": "small", "r2": "big", "r3": "big", "r4": None}


@pytest.mark.parametrize("weight", [0, 0.05, 100.5, -1, "much", "NaN"])
async def test_a_key_weight_out_of_bounds_is_refused(http: Http, weight: Any) -> None:
    status, answer = await http.post("/api/headrace/v1/keys", {"weight": weight})
    assert (status, answer["param"]) == (400, "weight")


async def test_a_key_has_its_weight_at_every_gateway(http: Http) -> None:
    made = [(await http.post("/api/headrace/v1/keys", body))[1] for body in ({"weight": 2.5}, {})]
    assert [key["weight"] for key in made] == [2.5, 1.0]
    told = {key.id: key.weight for key in http.world.snapshot.keys}
    assert [told[key["id"]] for key in made] == [2.5, 1.0]
    http.world.restart()
    assert {key.id: key.weight for key in http.world.controller.keys.all()}[made[0]["id"]] == 2.5
