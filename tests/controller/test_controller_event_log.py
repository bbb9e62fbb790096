"""Events over HTTP: who had what done, with the values, and which kinds there are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from controller_http import Http, served_over_http
from controller_world import CHUNK, World

from headrace.controller.events import KINDS

BASE = "/api/2.0/serving-endpoints"
EVENTS = "/api/headrace/v1/events"


def config(chunks: int) -> dict[str, Any]:
    size = {"min_provisioned_throughput": CHUNK, "max_provisioned_throughput": chunks * CHUNK}
    return {"served_entities": [{"entity_name": "toy", **size}]}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[Http]:
    """With the endpoint ``a``."""
    world = World(tmp_path / "data", places=4)
    world.model()
    world.fleet.ready_at_once = True
    async with served_over_http(world) as http:
        assert (await http.post(BASE, {"name": "a", "config": config(1)}))[0] == 200
        await world.step()
        await world.step()
        yield http


async def told(http: Http, kind: str) -> dict[str, Any]:
    """The newest event of a kind."""
    event: dict[str, Any] = (await http.get(f"{EVENTS}?endpoint=a&kind={kind}&limit=1"))[1]["events"][0]
    return event


async def test_a_change_of_rate_limits_tells_who_and_which(http: Http) -> None:
    limits = [{"key": "user", "calls": 5, "tokens": 900}, {"key": "user", "principal": "ann", "calls": 1}]
    assert (await http.put(f"{BASE}/a/ai-gateway", {"rate_limits": limits}))[0] == 200
    event = await told(http, "options_changed")
    assert event["message"] == (
        "options of a were changed: rate_limits none -> each user 5 calls, 900 tokens a minute and "
        "user 'ann' 1 call a minute (by key 'first admin key')"
    )
    changed = event["data"]["changed"]["rate_limits"]
    assert (changed["from"], [limit["calls"] for limit in changed["to"]]) == ([], [5, 1])
    key_id = http.key.removeprefix("hr-").partition(".")[0]
    assert event["data"]["by"] == {"principal": f"user:{key_id}", "key": key_id}


async def test_who_made_changed_and_deleted_an_endpoint_is_told_by_name(http: Http) -> None:
    made = (await http.post("/api/headrace/v1/keys", {"user": "ann", "role": "admin"}))[1]
    ann: str = made["key"]
    assert (await http.call("PUT", f"{BASE}/a/config", config(2), key=ann))[0] == 200
    assert (await http.call("DELETE", f"{BASE}/a", key=ann))[0] == 200
    assert (await told(http, "endpoint_created"))["message"].endswith(" (by key 'first admin key')")
    for kind in ("config_proposed", "endpoint_deleted"):
        event = await told(http, kind)
        assert event["message"].endswith(" (by user 'ann')")
        assert event["data"]["by"] == {"principal": "user:ann", "key": made["id"]}
    assert "by" not in (await told(http, "config_active"))["data"]


async def test_a_service_principal_is_told_by_its_name(http: Http) -> None:
    made = (await http.post("/api/headrace/v1/service-principals", {"name": "nightly"}))[1]
    of = {"service_principal_name": made["client_id"], "permission_level": "CAN_MANAGE"}
    body = {"access_control_list": [of]}
    endpoint = http.world.get("a")
    assert (await http.patch(f"/api/2.0/permissions/serving-endpoints/{endpoint.id}", body))[0] == 200
    assert "service principal 'nightly' CAN_MANAGE" in (await told(http, "permissions_changed"))["message"]


async def test_a_kind_that_there_is_not_is_refused_with_those_that_there_are(http: Http) -> None:
    status, error = await http.get(f"{EVENTS}?kind=scaled&kind=scalled")
    assert (status, error["param"]) == (400, "kind")
    assert error["message"] == f"'scalled' is no kind of event; there are: {', '.join(sorted(KINDS))}"


async def test_a_controller_that_starts_tells_how_many_replicas_it_adopted(tmp_path: Path) -> None:
    world = World(tmp_path / "data")
    world.model()
    await world.served("a", 2, 2)
    world.restart()
    controller = world.controller
    await controller.start()
    try:
        (event,) = controller.events.list(kinds=["controller_started"])
    finally:
        await controller.close()
    assert (event.endpoint, event.data) == (None, {"adopted": 2})
    assert event.message == "the controller started, and adopted 2 replicas that ran"
