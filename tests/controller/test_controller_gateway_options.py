"""How an endpoint treats requests, over REST: Databricks' AI gateway and rate limits, and Headrace's own options."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from controller_http import Http, served_over_http
from controller_world import World

from headrace.controller.endpoint import RateLimit

BASE = "/api/2.0/serving-endpoints"
GATEWAY = f"{BASE}/a/ai-gateway"
OWN = "/api/headrace/v1/endpoints/a"
ENTITY = {"entity_name": "toy", "min_provisioned_throughput": 1000, "max_provisioned_throughput": 1000}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[Http]:
    world = World(tmp_path / "data", places=4)
    world.model()
    world.create("a", 1, 2)
    async with served_over_http(world) as http:
        yield http


def limit(**fields: Any) -> dict[str, Any]:
    return {"key": "endpoint", "renewal_period": "minute"} | fields


async def test_rate_limits_and_fallback_are_set_told_and_kept(http: Http) -> None:
    limits = [
        limit(calls=10),
        limit(key="user", tokens=500),
        limit(key="user", principal="alice", calls=1, tokens=0),
        limit(key="service_principal", calls=7),
    ]
    status, answer = await http.put(GATEWAY, {"rate_limits": limits, "fallback_config": {"enabled": True}})
    assert status == 200
    expected = {
        "rate_limits": limits,
        "fallback_config": {"enabled": True},
        "usage_tracking_config": {"enabled": True},
    }
    assert {name: answer[name] for name in expected} == expected
    assert (await http.get(f"{BASE}/a"))[1]["ai_gateway"] == expected
    http.world.restart()
    kept = http.world.get("a").options
    assert kept.fallback
    assert kept.rate_limits[2] == RateLimit(key="user", principal="alice", calls=1, tokens=0)


@pytest.mark.parametrize("body", [None, {}, {"rate_limits": None}, {"inference_table_config": {"enabled": False}}])
async def test_what_a_body_leaves_out_is_switched_off(http: Http, body: Any) -> None:
    await http.put(GATEWAY, {"rate_limits": [limit(calls=10)], "fallback_config": {"enabled": True}})
    status, answer = await http.put(GATEWAY, body)
    assert status == 200
    assert (answer["rate_limits"], answer["fallback_config"]) == ([], {"enabled": False})


async def test_a_limit_of_somebody_who_is_not_there_is_kept_and_the_reply_says_that_it_holds_for_nobody(
    http: Http,
) -> None:
    limits = [
        limit(key="user", principal="ann", calls=1),
        limit(key="service_principal", principal="job", calls=1),
        limit(key="user", calls=9),
    ]
    notes = (await http.put(GATEWAY, {"rate_limits": limits}))[1]["headrace"]["notes"]
    assert [note.split(",")[0] for note in notes] == [
        "rate_limits: no key was ever made for user 'ann'",
        "rate_limits: there is no service principal 'job'",
    ]
    assert (await http.get(f"{BASE}/a"))[1]["headrace"]["notes"] == notes
    await http.post("/api/headrace/v1/keys", {"user": "ann"})
    await http.post("/api/headrace/v1/service-principals", {"name": "job"})
    assert (await http.get(f"{BASE}/a"))[1]["headrace"]["notes"] == []


async def test_the_reply_says_that_usage_tracking_stays_on(http: Http) -> None:
    off = {"usage_tracking_config": {"enabled": False}}
    kept = "the usage of every request is kept"
    answer = (await http.put(GATEWAY, off))[1]
    assert answer["usage_tracking_config"] == {"enabled": True}
    assert kept in answer["headrace"]["notes"][0]
    assert (await http.put(GATEWAY, {}))[1]["headrace"]["notes"] == []
    made = {"name": "b", "config": {"served_entities": [ENTITY]}, "ai_gateway": off}
    assert any(kept in said for said in (await http.post(f"{BASE}?dry_run=true", made))[1]["says"])
    assert kept in (await http.post(BASE, made))[1]["headrace"]["notes"][0]


async def test_the_reply_says_that_a_minimum_above_zero_is_never_given_back(http: Http) -> None:
    entity = ENTITY | {"scale_to_zero_enabled": True}
    made = (await http.post(BASE, {"name": "b", "config": {"served_entities": [entity]}}))[1]
    assert made["headrace"]["notes"] == [
        "toy-1: it does not scale to zero, as scale_to_zero_enabled says, but to its minimum of 1 chunk; for zero give "
        "min_provisioned_throughput: 0"
    ]


async def test_the_legacy_form_replaces_all_rate_limits_and_leaves_the_rest(http: Http) -> None:
    await http.put(GATEWAY, {"rate_limits": [limit(tokens=10)], "fallback_config": {"enabled": True}})
    limits = [{"calls": 5, "renewal_period": "minute"}, {"calls": 2, "key": "user", "renewal_period": "minute"}]
    status, answer = await http.put(f"{BASE}/a/rate-limits", {"rate_limits": limits})
    assert (status, answer) == (200, {"rate_limits": [limit(calls=5), limit(calls=2, key="user")]})
    assert (await http.get(f"{BASE}/a"))[1]["ai_gateway"]["fallback_config"] == {"enabled": True}


async def test_a_new_endpoint_takes_them_in_either_form(http: Http) -> None:
    config = {"served_entities": [ENTITY]}
    for name, how in (
        ("b", {"rate_limits": [{"calls": 5}]}),
        ("c", {"ai_gateway": {"rate_limits": [{"calls": 5}]}}),
    ):
        status, made = await http.post(BASE, {"name": name, "config": config} | how)
        assert (status, made["ai_gateway"]["rate_limits"]) == (200, [limit(calls=5)])
    both = {"rate_limits": [{"calls": 5}], "ai_gateway": {"rate_limits": [{"calls": 5}]}}
    status, answer = await http.post(BASE, {"name": "d", "config": config} | both)
    assert (status, answer["param"]) == (400, "rate_limits")


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ([limit()], "has neither calls nor tokens"),
        ([limit(calls=None, tokens=None)], "has neither calls nor tokens"),
        ([limit(calls=-1)], "greater than or equal to 0"),
        ([limit(calls="5")], "valid integer"),
        ([limit(calls=5, principal="alice")], "key 'endpoint' is for all callers together"),
        ([limit(calls=5), limit(tokens=5)], "two are for endpoint"),
        ([limit(key="user", principal="a", calls=5)] * 2, "two are for user 'a'"),
        ([limit(key="user_group", principal="team", calls=5)], "knows no groups"),
        ([limit(key="everybody", calls=5)], "'endpoint', 'user' or 'service_principal'"),
        ([limit(calls=5, renewal_period="hour")], "'minute'"),
        ([limit(key="user", principal="a\0b", calls=5)], "principal: String should match pattern"),
        ([limit(key="user", principal=f"u{place}", calls=5) for place in range(21)], "at most 20"),
    ],
)
async def test_limits_that_say_nothing_or_two_things_are_refused(
    http: Http, limits: list[dict[str, Any]], said: str
) -> None:
    status, answer = await http.put(GATEWAY, {"rate_limits": limits})
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert said in answer["message"]
    assert http.world.get("a").options.rate_limits == ()


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("PUT", "ai-gateway", {"guardrails": {"input": {"safety": True}}}, "guardrails is not supported by Headrace: "),
        ("PUT", "ai-gateway", {"inference_table_config": {"enabled": True}}, "prompts and answers are not kept"),
        ("PATCH", "notifications", {"email_notifications": {"on_update_failure": ["x"]}}, "Headrace sends no mail"),
        ("PATCH", "telemetry-config", {"telemetry_config": {"features": ["LOGS"]}}, "writes no telemetry tables"),
    ],
)
async def test_what_headrace_does_not_do_is_refused_with_what_it_does(
    http: Http, method: str, path: str, body: Any, said: str
) -> None:
    status, answer = await http.call(method, f"{BASE}/a/{path}", body)
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert said in answer["message"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "ai-gateway", {"guardrails": {"input": {"safety": False, "pii": {"behavior": "NONE"}}}}),
        ("PUT", "ai-gateway", {"inference_table_config": {"enabled": False, "catalog_name": "ml"}}),
        ("PATCH", "notifications", {"email_notifications": {"on_update_failure": []}}),
        ("PATCH", "telemetry-config", {"telemetry_config": None}),
    ],
)
async def test_a_feature_that_is_switched_off_is_not_asked_for(http: Http, method: str, path: str, body: Any) -> None:
    assert (await http.call(method, f"{BASE}/a/{path}", body))[0] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "ai-gateway"), ("PUT", "rate-limits"), ("PATCH", "notifications"), ("PATCH", "telemetry-config")],
)
async def test_an_endpoint_that_is_not_there_is_a_404(http: Http, method: str, path: str) -> None:
    status, answer = await http.call(method, f"{BASE}/nobody/{path}", {})
    assert (status, answer["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


async def test_own_options_change_at_once_and_one_by_one(http: Http) -> None:
    status, answer = await http.patch(
        OWN, {"overload": "reject", "autoscaling": "off", "scaling": {"headroom": 0.2, "down_window_s": 60}}
    )
    assert status == 200
    assert (answer["headrace"]["overload"], answer["headrace"]["autoscaling"]) == ("reject", "off")
    status, answer = await http.patch(OWN, {"queue_deadline_s": 5, "scaling": {"headroom": None}})
    told = answer["headrace"]
    assert (told["overload"], told["queue_deadline_s"], told["autoscaling"]) == ("reject", 5.0, "off")
    assert (told["scaling"]["headroom"], told["scaling"]["down_window_s"]) == (None, 60.0)
    status, answer = await http.patch(OWN, {"overload": None, "autoscaling": None})
    assert (answer["headrace"]["overload"], answer["headrace"]["autoscaling"]) == ("queue", "on")
    assert http.world.get("a").pending is not None and http.world.get("a").target.version == 1, "no config version"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"overload": "spill"}, "nowhere to spill to"),
        ({"overload": "shed"}, "'queue', 'reject' or 'spill'"),
        ({"scaling": {"headroom": -1}}, "scaling.headroom is -1"),
        ({"scaling": {"speed": 1}}, "scaling.speed is not supported"),
        ({"model_units": True}, "model_units is not supported"),
    ],
)
async def test_options_that_cannot_be_are_refused(http: Http, body: Any, said: str) -> None:
    before = http.world.get("a").options
    status, answer = await http.patch(OWN, body)
    assert status == 400
    assert said in answer["message"]
    assert http.world.get("a").options == before
