"""Service principals over HTTP: their secrets, their access tokens, and OAuth's own errors."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from controller_http import Http

from headrace.controller.controller import Controller
from headrace.controller.keys import digest
from headrace.controller.service_principals import MOST_TOKENS, TOKEN_LIFE_S, TOLD_FOR_S
from headrace.controller.words import utc
from headrace.gateway.snapshot import Ack, Hello

PRINCIPALS = "/api/headrace/v1/service-principals"
TOKEN = "/oidc/v1/token"
ENDPOINTS = "/api/2.0/serving-endpoints"


async def make(http: Http, name: str = "job", **members: Any) -> dict[str, Any]:
    status, made = await http.post(PRINCIPALS, {"name": name, **members})
    assert status == 200, made
    return dict(made)


async def ask(http: Http, made: dict[str, Any] | None = None, **form: str) -> httpx.Response:
    """For a token: by HTTP Basic where a principal is given."""
    basic = httpx.BasicAuth(made["client_id"], made["client_secret"]) if made else httpx.USE_CLIENT_DEFAULT
    given = {"grant_type": "client_credentials", "scope": "all-apis", **form}
    return await http.client.post(http.url + TOKEN, data={k: v for k, v in given.items() if v}, auth=basic)


async def token_of(http: Http, made: dict[str, Any]) -> str:
    answer = await ask(http, made)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


async def test_the_discovery_documents_need_no_key(http: Http) -> None:
    status, config = await http.get("/.well-known/databricks-config", key="")
    assert (status, config["oidc_endpoint"]) == (200, f"{http.url}/oidc")
    status, server = await http.get("/oidc/.well-known/oauth-authorization-server", key="")
    assert (status, server["token_endpoint"]) == (200, http.url + TOKEN)
    assert server["grant_types_supported"] == ["client_credentials"]
    forwarded = await http.client.get(
        http.url + "/oidc/.well-known/oauth-authorization-server",
        headers={"Host": "headrace.example", "X-Forwarded-Proto": "https"},
    )
    assert forwarded.json()["token_endpoint"] == "https://headrace.example/oidc/v1/token"


@pytest.mark.parametrize("by", ["header", "form"])
async def test_client_id_and_secret_are_changed_for_a_token_that_is_a_key_for_an_hour(http: Http, by: str) -> None:
    made = await make(http, role="admin")
    if by == "header":
        answer = await ask(http, made)
    else:
        answer = await ask(http, client_id=made["client_id"], client_secret=made["client_secret"])
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", TOKEN_LIFE_S, "all-apis")
    token = body["access_token"]
    assert (await http.get(ENDPOINTS, key=token))[0] == 200
    (view,) = [key for key in http.world.snapshot.keys if key.principal_kind == "service_principal"]
    assert (view.id, view.principal) == (made["client_id"], made["client_id"])
    assert view.expires_ms == http.world.clock.ms + TOKEN_LIFE_S * 1000

    http.world.clock.ms += TOKEN_LIFE_S * 1000 - 1
    assert (await http.get(ENDPOINTS, key=token))[0] == 200
    http.world.clock.ms += 1
    status, refused = await http.get(ENDPOINTS, key=token)
    assert (status, refused["error_code"], refused["code"]) == (401, "UNAUTHENTICATED", "token_expired")


async def test_who_sends_a_token_that_has_expired_is_told_when_and_nobody_else_is_told_anything(http: Http) -> None:
    made = await make(http, role="admin")
    token = await token_of(http, made)
    forged = token[:-1] + ("b" if token.endswith("a") else "a")
    nobody = (await http.get(ENDPOINTS, key=forged))[1]
    http.world.clock.ms += TOKEN_LIFE_S * 1000
    expired = utc(http.world.clock.ms)
    http.world.clock.ms += 5_000
    status, told = await http.get(ENDPOINTS, key=token)
    assert (status, told["message"]) == (401, f"this token expired at {expired}; ask for another at /oidc/v1/token")
    assert token not in json.dumps(told)
    await http.world.step()
    (view,) = [key for key in http.world.snapshot.keys if key.expires_ms is not None]
    assert view.digest == digest(token), "gateways tell it, too"
    assert nobody["code"] == "invalid_api_key"
    assert await http.get(ENDPOINTS, key=forged) == (401, nobody)

    http.world.clock.ms += TOLD_FOR_S * 1000
    await http.world.step()
    assert all(key.expires_ms is None for key in http.world.snapshot.keys), "they forget it"
    await token_of(http, made)
    assert (await http.get(ENDPOINTS, key=token)) == (401, nobody)


ASKED_WRONGLY: list[tuple[dict[str, str], str, str]] = [
    ({"grant_type": ""}, "invalid_request", "grant_type is missing"),
    ({"grant_type": "password"}, "unsupported_grant_type", "expected client_credentials"),
    ({"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}, "unsupported_grant_type", "expected client"),
    ({"scope": "sql"}, "invalid_scope", "expected all-apis"),
    ({"scope": "all-apis offline_access"}, "invalid_scope", "expected all-apis"),
    ({"assume_group": "17"}, "invalid_request", "assume_group is not supported"),
    ({"client_secret": "twice"}, "invalid_request", "came twice"),
    ({"client_id": "another"}, "invalid_request", "name different clients"),
]


async def test_what_is_asked_wrongly_is_answered_in_the_form_of_oauth(http: Http) -> None:
    made = await make(http)
    for form, error, said in ASKED_WRONGLY:
        answer = await ask(http, made, **form)
        assert (answer.status_code, answer.json()["error"]) == (400, error), form
        assert said in answer.json()["error_description"]
        assert answer.json().keys() == {"error", "error_description"}
        assert made["client_secret"] not in answer.text
    assert http.world.controller.access.service_principals.keys(http.world.clock.ms) == []


async def test_a_wrong_client_is_refused_and_not_told_which_half_is_wrong(http: Http) -> None:
    made, other = await make(http), await make(http, "other")
    gone = await make(http, "gone")
    await http.delete(f"{PRINCIPALS}/{gone['client_id']}")
    told = []
    for client_id, secret in (
        (made["client_id"], other["client_secret"]),
        (made["client_id"], ""),
        ("nobody", made["client_secret"]),
        (gone["client_id"], gone["client_secret"]),
        (made["name"], made["client_secret"]),
    ):
        answer = await ask(http, {"client_id": client_id, "client_secret": secret})
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
        assert answer.headers["www-authenticate"].startswith("Basic ")
        told.append(answer.json())
    assert all(one == told[0] for one in told)


BODIES: list[tuple[str | None, bytes, int, str]] = [
    (None, b"grant_type=client_credentials", 401, "invalid_client"),
    ("Bearer x", b"grant_type=client_credentials", 401, "invalid_client"),
    ("Basic ===", b"grant_type=client_credentials", 401, "invalid_client"),
    ("Basic " + base64.b64encode(b"no colon").decode(), b"grant_type=client_credentials", 401, "invalid_client"),
    (None, b"", 401, "invalid_client"),
    (None, b"grant_type", 400, "invalid_request"),
    (None, b"\xff=1", 400, "invalid_request"),
    (None, b"a=1&a=2", 400, "invalid_request"),
    (None, b"&".join(b"f%d=1" % n for n in range(30)), 400, "invalid_request"),
]


async def test_no_body_brings_it_to_fall(http: Http) -> None:
    for authorization, body, status, error in BODIES:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if authorization is not None:
            headers["Authorization"] = authorization
        answer = await http.client.post(http.url + TOKEN, content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (status, error), (authorization, body)


async def test_a_token_is_told_when_every_gateway_takes_it(http: Http) -> None:
    made = await make(http)
    controller = http.world.controller
    controller.gateways.hello(Hello(gateway="g1", pid=1))
    asking = asyncio.create_task(ask(http, made))
    await _published(controller, lambda: any(key.expires_ms for key in http.world.snapshot.keys))
    assert not asking.done()
    await controller.link._take("g1", Ack(version=http.world.snapshot.version))
    assert (await asking).status_code == 200


async def test_a_new_token_leaves_those_before_it_at_gateways(http: Http) -> None:
    made = await make(http)
    tokens = [await token_of(http, made) for _ in range(3)]
    told = [key.digest for key in http.world.snapshot.keys if key.principal == made["client_id"]]
    assert sorted(told) == sorted(digest(token) for token in tokens)


async def test_deleting_a_service_principal_ends_its_tokens_and_keys_at_every_gateway(http: Http) -> None:
    made = await make(http, role="admin")
    token = await token_of(http, made)
    status, key = await http.post("/api/headrace/v1/keys", {"service_principal": "job", "role": "admin"})
    assert (status, key["principal"], key["principal_kind"]) == (200, made["client_id"], "service_principal")
    assert {(await http.get(ENDPOINTS, key=one))[0] for one in (token, key["key"])} == {200}

    controller = http.world.controller
    controller.gateways.hello(Hello(gateway="g1", pid=1))
    deleting = asyncio.create_task(http.delete(f"{PRINCIPALS}/{made['client_id']}"))
    await _published(controller, lambda: all(key.principal_kind == "user" for key in http.world.snapshot.keys))
    assert not deleting.done()
    await controller.link._take("g1", Ack(version=http.world.snapshot.version))
    status, answer = await deleting
    assert (status, answer["acknowledged"], answer["waiting_for"]) == (200, True, [])
    assert {(await http.get(ENDPOINTS, key=one))[0] for one in (token, key["key"])} == {401}
    assert (await http.get(PRINCIPALS))[1] == {"service_principals": []}
    assert (await http.delete(f"{PRINCIPALS}/{made['client_id']}"))[0] == 404
    assert (await make(http))["client_id"] != made["client_id"], "the name is free again"


@pytest.mark.parametrize("end_tokens", [False, True])
async def test_a_new_secret_takes_the_place_of_the_old_one_at_once(http: Http, end_tokens: bool) -> None:
    made = await make(http)
    token = await token_of(http, made)
    status, renewed = await http.post(f"{PRINCIPALS}/{made['client_id']}/secret", {"end_tokens": end_tokens})
    assert (status, renewed["client_id"], renewed["acknowledged"]) == (200, made["client_id"], True)
    assert renewed["client_secret"] not in ("", made["client_secret"])
    assert (await ask(http, made)).status_code == 401
    assert (await http.get(ENDPOINTS, key=token))[0] == (401 if end_tokens else 200)
    assert any(key.digest == digest(token) for key in http.world.snapshot.keys) is not end_tokens
    http.world.restart()
    principals = http.world.controller.access.service_principals
    assert principals.authenticate(made["client_id"], made["client_secret"]) is None
    assert principals.authenticate(made["client_id"], renewed["client_secret"]) is not None
    assert (principals.key_of(token, http.world.clock.ms) is None) is end_tokens


async def test_only_a_service_principal_that_is_there_gets_a_new_secret(http: Http) -> None:
    made = await make(http)
    path = f"{PRINCIPALS}/{made['client_id']}/secret"
    assert (await http.call("POST", path, {}, key=await token_of(http, made)))[0] == 403
    await http.delete(f"{PRINCIPALS}/{made['client_id']}")
    for gone in (path, f"{PRINCIPALS}/nobody/secret"):
        status, answer = await http.post(gone, {})
        assert (status, answer["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


async def test_a_restart_keeps_tokens_and_forgets_no_deletion(http: Http, tmp_path: Path) -> None:
    made, gone = await make(http), await make(http, "gone")
    token, ended = await token_of(http, made), await token_of(http, gone)
    await http.delete(f"{PRINCIPALS}/{gone['client_id']}")
    http.world.restart()
    access = http.world.controller.access
    found = access.caller(token)
    assert found is not None and found.principal == made["client_id"]
    assert access.caller(ended) is None
    assert access.service_principals.authenticate(made["client_id"], made["client_secret"]) is not None


async def test_the_oldest_token_ends_where_a_principal_has_too_many(http: Http) -> None:
    made, other = await make(http), await make(http, "other")
    kept = await token_of(http, other)
    tokens = []
    for _ in range(MOST_TOKENS + 1):
        http.world.clock.ms += 1
        tokens.append(await token_of(http, made))
    access = http.world.controller.access
    assert [text for text in tokens if access.caller(text) is None] == tokens[:1]
    assert access.caller(kept) is not None


async def test_no_secret_and_no_token_is_stored_listed_or_told_again(http: Http) -> None:
    made = await make(http)
    token = await token_of(http, made)
    listed = json.dumps((await http.get(PRINCIPALS))[1]) + json.dumps((await http.get("/api/headrace/v1/events"))[1])
    assert made["client_id"] in listed
    http.world.controller.database.close()
    stored = b"".join(path.read_bytes() for path in http.world.data.root.rglob("headrace.db*"))
    for secret in (made["client_secret"], token):
        assert secret not in listed
        assert secret.encode() not in stored


CANNOT_BE: list[tuple[dict[str, Any], int, str]] = [
    ({"name": "two words"}, 400, "expected 1 to 64 characters without spaces"),
    ({"name": ""}, 400, "expected 1 to 64"),
    ({"name": "x" * 65}, 400, "expected 1 to 64"),
    ({"name": "job"}, 409, "'job' already exists"),
    ({"name": "a", "secret": "mine"}, 400, "secret is not supported"),
    ({"name": "a", "weight": 0}, 400, "weight"),
    ({"name": "a", "weight": "1"}, 400, "weight"),
    ({"name": "a", "tiers": []}, 400, "tiers"),
]


async def test_a_service_principal_that_cannot_be_is_refused(http: Http) -> None:
    await make(http)
    for body, status, said in CANNOT_BE:
        got, answer = await http.post(PRINCIPALS, body)
        assert (got, said in answer["message"]) == (status, True), answer


async def test_only_admins_make_service_principals(http: Http) -> None:
    token = await token_of(http, await make(http))
    for method, path in (("GET", PRINCIPALS), ("POST", PRINCIPALS), ("DELETE", f"{PRINCIPALS}/x")):
        body = {"name": "more"} if method == "POST" else None
        assert (await http.call(method, path, body, key=token))[0] == 403


async def test_the_last_admin_key_is_not_deleted_with_its_service_principal(http: Http) -> None:
    made = await make(http)
    _, key = await http.post("/api/headrace/v1/keys", {"service_principal": made["client_id"], "role": "admin"})
    first = http.world.controller.keys.find(http.key)
    assert first is not None
    assert (await http.call("DELETE", f"/api/headrace/v1/keys/{first.id}", key=key["key"]))[0] == 200
    status, answer = await http.call("DELETE", f"{PRINCIPALS}/{made['client_id']}", key=key["key"])
    assert status == 400
    assert "last admin key" in answer["message"]


async def test_a_key_belongs_to_one_principal_that_there_is(http: Http) -> None:
    for body, status, said in (
        ({"user": "ann", "service_principal": "job"}, 400, "not to both"),
        ({"service_principal": "nobody"}, 404, "no service principal 'nobody'"),
        ({"user": "a b"}, 400, "without spaces"),
    ):
        got, answer = await http.post("/api/headrace/v1/keys", body)
        assert (got, said in answer["message"]) == (status, True), answer


async def test_a_key_belongs_to_its_user_or_to_one_of_its_own(http: Http) -> None:
    _, named = await http.post("/api/headrace/v1/keys", {"user": "ann@example.com"})
    _, own = await http.post("/api/headrace/v1/keys", {})
    assert (named["principal"], named["principal_kind"]) == ("ann@example.com", "user")
    assert (own["principal"], own["principal_kind"]) == (own["id"], "user")
    views = {view.id: view for view in http.world.snapshot.keys}
    assert views[named["id"]].principal == "ann@example.com"


async def _published(controller: Controller, condition: Any) -> None:
    async with asyncio.timeout(10), controller.link._changed:
        await controller.link._changed.wait_for(condition)
