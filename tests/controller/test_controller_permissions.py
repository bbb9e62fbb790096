"""What callers may do with endpoints, over HTTP: at the control plane, and as gateways are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from controller_http import Http, served_over_http
from controller_world import CHUNK, World

BASE = "/api/2.0/serving-endpoints"
PERMISSIONS = "/api/2.0/permissions/serving-endpoints"


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[Http]:
    """With the endpoint ``a``, and keys of ann and bob."""
    world = World(tmp_path / "data", places=4)
    world.model()
    world.fleet.ready_at_once = True
    async with served_over_http(world) as http:
        assert (await http.post(BASE, body()))[0] == 200
        yield http


def body(name: str = "a") -> dict[str, Any]:
    entity = {
        "entity_name": "toy",
        "entity_version": "1",
        "min_provisioned_throughput": CHUNK,
        "max_provisioned_throughput": CHUNK,
    }
    return {"name": name, "config": {"served_entities": [entity]}}


async def key_of(http: Http, user: str) -> str:
    return str((await http.post("/api/headrace/v1/keys", {"user": user}))[1]["key"])


def entry(level: str, **principal: str) -> dict[str, str]:
    return {**principal, "permission_level": level}


def path_of(http: Http, name: str = "a") -> str:
    return f"{PERMISSIONS}/{http.world.get(name).id}"


async def give(http: Http, *entries: dict[str, str], method: str = "PUT") -> dict[str, str]:
    """The levels by principal that it then has, without what is inherited."""
    status, answer = await http.call(method, path_of(http), {"access_control_list": list(entries)})
    assert status == 200, answer
    return levels(answer)


def levels(answer: dict[str, Any]) -> dict[str, str]:
    found = {}
    for one in answer["access_control_list"]:
        name = one.get("user_name") or one.get("service_principal_name") or one["group_name"]
        (permission,) = one["all_permissions"]
        if not permission["inherited"]:
            found[name] = permission["permission_level"]
    return found


def queriers(http: Http, name: str = "a") -> tuple[str, ...] | None:
    (view,) = [one for one in http.world.snapshot.endpoints if one.name == name]
    return view.queriers


async def test_a_new_endpoint_is_managed_by_who_made_it_and_queried_by_everybody(http: Http) -> None:
    status, answer = await http.get(path_of(http))
    assert (status, answer["object_type"]) == (200, "serving-endpoint")
    assert answer["object_id"] == f"/serving-endpoints/{http.world.get('a').id}"
    creator = http.world.controller.keys.find(http.key)
    assert creator is not None
    assert levels(answer) == {creator.principal: "CAN_MANAGE", "users": "CAN_QUERY"}
    admins = answer["access_control_list"][-1]
    assert admins["group_name"] == "admins"
    assert admins["all_permissions"] == [
        {
            "permission_level": "CAN_MANAGE",
            "inherited": True,
            "inherited_from_object": ["/serving-endpoints/"],
        }
    ]
    await http.world.step()
    assert queriers(http) is None


async def test_each_level_allows_what_it_says_and_what_those_below_it_do(http: Http) -> None:
    ann = await key_of(http, "ann")
    calls = {
        "view": ("GET", f"{BASE}/a", None),
        "tag": ("PATCH", f"{BASE}/a/tags", {"add_tags": [{"key": "k", "value": "v"}]}),
        "config": ("PUT", f"{BASE}/a/config", body()["config"]),
        "permissions": ("GET", path_of(http), None),
    }
    allowed = {}
    for level in (None, "CAN_VIEW", "CAN_QUERY", "CAN_MANAGE"):
        await give(http, *([entry(level, user_name="ann")] if level else []))
        answers = {name: await http.call(*call, key=ann) for name, call in calls.items()}
        assert all(status in (200, 403) for status, _ in answers.values()), answers
        allowed[level] = {name for name, (status, _) in answers.items() if status == 200}
        listed = (await http.get(BASE, key=ann))[1]["endpoints"]
        assert [one["permission_level"] for one in listed] == ([level] if level else [])
        await http.world.step(1)
    assert allowed == {None: set(), "CAN_VIEW": {"view"}, "CAN_QUERY": {"view"}, "CAN_MANAGE": set(calls)}
    assert (await http.call("DELETE", f"{BASE}/a", key=ann))[0] == 200


async def test_what_is_missing_is_said(http: Http) -> None:
    ann = await key_of(http, "ann")
    status, answer = await http.call("DELETE", f"{BASE}/a", key=ann)
    assert (status, answer["error_code"]) == (403, "PERMISSION_DENIED")
    assert "user 'ann' may not do this with endpoint 'a'" in answer["message"]
    assert "needs the permission CAN_MANAGE on it, and has CAN_QUERY" in answer["message"]


async def test_only_admins_create_endpoints(http: Http) -> None:
    ann = await key_of(http, "ann")
    await give(http, entry("CAN_MANAGE", user_name="ann"))
    assert (await http.call("POST", BASE, body("b"), key=ann))[0] == 403


async def test_names_of_endpoints_that_may_not_be_seen_are_not_told(http: Http) -> None:
    ann = await key_of(http, "ann")
    await give(http)
    status, answer = await http.get(f"{BASE}/nobody", key=ann)
    assert (status, answer["message"]) == (404, "no endpoint 'nobody'; there are: none")


async def test_gateways_are_told_who_may_query(http: Http) -> None:
    await key_of(http, "ann")
    await key_of(http, "bob")
    job = (await http.post("/api/headrace/v1/service-principals", {"name": "job"}))[1]["client_id"]
    await give(
        http,
        entry("CAN_QUERY", user_name="ann"),
        entry("CAN_VIEW", user_name="bob"),
        entry("CAN_MANAGE", service_principal_name="job"),
    )
    assert queriers(http) == (f"service_principal:{job}", "user:ann")
    await give(http, entry("CAN_VIEW", group_name="users"), method="PATCH")
    assert queriers(http) == (f"service_principal:{job}", "user:ann")
    await give(http, entry("CAN_QUERY", group_name="users"), method="PATCH")
    assert queriers(http) is None


async def test_an_update_leaves_the_others_and_a_replacement_does_not(http: Http) -> None:
    await key_of(http, "ann")
    await key_of(http, "bob")
    assert await give(http, entry("CAN_VIEW", user_name="ann"), entry("CAN_QUERY", user_name="ann")) == {
        "ann": "CAN_QUERY"
    }
    assert await give(http, entry("CAN_VIEW", user_name="bob"), method="PATCH") == {
        "ann": "CAN_QUERY",
        "bob": "CAN_VIEW",
    }
    assert await give(http, entry("CAN_VIEW", user_name="ann"), method="PATCH") == {
        "ann": "CAN_VIEW",
        "bob": "CAN_VIEW",
    }
    assert await give(http) == {}
    assert queriers(http) == ()


async def test_permissions_survive_a_restart_and_end_with_the_endpoint(http: Http) -> None:
    await key_of(http, "ann")
    await give(http, entry("CAN_QUERY", user_name="ann"))
    http.world.restart()
    await http.world.step()
    endpoint = http.world.get("a")
    access = http.world.controller.access
    assert {str(one): level.name for one, level in access.levels(endpoint).items()} == {"user:ann": "CAN_QUERY"}
    assert queriers(http) == ("user:ann",)
    http.world.controller.endpoints.delete("a")
    http.world.restart()
    assert http.world.controller.access._permissions.of(endpoint.id) is None


async def test_a_new_endpoint_of_an_old_name_has_its_own_permissions(http: Http) -> None:
    await give(http)
    old = path_of(http)
    await http.delete(f"{BASE}/a")
    await http.world.step()
    assert (await http.post(BASE, body()))[0] == 200
    assert levels((await http.get(path_of(http)))[1])["users"] == "CAN_QUERY"
    assert (await http.get(old))[0] == 404


async def test_a_deleted_service_principal_leaves_the_lists(http: Http) -> None:
    job = (await http.post("/api/headrace/v1/service-principals", {"name": "job"}))[1]["client_id"]
    assert await give(http, entry("CAN_QUERY", service_principal_name=job)) == {job: "CAN_QUERY"}
    await http.delete(f"/api/headrace/v1/service-principals/{job}")
    assert levels((await http.get(path_of(http)))[1]) == {}
    assert queriers(http) == ()


CANNOT_BE_GIVEN = [
    (entry("CAN_QUERY", group_name="engineers"), 400, "there is no group 'engineers'; there are users"),
    (entry("CAN_VIEW", group_name="admins"), 400, "'admins' may manage every endpoint"),
    (entry("CAN_QUERY", user_name="nobody"), 404, "there is no user 'nobody'"),
    (entry("CAN_QUERY", service_principal_name="nobody"), 404, "no service principal 'nobody'"),
    (entry("CAN_QUERY"), 400, "names one of user_name"),
    (entry("CAN_QUERY", user_name="ann", group_name="users"), 400, "this one: user_name, group_name"),
    (entry("IS_OWNER", group_name="users"), 400, "permission_level"),
    ({"group_name": "users"}, 400, "permission_level is missing"),
    ({**entry("CAN_QUERY", group_name="users"), "more": "x"}, 400, "more is not supported"),
]


async def test_what_cannot_be_given_is_refused_and_nothing_of_it_holds(http: Http) -> None:
    before = (await http.get(path_of(http)))[1]
    ok = entry("CAN_MANAGE", group_name="users")
    for given, status, said in CANNOT_BE_GIVEN:
        for method in ("PUT", "PATCH"):
            got, answer = await http.call(method, path_of(http), {"access_control_list": [ok, given]})
            assert (got, said in answer["message"]) == (status, True), answer
    assert (await http.get(path_of(http)))[1] == before


async def test_that_admins_manage_may_be_said(http: Http) -> None:
    assert await give(http, entry("CAN_MANAGE", group_name="admins")) == {}


async def test_levels_are_told_and_a_name_in_place_of_an_id_is_explained(http: Http) -> None:
    status, answer = await http.get(f"{path_of(http)}/permissionLevels")
    assert status == 200
    assert [one["permission_level"] for one in answer["permission_levels"]] == ["CAN_VIEW", "CAN_QUERY", "CAN_MANAGE"]
    status, answer = await http.get(f"{PERMISSIONS}/a")
    assert (status, answer["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert "not by its name" in answer["message"]


async def test_a_change_is_an_event_that_says_who_made_it(http: Http) -> None:
    await give(http, entry("CAN_VIEW", group_name="users"))
    (event,) = [one for one in http.world.controller.events.list() if one.kind == "permissions_changed"]
    assert event.endpoint == "a"
    said = "the permissions of endpoint a were set: group 'users' CAN_VIEW (by key 'first admin key')"
    assert event.message == said


async def test_who_may_view_an_endpoint_reads_its_state_and_its_events(http: Http) -> None:
    ann = await key_of(http, "ann")
    assert (await http.delete(f"{BASE}/a"))[0] == 200
    for name in ("a", "b"):
        assert (await http.post(BASE, body(name)))[0] == 200
    await give(http, entry("CAN_VIEW", user_name="ann"))
    closed = http.world.get("b").id
    assert (await http.put(f"{PERMISSIONS}/{closed}", {"access_control_list": []}))[0] == 200
    own = "/api/headrace/v1"
    listed = (await http.get(f"{own}/endpoints", key=ann))[1]["endpoints"]
    assert [one["name"] for one in listed] == ["a"]
    events = (await http.get(f"{own}/events?endpoint=a&kind=endpoint_created&kind=endpoint_deleted", key=ann))[1][
        "events"
    ]
    assert [event["kind"] for event in events] == ["endpoint_created"], "not those of the endpoint before it"
    for path in ("endpoints/{}", "events?endpoint={}", "series?endpoint={}"):
        assert (await http.get(f"{own}/{path.format('a')}", key=ann))[0] == 200
        assert (await http.get(f"{own}/{path.format('b')}", key=ann))[0] == 403
    for path in ("events", "events?endpoint=gone", "status"):
        assert (await http.get(f"{own}/{path}", key=ann))[0] == 403
