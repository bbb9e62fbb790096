"""The REST API over real HTTP: what is refused and how, who may call, and what a client reads."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import pytest
from controller_http import Http
from controller_world import CHUNK

from headrace.controller.keys import ALL_TIERS
from headrace.gateway.snapshot import Ack, Hello
from headrace.profiles.files import load, save

BASE = "/api/2.0/serving-endpoints"


async def test_a_measurement_is_stopped_by_its_endpoint(http: Http) -> None:
    own = "/api/headrace/v1/endpoints"
    await http.post(BASE, body())
    http.world.controller.measuring.add("a")
    assert await http.delete(f"{own}/a/measuring") == (200, {"stopped": True})
    assert "a" not in http.world.controller.measuring
    assert await http.delete(f"{own}/a/measuring") == (200, {"stopped": False})
    assert (await http.delete(f"{own}/nosuch/measuring"))[0] == 404


def entity(**changes: Any) -> dict[str, Any]:
    given = {
        "entity_name": "toy",
        "entity_version": "1",
        "min_provisioned_throughput": CHUNK,
        "max_provisioned_throughput": 2 * CHUNK,
    }
    return {name: value for name, value in (given | changes).items() if value is not ...}


def body(name: str = "a", **changes: Any) -> dict[str, Any]:
    return {"name": name, "config": {"served_entities": [entity(**changes)]}}


@pytest.mark.parametrize(
    ("changes", "param", "said"),
    [
        ({"min_provisioned_throughput": 1500}, "min_provisioned_throughput", "nearest valid: 1000 and 2000"),
        ({"min_provisioned_throughput": 500}, "min_provisioned_throughput", "valid: 1000, or 0 with scale_to_zero_en"),
        ({"max_provisioned_throughput": 2001}, "max_provisioned_throughput", "nearest valid: 2000 and 3000"),
        ({"max_provisioned_throughput": 1}, "max_provisioned_throughput", "one chunk of 'toy' is 1000"),
        ({"max_provisioned_throughput": 0}, "max_provisioned_throughput", "must be one chunk or more"),
        ({"max_provisioned_throughput": ...}, None, "max_provisioned_throughput is missing"),
        ({"max_provisioned_throughput": "many"}, None, "max_provisioned_throughput"),
        ({"min_provisioned_throughput": 3000}, "min_provisioned_throughput", "above max_provisioned_throughput"),
        ({"min_provisioned_throughput": -1000}, "min_provisioned_throughput", "must not be negative"),
        (
            {"min_provisioned_throughput": 0},
            "min_provisioned_throughput",
            "true (`headrace endpoints`: --scale-to-zero)",
        ),
        ({"max_provisioned_throughput": 5000}, "max_provisioned_throughput", "holds 4 replicas of 'toy': at most 4000"),
        ({"external_model": {"provider": "x"}}, None, "external_model is not supported"),
        ({"external_model": {"provider": "x"}, "entity_name": ...}, None, "external_model is not supported"),
        ({"burst_scaling_enabled": True}, None, "burst_scaling_enabled is not supported"),
        ({"workload_size": "Small", "max_provisioned_throughput": ...}, None, "workload_size is not supported"),
        ({"workload_type": "GPU_SMALL"}, None, "workload_type is not supported"),
        ({"min_provisioned_concurrency": 4}, None, "min_provisioned_concurrency is not supported"),
        ({"instance_profile_arn": "arn"}, None, "replicas run as the server does"),
        ({"environment_vars": {"A": "b"}}, None, "environment_vars is not supported"),
        ({"provisioned_model_units": 50}, None, "call POST /api/2.0/serving-endpoints/pt"),
        ({"max_provisioned_throughput": 10**400}, None, "max_provisioned_throughput"),
        ({"max_provisioned_throughput": str(CHUNK)}, None, "valid integer"),
    ],
)
async def test_a_range_that_cannot_be_sold_is_refused_with_what_can(
    http: Http, changes: dict[str, Any], param: str | None, said: str
) -> None:
    status, answer = await http.post(BASE, body(**changes))
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert said in answer["message"]
    if param is not None:
        assert answer["param"] == param
    assert (await http.get(BASE))[1] == {"endpoints": []}


@pytest.mark.parametrize(
    ("request_body", "said"),
    [
        ({"name": "a b"}, "not a name for an endpoint"),
        ({"name": ""}, "not a name for an endpoint"),
        ({"name": "x" * 64}, "not a name for an endpoint"),
        ({"name": "chat"}, "reserved word"),
        ({"name": "get-model-optimization-info"}, "reserved word"),
        ({"config": {"served_entities": [entity(name="a/b")]}}, "'a/b' is not a name for a served entity"),
        ({"config": {"served_entities": []}}, "0 served entities; an endpoint has 1 to 15"),
        ({"config": {"name": "b", "served_entities": [entity()]}}, "the config is for 'b'"),
        ({"config": {"served_entities": [entity()], "auto_capture_config": {"enabled": True}}}, "auto_capture_config"),
        ({"ai_gateway": {"guardrails": {"input": {"safety": True}}}}, "ai_gateway.guardrails is not supported"),
        ({"telemetry_config": {"features": ["LOGS"]}}, "telemetry_config is not supported"),
        ({"email_notifications": {"on_update_failure": ["x"]}}, "Headrace sends no mail"),
        ({"route_optimized": True}, "route_optimized is not supported"),
        ({"budget_policy_id": "p"}, "budget_policy_id is not supported"),
        ({"headrace": {"overload": "shed"}}, "headrace.overload"),
        ({"headrace": {"queue_deadline_s": 1000}}, "queue_deadline_s is 1000"),
        ({"headrace": {"scaling": {"headroom": -1}}}, "scaling.headroom is -1"),
        ({"tags": [{"key": "k"}, {"key": "k"}]}, "stands twice"),
    ],
)
async def test_what_headrace_does_not_do_is_never_accepted_and_ignored(
    http: Http, request_body: dict[str, Any], said: str
) -> None:
    status, answer = await http.post(BASE, body() | request_body)
    assert status == 400
    assert said in answer["message"]
    assert (await http.get(BASE))[1] == {"endpoints": []}


async def test_a_feature_that_is_sent_switched_off_is_not_asked_for(http: Http) -> None:
    off = {"route_optimized": False, "rate_limits": [], "ai_gateway": None, "budget_policy_id": None}
    sent = body(burst_scaling_enabled=False, environment_vars={}, entity_version=1) | off
    assert (await http.post(BASE + "/", sent))[0] == 200
    assert len((await http.get(BASE + "/"))[1]["endpoints"]) == 1


async def test_unknown_models_and_versions_are_answered_with_the_known_ones(http: Http) -> None:
    status, answer = await http.post(BASE, body(entity_name="llama"))
    assert (status, answer["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert "toy" in answer["message"]
    status, answer = await http.post(BASE, body(entity_version="7"))
    assert (status, answer["message"]) == (404, "model 'toy' has version 1, not 7")


async def test_a_model_that_was_never_measured_has_no_chunk_to_sell(http: Http) -> None:
    (http.world.data.profiles / "toy.json").unlink()
    status, answer = await http.post(BASE, body())
    assert status == 400
    assert "headrace profile toy" in answer["message"]
    info = (await http.get(f"{BASE}/get-model-optimization-info/toy/1"))[1]
    assert info["optimizable"] is False
    assert "headrace profile toy" in info["message"]


@pytest.mark.parametrize("content", [None, b"this is no GGUF file"])
async def test_a_model_file_that_is_missing_or_corrupt_is_a_clear_refusal(
    http: Http, tmp_path: Path, content: bytes | None
) -> None:
    weights = tmp_path / "weights.gguf"
    if content is not None:
        weights.write_bytes(content)
    settings = http.world.controller.offers.model("toy")
    broken = msgspec.structs.replace(settings, engine="llamacpp", path=str(weights), engine_args={})
    (http.world.data.models / "toy.json").write_bytes(msgspec.json.encode(broken))
    profile = http.world.data.profiles / "toy.json"
    save(profile, msgspec.structs.replace(load(profile), engine="llamacpp"))
    status, answer = await http.post(BASE, body())
    assert (status, answer["param"]) == (400, "entity_name")
    assert "weights.gguf" in answer["message"]


async def test_minimums_must_fit_the_machine_together(http: Http) -> None:
    three = {"min_provisioned_throughput": 3000, "max_provisioned_throughput": 3000}
    assert (await http.post(BASE, body("a", **three)))[0] == 200
    status, answer = await http.post(BASE, body("b", min_provisioned_throughput=2000))
    assert status == 400
    assert "1 of 4 are free" in answer["message"]
    assert "at most 1000" in answer["message"]
    assert (await http.post(BASE, body("b")))[0] == 200
    await http.world.step()
    await http.world.step()
    status, answer = await http.put(f"{BASE}/a/config", body("a", **three)["config"])
    assert status == 200, "an update does not stand in its own way"


async def test_a_name_is_taken_once_and_free_again_after_a_delete(http: Http) -> None:
    assert (await http.post(BASE, body()))[0] == 200
    status, answer = await http.post(BASE, body())
    assert (status, answer["error_code"]) == (409, "RESOURCE_ALREADY_EXISTS")
    assert await http.delete(f"{BASE}/a") == (200, {})
    assert (await http.delete(f"{BASE}/a"))[0] == 404
    assert (await http.post(BASE, body()))[0] == 200


async def test_an_update_waits_for_the_one_before(http: Http) -> None:
    http.world.fleet.ready_at_once = False
    await http.post(BASE, body())
    status, answer = await http.put(f"{BASE}/a/config", body()["config"])
    assert (status, answer["error_code"]) == (409, "RESOURCE_CONFLICT")


async def test_the_legacy_twin_is_accepted_and_both_are_answered(http: Http) -> None:
    model = entity(entity_name=..., entity_version=...) | {"model_name": "toy", "model_version": "1", "name": "m"}
    status, answer = await http.post(BASE, {"name": "a", "config": {"served_models": [model]}})
    assert status == 200
    pending = answer["pending_config"]
    assert pending["served_models"][0]["model_name"] == pending["served_entities"][0]["entity_name"] == "toy"
    route = {"served_entity_name": "m", "served_model_name": "m", "traffic_percentage": 100}
    assert pending["traffic_config"]["routes"] == [route]
    assert (answer["state"]["ready"], answer["state"]["config_update"]) == ("NOT_READY", "IN_PROGRESS")


async def test_a_provisional_profile_is_sold_and_shown_as_such(http: Http) -> None:
    http.world.model(status="provisional")
    await http.post(BASE, body())
    assert (await http.get("/api/headrace/v1/endpoints/a"))[1]["profile_status"] == "provisional"
    info = (await http.get(f"{BASE}/get-model-optimization-info/toy/1"))[1]
    assert (info["optimizable"], info["throughput_chunk_size"], info["profile_status"]) == (True, CHUNK, "provisional")


async def test_a_config_keeps_what_it_was_sold_with_until_it_is_updated(http: Http) -> None:
    await http.post(BASE, body())
    await http.world.step()
    await http.world.step()
    http.world.model(chunk=500)
    shown = (await http.get("/api/headrace/v1/endpoints/a"))[1]
    assert (shown["chunk"], shown["config_version"]) == (CHUNK, 1)
    assert (await http.put(f"{BASE}/a/config", body()["config"]))[0] == 200
    await http.world.step()
    await http.world.step()
    shown = (await http.get("/api/headrace/v1/endpoints/a"))[1]
    assert (shown["chunk"], shown["min_chunks"], shown["max_chunks"], shown["config_version"]) == (500, 2, 4, 2)


async def test_tags_are_added_and_deleted(http: Http) -> None:
    await http.post(BASE, body() | {"tags": [{"key": "team", "value": "a"}, {"key": "old"}]})
    status, answer = await http.patch(
        f"{BASE}/a/tags", {"add_tags": [{"key": "team", "value": "b"}], "delete_tags": ["old"]}
    )
    assert (status, answer) == (200, {"tags": [{"key": "team", "value": "b"}]})


@pytest.mark.parametrize("path", ["/api/headrace/v1/status", "/api/headrace/v1/keys", "/api/headrace/v1/usage"])
async def test_every_path_of_the_whole_server_asks_for_an_admin_key(http: Http, path: str) -> None:
    assert (await http.get(path, key=""))[0] == 401
    assert (await http.get(path, key="hr-00000000.wrong"))[0] == 401
    _, query = http.world.controller.keys.create(role="query", tiers=ALL_TIERS, name="", now_ms=1)
    status, answer = await http.get(path, key=query)
    assert (status, answer["error_code"]) == (403, "PERMISSION_DENIED")
    assert query not in json.dumps(answer)


async def test_a_create_asks_for_an_admin_key(http: Http) -> None:
    assert (await http.call("POST", BASE, body(), key=""))[0] == 401
    _, query = http.world.controller.keys.create(role="query", tiers=ALL_TIERS, name="", now_ms=1)
    status, answer = await http.call("POST", BASE, body(), key=query)
    assert (status, answer["error_code"]) == (403, "PERMISSION_DENIED")


async def test_what_a_caller_may_do_is_told_with_the_endpoint(http: Http) -> None:
    made = (await http.post(BASE, body()))[1]
    assert (made["permission_level"], made["creator_kind"]) == ("CAN_MANAGE", "User")
    assert made["creator"] == made["creator_display_name"] == http.world.controller.keys.find(http.key).principal
    _, query = http.world.controller.keys.create(role="query", tiers=ALL_TIERS, name="", now_ms=1)
    (seen,) = (await http.get(BASE, key=query))[1]["endpoints"]
    assert seen["permission_level"] == "CAN_QUERY"


async def test_the_price_of_a_range_is_told_with_each_entity(http: Http) -> None:
    pending = (await http.post(BASE, body()))[1]["pending_config"]
    for twin in (*pending["served_entities"], *pending["served_models"]):
        assert (twin["min_dbus"], twin["max_dbus"]) == (3.6, 7.2)


async def test_the_host_metadata_needs_no_key(http: Http) -> None:
    status, answer = await http.get("/.well-known/databricks-config", key="")
    assert status == 200
    assert answer["oidc_endpoint"] == http.url + "/oidc"


async def test_a_revocation_is_done_when_every_gateway_has_acknowledged_it(http: Http) -> None:
    controller = http.world.controller
    status, made = await http.post("/api/headrace/v1/keys", {"name": "app"})
    assert (status, made["role"], made["tiers"]) == (200, "query", ["default", "flex"])
    assert made["key"].startswith(f"hr-{made['id']}.")
    assert made["key"] not in json.dumps((await http.get("/api/headrace/v1/keys"))[1])

    controller.gateways.hello(Hello(gateway="g1", pid=1))
    revoking = asyncio.create_task(http.delete(f"/api/headrace/v1/keys/{made['id']}"))
    async with asyncio.timeout(10), controller.link._changed:
        await controller.link._changed.wait_for(lambda: made["id"] not in {key.id for key in http.world.snapshot.keys})
    assert not revoking.done()
    await controller.link._take("g1", Ack(version=http.world.snapshot.version))
    status, answer = await revoking
    assert (status, answer["acknowledged"], answer["waiting_for"]) == (200, True, [])
    assert answer["revoked_ms"] is not None


async def test_the_last_admin_key_cannot_be_revoked(http: Http) -> None:
    only = http.world.controller.keys.find(http.key)
    assert only is not None
    status, answer = await http.delete(f"/api/headrace/v1/keys/{only.id}")
    assert (status, answer["param"]) == (400, "id")
    assert (await http.delete("/api/headrace/v1/keys/00000000"))[0] == 404


@pytest.mark.parametrize(("key", "code"), [("", "missing_api_key"), ("hr-00000000.none", "invalid_api_key")])
@pytest.mark.parametrize("path", ["/metrics", BASE, "/api/headrace/v1/status"])
async def test_a_call_without_a_key_that_holds_is_answered_as_by_a_gateway(
    http: Http, path: str, key: str, code: str
) -> None:
    status, answer = await http.get(path, key=key)
    assert (status, answer["error_code"], answer["type"]) == (401, "UNAUTHENTICATED", "authentication_error")
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code, "domain": "headrace", "metadata": {}}
    assert (answer["code"], answer["details"]) == (code, [info])


async def test_what_is_not_there_is_answered_in_the_same_form(http: Http) -> None:
    for method, path, status in (("GET", "/api/nothing", 404), ("PUT", "/api/headrace/v1/status", 405)):
        got, answer = await http.call(method, path)
        assert got == status
        assert set(answer) == {"error_code", "message", "type", "code", "param", "details"}
    assert (await http.get(f"{BASE}/nobody"))[1]["message"] == "no endpoint 'nobody'; there are: none"


@pytest.mark.parametrize(
    ("raw", "said"),
    [(b'{"name": ', "not JSON"), (b"[]", "no JSON object"), (b'"a"', "no JSON object"), (b"\xff", "body")],
)
async def test_a_body_that_is_no_json_object_is_said_to_be(http: Http, raw: bytes, said: str) -> None:
    status, answer = await http.call("POST", BASE, raw=raw)
    assert status == 400
    assert said in answer["message"]


@pytest.mark.parametrize("field", ["name", "description", "half \ud800 a name"])
async def test_text_that_cannot_be_stored_or_sent_is_refused(http: Http, field: str) -> None:
    """Halves of characters and zero characters, which JSON can carry."""
    for text in ("\ud800", "a\x00b"):
        status, answer = await http.post(BASE, body() | {field: text})
        assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(("path", "allowed"), [("", {"GET", "POST"}), ("/a", {"GET", "DELETE"}), ("/pt", {"POST"})])
async def test_a_method_that_a_path_does_not_have_is_answered_with_those_it_has(
    http: Http, path: str, allowed: set[str]
) -> None:
    answer = await http.client.put(http.url + BASE + path, headers={"Authorization": f"Bearer {http.key}"})
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed


async def test_the_status_tells_what_is_wrong(http: Http) -> None:
    await http.post(BASE, body())
    http.world.fleet.ready_at_once = False
    await http.world.step()
    http.world.fleet.crash()
    await http.world.step(1)
    status, answer = await http.get("/api/headrace/v1/status")
    assert status == 200
    assert "no gateway is connected: nothing is served" in answer["problems"]
    assert any("ended by SIGKILL" in problem for problem in answer["problems"])
    assert answer["endpoints"][0]["last_failure"]["log_tail"] == "the last words"


async def test_events_are_paged_in_order(http: Http) -> None:
    await http.post(BASE, body())
    await http.world.step()
    events = (await http.get("/api/headrace/v1/events?endpoint=a"))[1]["events"]
    assert [event["kind"] for event in events][:2] == ["endpoint_created", "scaled"]
    newest = (await http.get("/api/headrace/v1/events?limit=1"))[1]["events"]
    assert newest == events[-1:]
    after = (await http.get(f"/api/headrace/v1/events?after={events[0]['id']}&limit=1"))[1]["events"]
    assert after == events[1:2]
    assert (await http.get("/api/headrace/v1/events?limit=0"))[0] == 400


async def test_models_are_listed_with_what_is_known_of_them(http: Http) -> None:
    http.world.model("raw")
    (http.world.data.profiles / "raw.json").unlink()
    listed = {model["name"]: model for model in (await http.get("/api/headrace/v1/models"))[1]["models"]}
    assert listed["toy"]["chunk"] == CHUNK
    assert "headrace profile raw" in listed["raw"]["problem"]
    assert (await http.get("/api/headrace/v1/models/toy/profile"))[1]["chunk"] == CHUNK


async def test_the_bill_shows_what_it_was_made_from(http: Http) -> None:
    await http.post(BASE, body())
    await http.world.step()
    await http.world.step()
    http.world.clock.ms += 90_000
    status, answer = await http.get("/api/headrace/v1/bill?endpoint=a")
    assert status == 200
    one = answer["bills"][0]
    spans = [span for line in one["lines"] for span in line["spans"]]
    assert sum(span["chunks"] * (span["to_ms"] - span["from_ms"]) for span in spans) == one["chunk_ms"] == 90_000
    assert (one["amount_micro"], one["amount"], answer["total"]) == (90_000, "0.090000", "0.090000")
    assert (await http.get("/api/headrace/v1/bill?endpoint=nobody"))[0] == 404
    assert (await http.get("/api/headrace/v1/bill?from_ms=5&to_ms=4"))[0] == 400


async def test_the_openapi_document_names_every_path(http: Http) -> None:
    status, document = await http.get("/api/headrace/v1/openapi.json", key="")
    assert status == 200
    assert {BASE, "/api/headrace/v1/usage", "/api/headrace/v1/bill"} <= set(document["paths"])


async def test_no_file_outside_the_page_is_served(http: Http) -> None:
    for path in ("/static/..%2f__init__.py", "/static/.hidden.js", "/static/nothing.js"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            await asyncio.to_thread(urllib.request.urlopen, http.url + path, None, 10)


@pytest.mark.parametrize(
    "path", ["usage?to_ms=", "usage?from_ms=", "bill?to_ms=", "bill?from_ms=", "events?after=", "events?before="]
)
@pytest.mark.parametrize("number", [-1, 10**30])
async def test_times_and_ids_that_no_record_can_have_are_refused(http: Http, path: str, number: int) -> None:
    status, body = await http.get(f"/api/headrace/v1/{path}{number}")
    assert (status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
