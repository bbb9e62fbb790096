"""Who may query an endpoint, and until when a token holds."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import msgspec
from gateway_rig import ADMIN_KEY, KEYS, QUERY_KEY, RAW, Rig, chat_body, endpoint_view, key_view, rig

from headrace.gateway.snapshot import KeyView

CHAT = "/v1/chat/completions"
ANN_KEY = "hr-0000000a.of-ann"
BOB_KEY = "hr-0000000b.of-bob"
TOKEN = "hrt-of-a-job"


def owned(key: str, principal: str, kind: str = "user", expires_ms: int | None = None) -> KeyView:
    return msgspec.structs.replace(key_view(key), principal=principal, principal_kind=kind, expires_ms=expires_ms)


async def restricted(r: Rig, *queriers: str, token_expires_ms: int | None = None) -> None:
    """Two endpoints, of which the first is for these alone, and keys of ann, bob and a job."""
    ours = msgspec.structs.replace(endpoint_view(), queriers=queriers)
    keys = (
        *KEYS,
        owned(ANN_KEY, "ann"),
        owned(BOB_KEY, "bob"),
        owned(TOKEN, "job", "service_principal", token_expires_ms),
    )
    await r.publish(endpoints=(ours, endpoint_view("open")), keys=keys)


async def status(r: Rig, key: str) -> int:
    return (await r.post(CHAT, chat_body(), key=key)).status


async def test_only_those_who_were_given_it_may_query_an_endpoint_and_admins() -> None:
    async with rig(RAW) as r:
        await restricted(r, "user:ann", "service_principal:job")
        assert {key: await status(r, key) for key in (ANN_KEY, BOB_KEY, TOKEN, QUERY_KEY, ADMIN_KEY)} == {
            ANN_KEY: 200,
            BOB_KEY: 403,
            TOKEN: 200,
            QUERY_KEY: 403,
            ADMIN_KEY: 200,
        }
        got = await r.post(CHAT, chat_body(), key=BOB_KEY)
        assert got.json["error_code"] == "PERMISSION_DENIED"
        assert "user 'bob' may not query endpoint 'smollm2'" in got.json["message"]
        assert "CAN_QUERY" in got.json["message"]
        assert len(r.engines[0].bodies) == 3
        assert r.kinds().count("Reserved") == 3


async def test_a_service_principal_is_not_the_user_of_its_name() -> None:
    async with rig(RAW) as r:
        await restricted(r, "user:job", "service_principal:ann")
        assert [await status(r, key) for key in (ANN_KEY, TOKEN)] == [403, 403]


async def test_a_permission_that_is_given_holds_with_the_next_snapshot() -> None:
    async with rig(RAW) as r:
        await restricted(r)
        assert await status(r, ANN_KEY) == 403
        await restricted(r, "user:ann")
        assert await status(r, ANN_KEY) == 200
        await restricted(r)
        assert await status(r, ANN_KEY) == 403


async def test_models_are_those_that_the_caller_may_query() -> None:
    async with rig(RAW) as r:
        await restricted(r, "user:ann")
        listed = {
            key: [model["id"] for model in (await r.get("/v1/models", key=key)).json["data"]]
            for key in (ANN_KEY, BOB_KEY, ADMIN_KEY)
        }
        assert listed == {ANN_KEY: ["open", "smollm2"], BOB_KEY: ["open"], ADMIN_KEY: ["open", "smollm2"]}
        assert (await r.get("/v1/models/smollm2", key=ANN_KEY)).status == 200
        assert (await r.get("/v1/models/smollm2", key=BOB_KEY)).status == 403
        assert (await r.get("/v1/models/nothing", key=BOB_KEY)).status == 404


async def test_a_token_that_has_expired_is_refused_without_a_word_from_the_controller() -> None:
    async with rig(RAW) as r:
        now_ms = int(time.time() * 1000)
        await restricted(r, "service_principal:job", token_expires_ms=now_ms + 3_600_000)
        assert await status(r, TOKEN) == 200
        await restricted(r, "service_principal:job", token_expires_ms=now_ms)
        got = await r.post(CHAT, chat_body(), key=TOKEN)
        assert (got.status, got.json["error_code"], got.json["code"]) == (401, "UNAUTHENTICATED", "token_expired")
        at = f"{datetime.fromtimestamp(now_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
        assert got.json["message"] == f"this token expired at {at}; ask for another at /oidc/v1/token"
        assert TOKEN not in got.body.decode()
