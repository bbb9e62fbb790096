"""Which pages of other origins may call, and what a gateway says to OPTIONS and HEAD."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_rig import ADMIN_KEY, QUERY_KEY, RAW, Answer, Rig, answer, chat_body, rig

from headrace.gateway.cors import Cors, check_origin
from headrace.wire.message import Request

CHAT = "/v1/chat/completions"
PAGE = "https://app.example.com"
OTHER = "https://elsewhere.example.com"
"""Not named in the configuration."""


async def ask(
    r: Rig, method: str, path: str, body: Any = None, *, key: str | None = QUERY_KEY, **headers: str
) -> Answer:
    client = await r.connect()
    try:
        await client.send(method, path, body, key=key, **headers)
        if method in ("HEAD", "OPTIONS"):
            status, fields = await client.head()
            return Answer(status, fields, b"")
        return await client.answer()
    finally:
        client.close()


PREFLIGHT = {
    "Access_Control_Request_Method": "POST",
    "Access_Control_Request_Headers": "authorization,content-type,x-stainless-lang",
}


@pytest.mark.parametrize(("origins", "told"), [((PAGE,), PAGE), (("*",), "*"), ((OTHER, PAGE), PAGE)])
async def test_a_browser_may_ask_and_then_call(origins: tuple[str, ...], told: str) -> None:
    async with rig(RAW, cors_origins=origins) as r:
        asked = await ask(r, "OPTIONS", CHAT, key=None, Origin=PAGE, **PREFLIGHT)
        assert asked.status == 204
        assert asked.headers["access-control-allow-origin"] == told
        assert "POST" in asked.headers["access-control-allow-methods"]
        assert asked.headers["access-control-allow-headers"] == "authorization,content-type,x-stainless-lang"
        assert int(asked.headers["access-control-max-age"]) > 0
        assert "content-length" not in asked.headers
        for stream in (False, True):
            got = await ask(r, "POST", CHAT, chat_body(stream=stream), Origin=PAGE)
            assert (got.status, got.headers["access-control-allow-origin"]) == (200, told)
            assert "x-request-id" in got.headers["access-control-expose-headers"]
        got = await ask(r, "GET", "/v1/models", Origin=PAGE)
        assert (got.status, got.headers["access-control-allow-origin"]) == (200, told)


async def test_the_page_can_read_every_field_that_is_ours() -> None:
    async with rig(RAW, cors_origins=(PAGE,)) as r:
        got = await r.post(CHAT, chat_body(), key=ADMIN_KEY, Origin=PAGE, x_headrace_explain="1")
        readable = got.headers["access-control-expose-headers"].split(", ")
        ours = [name for name in got.headers if name.startswith(("x-", "served-"))]
        assert "x-headrace-work" in ours
        assert set(ours) <= set(readable)


async def test_errors_can_be_read_by_the_page_too() -> None:
    async with rig(RAW, cors_origins=(PAGE,)) as r:
        for key, body, status in (
            (None, chat_body(), 401),
            (QUERY_KEY, chat_body(model="none"), 404),
            (QUERY_KEY, {}, 400),
        ):
            got = await ask(r, "POST", CHAT, body, key=key, Origin=PAGE)
            assert (got.status, got.headers["access-control-allow-origin"]) == (status, PAGE)
            assert got.json["message"]
        r.engines[0].behave = answer("a", die_after=0)
        got = await ask(r, "POST", CHAT, chat_body(), Origin=PAGE)
        assert got.status >= 500
        assert got.headers["access-control-allow-origin"] == PAGE
    async with rig(RAW, cors_origins=("*",)) as r:
        client = await r.connect()
        client.writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n")
        status, fields = await client.head()
        assert (status, fields["access-control-allow-origin"]) == (413, "*")
        client.close()


async def test_a_page_that_was_not_named_learns_nothing() -> None:
    async with rig(RAW, cors_origins=(PAGE,)) as r:
        for origin in (OTHER, "null", PAGE + "/", PAGE.upper()):
            asked = await ask(r, "OPTIONS", CHAT, key=None, Origin=origin, **PREFLIGHT)
            got = await ask(r, "POST", CHAT, chat_body(), Origin=origin)
            for found in (asked, got):
                assert not [name for name in found.headers if name.startswith("access-control")]
                assert found.headers["vary"] == "origin"  # a cache must not give this answer to a page that may


async def test_it_is_off_unless_asked_for_and_never_on_for_the_control_plane() -> None:
    async with rig(RAW) as r:
        asked = await ask(r, "OPTIONS", CHAT, key=None, Origin=PAGE, **PREFLIGHT)
        got = await ask(r, "POST", CHAT, chat_body(), Origin=PAGE)
        for found in (asked, got):
            assert not {"vary", "access-control-allow-origin"} & found.headers.keys()
    async with rig(RAW, cors_origins=("*",)) as r:
        got = await ask(r, "GET", "/api/headrace/v1/status", Origin=PAGE)
        assert "access-control-allow-origin" not in got.headers


async def test_options_tells_the_methods_without_a_key() -> None:
    async with rig(RAW) as r:
        for path, allow in (
            (CHAT, "POST, OPTIONS"),
            ("/serving-endpoints/smollm2/invocations", "POST, OPTIONS"),
            ("/v1/models", "GET, HEAD, OPTIONS"),
            ("*", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        ):
            got = await ask(r, "OPTIONS", path, key=None)
            assert (got.status, got.headers["allow"]) == (204, allow)


async def test_head_is_get_without_the_body() -> None:
    async with rig(RAW) as r:
        client = await r.connect()
        for path in ("/v1/models", "/v1/models/smollm2", "/v1/models/none", "/healthz"):
            await client.send("GET", path, None)
            got = await client.answer()
            await client.send("HEAD", path, None)
            status, fields = await client.head()
            assert (status, fields["content-length"]) == (got.status, got.headers["content-length"])
        await client.send("HEAD", CHAT, None)
        assert (await client.head())[0] == 405
        await client.send("GET", "/v1/models", None)
        assert (await client.answer()).status == 200  # no body was left in between
        client.close()


@pytest.mark.parametrize("origin", [PAGE, "http://localhost:3000", "*", "chrome-extension://abc", "http://[::1]:80"])
def test_an_origin_is_as_a_browser_sends_it(origin: str) -> None:
    check_origin(origin)
    assert Cors((origin,)).on


@pytest.mark.parametrize("origin", ["", "app.example.com", PAGE + "/", PAGE + "/x", "HTTPS://a", "https://a b", "**"])
def test_what_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="is not an origin"):
        check_origin(origin)


def test_names_that_would_break_out_of_their_line_are_not_repeated() -> None:
    headers = [
        (b"origin", PAGE.encode()),
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", b"x\xff"),
    ]
    request = Request("OPTIONS", "/", "/", "", "1.1", headers, b"", True)
    assert b"access-control-allow-headers" not in dict(Cors((PAGE,)).preflight(request))
