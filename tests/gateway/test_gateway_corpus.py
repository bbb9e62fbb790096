"""The corpus of requests on which servers could disagree, through a whole gateway: nothing of a refused one reaches an
engine or the controller, and after one that is served comes what was meant."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from gateway_rig import QUERY_KEY, RAW, RawClient, Rig, chat_body, rig
from wire_corpus import Served, Site, refused, served

from headrace.wire.server import Exchange, Server

CHAT = b"/v1/chat/completions"
FIELDS = f"Authorization: Bearer {QUERY_KEY}\r\nContent-Type: application/json\r\n".encode()


def site(word: str, target: bytes = CHAT) -> Site:
    """Requests that the engine would be asked, told apart by this word."""
    messages = [{"role": "user", "content": word}]
    return Site(target, FIELDS, json.dumps(chat_body(messages=messages)).encode())


BAD, GOOD = refused(site("bad")), served(site("good"))


@pytest.fixture
async def gateway() -> AsyncIterator[tuple[Rig, list[str]]]:
    """A gateway, and the paths that it has handed to the controller."""
    handed_on: list[str] = []

    def controller(exchange: Exchange) -> None:
        handed_on.append(exchange.request.target)
        exchange.respond(200)

    async with rig(RAW) as r:
        server = Server(controller)
        await server.listen(path=str(r.controller.http_path))
        yield r, handed_on
        await server.close()


def words(r: Rig) -> list[str]:
    """Of the requests that reached the engine."""
    return [body["messages"][0]["content"] for body in r.engines[0].bodies]


async def rest(client: RawClient) -> bytes:
    async with asyncio.timeout(10):
        return await client.reader.read()


@pytest.mark.parametrize("name", BAD)
async def test_nothing_of_a_refused_request_reaches_anybody(name: str, gateway: tuple[Rig, list[str]]) -> None:
    r, handed_on = gateway
    status, data = BAD[name]
    client = await r.connect()
    client.writer.write(site("before").whole() + data)
    client.writer.write(site("smuggled").whole() + site("smuggled", b"/api/headrace/v1/keys").whole())
    assert (await client.answer()).status == 200
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert answer.json["message"] and answer.headers["x-request-id"]
    assert await rest(client) == b""
    client.close()
    assert words(r) == ["before"]
    assert handed_on == []


@pytest.mark.parametrize("name", GOOD)
async def test_after_an_unusual_request_comes_the_next_one(name: str, gateway: tuple[Rig, list[str]]) -> None:
    r, handed_on = gateway
    wanted = GOOD[name]
    client = await r.connect()
    client.writer.write(wanted.data + site("next").whole())
    status, headers = await client.head()
    assert status == expected(wanted)
    if wanted.method not in ("HEAD", "OPTIONS"):
        async with asyncio.timeout(10):
            await client.reader.readexactly(int(headers["content-length"]))
    reached = ["good"] if status == 200 else []
    if wanted.keeps:
        assert (await client.answer()).status == 200
        reached.append("next")
    else:
        assert headers["connection"] == "close"
        assert await rest(client) == b""
    client.close()
    assert words(r) == reached
    assert handed_on == []


def expected(wanted: Served) -> int:
    """What a gateway answers where the framing was understood."""
    if wanted.method != "POST":
        return 204 if wanted.method == "OPTIONS" else 405
    return 200 if wanted.body == site("good").body else 400
