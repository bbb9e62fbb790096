"""The same requests and the same answers through a gateway and through a plain aiohttp proxy: what arrives on either
side is the same in status, in headers that matter and in every byte of the body."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gateway_rig import QUERY_KEY, RAW, Rig, rig
from reference_proxy import Message, Upstream, ask, reference_proxy
from wire_corpus import Site, served

OK = b"HTTP/1.1 200 OK\r\n"
EVENTS = [b'data: {"choices":[{"text":"%d"}]}\n\n' % n for n in range(40)]
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":40}}\n\n'
STREAM = b"".join(EVENTS) + USAGE + b"data: [DONE]\n\n"
WHOLE = json.dumps({"choices": [{"text": "é" * 3000}], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}).encode()


@dataclass(frozen=True)
class Scripted:
    """An answer in the pieces that the server writes."""

    pieces: Sequence[bytes]
    closes: bool = False


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def chunked(data: bytes, size: int, trailer: bytes = b"") -> bytes:
    coded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in in_pieces(data, size))
    return coded + b"0\r\n" + trailer + b"\r\n"


def framings(fields: bytes, body: bytes) -> dict[str, Scripted]:
    """One body in every framing and several cuts."""
    by_length = OK + fields + b"Content-Length: %d\r\n\r\n" % len(body)
    coded = OK + fields + b"Transfer-Encoding: chunked\r\n\r\n"
    return {
        "by length": Scripted([by_length + body]),
        "by length, head apart": Scripted([by_length, body]),
        "by length, in pieces": Scripted([by_length, *in_pieces(body, 701)]),
        "by length, closing": Scripted([by_length.replace(OK, OK + b"Connection: close\r\n") + body], closes=True),
        "chunked": Scripted([coded + chunked(body, 1000)]),
        "chunked, in odd cuts": Scripted([coded, *in_pieces(chunked(body, 97), 31)]),
        "chunked, small chunks at once": Scripted([coded + chunked(body, 3)]),
        "chunked, one chunk a write": Scripted(
            [coded, *(chunked(one, 4096)[:-5] for one in in_pieces(body, 500)), b"0\r\n\r\n"]
        ),
        "chunked with a trailer": Scripted([coded + chunked(body, 500, b"X-Sum: 1\r\n")]),
        "until the connection ends": Scripted([OK + fields + b"\r\n" + body], closes=True),
        "until the connection ends, in pieces": Scripted([OK + fields + b"\r\n", *in_pieces(body, 333)], closes=True),
        "HTTP/1.0": Scripted([b"HTTP/1.0 200 OK\r\n" + fields + b"\r\n", body], closes=True),
    }


def heads(answer: bytes) -> bytes:
    """As a server answers HEAD."""
    interim = answer.startswith(b"HTTP/1.1 1")
    return b"".join(head + b"\r\n\r\n" for head in answer.split(b"\r\n\r\n")[: 1 + interim])


TEXT = b"Content-Type: text/plain\r\n"
ANSWERS = {
    **framings(TEXT, bytes(range(256)) * 8),
    "byte by byte": Scripted(bytewise(OK + TEXT + b"Content-Length: 5\r\n\r\nhello")),
    "chunked, byte by byte": Scripted(
        bytewise(OK + TEXT + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"hello", 2))
    ),
    "nothing, by length": Scripted([OK + TEXT + b"Content-Length: 0\r\n\r\n"]),
    "nothing, chunked": Scripted([OK + TEXT + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]),
    "nothing, until the connection ends": Scripted([OK + TEXT + b"\r\n"], closes=True),
    "204": Scripted([b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n"]),
    "304": Scripted([b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n']),
    "404": Scripted([b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone"]),
    "500": Scripted([b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\noops"]),
    "a redirect, not followed": Scripted([b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"]),
    "a status of no name": Scripted([b"HTTP/1.1 299 Odd\r\nContent-Length: 2\r\n\r\nok"]),
    "after an interim answer": Scripted(
        [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", OK + b"Content-Length: 2\r\n\r\nok"]
    ),
    "big": Scripted([OK + TEXT + b"Content-Length: 6000000\r\n\r\n", *in_pieces(b"0123456789" * 600_000, 65_536)]),
    "big, chunked": Scripted(
        [OK + TEXT + b"Transfer-Encoding: chunked\r\n\r\n", chunked(b"0123456789" * 600_000, 50_000)]
    ),
    "many fields": Scripted(
        [OK + b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(90)) + b"Content-Length: 2\r\n\r\nok"]
    ),
    "the same field again": Scripted(
        [OK + b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX: 1\r\nSet-Cookie: a=3\r\nContent-Length: 2\r\n\r\nok"]
    ),
    "a field of the connection": Scripted(
        [OK + b"Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-End: 1\r\nContent-Length: 2\r\n\r\nok"]
    ),
    "an empty field": Scripted([OK + b"X-Empty:\r\nContent-Length: 2\r\n\r\nok"]),
    "a field beyond ASCII": Scripted([OK + b"X: \xc3\xa4\r\nContent-Length: 2\r\n\r\nok"]),
    "encoded": Scripted([OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08"]),
}

OF_THE_CONNECTION = frozenset(("connection", "keep-alive", "transfer-encoding", "date", "server", "x-request-id"))


@dataclass
class Ways:
    """The same server behind both proxies."""

    upstream: Upstream
    gateway: int
    reference: int

    async def both(self, method: str, data: bytes) -> tuple[Message, Message]:
        """The answers, of the gateway first; ``upstream.asked`` has the two requests in that order."""
        answers = []
        for port in (self.gateway, self.reference):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            answers.append(await ask(reader, writer, method, data))
            writer.close()
        return answers[0], answers[1]


@pytest.fixture
async def closing() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def controller_ways(closing: AsyncExitStack) -> Ways:
    """Paths that the gateway hands to the controller."""
    r: Rig = await closing.enter_async_context(rig(RAW))
    upstream = Upstream()
    path = Path(r.controller.http_path)
    server = await asyncio.start_unix_server(upstream.serve, path)
    closing.callback(server.close)
    return Ways(upstream, r.port, await closing.enter_async_context(reference_proxy(path)))


@pytest.fixture
async def engine_ways(closing: AsyncExitStack) -> Ways:
    """Requests to an endpoint, and its only replica."""
    r: Rig = await closing.enter_async_context(rig(RAW))
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    closing.callback(server.close)
    origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await r.publish(replicas=[r.engines[0].view(url=origin)])
    return Ways(upstream, r.port, await closing.enter_async_context(reference_proxy(origin)))


def that_matter(message: Message, but: frozenset[str] = OF_THE_CONNECTION) -> list[tuple[str, str]]:
    return sorted(header for header in message.headers if header[0] not in but)


def values(message: Message, name: str) -> list[str]:
    return [value for key, value in message.headers if key == name]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_of_the_controller_is_the_same(name: str, method: str, controller_ways: Ways) -> None:
    ways, scripted = controller_ways, ANSWERS[name]
    ways.upstream.closes = scripted.closes
    ways.upstream.answer = scripted.pieces if method == "GET" else [heads(b"".join(scripted.pieces))]
    got, expected = await ways.both(method, Site(b"/api/x").get().replace(b"GET", method.encode(), 1))
    assert (got.status, got.body) == (expected.status, expected.body)
    sent = b"".join(scripted.pieces).lower()
    # What aiohttp adds of its own where the server said nothing.
    added = {field for field in ("content-type", "content-length") if field.encode() + b":" not in sent}
    but = OF_THE_CONNECTION | added
    assert that_matter(got, but) == that_matter(expected, but)


REQUESTS = {
    name: entry
    for name, entry in served(Site(b"/api/x/%2e%41?q=a%20b&r=%C3%A4", b"X-A: 1\r\nX-B: 2\r\nX-A: 3\r\n")).items()
    # The reference has a smaller limit, and writes bytes beyond ASCII in another way.
    if name not in ("OPTIONS *", "many fields", "a field beyond ASCII")
}
NOT_THE_CLIENTS = OF_THE_CONNECTION | {
    "host",
    "content-length",
    "user-agent",
    "accept",
    "accept-encoding",
    "content-type",
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_reaches_the_controller_the_same(name: str, controller_ways: Ways) -> None:
    ways, entry = controller_ways, REQUESTS[name]
    ways.upstream.answer = [OK + b"Content-Length: 0\r\n\r\n"]
    await ways.both(entry.method, entry.data)
    got, expected = ways.upstream.asked
    assert (got.method, got.target, got.body) == (entry.method, "/api/x/%2e%41?q=a%20b&r=%C3%A4", entry.body)
    assert (got.method, got.target, got.body) == (expected.method, expected.target, expected.body)
    assert that_matter(got, NOT_THE_CLIENTS) == that_matter(expected, NOT_THE_CLIENTS)


async def test_fields_of_the_clients_connection_go_no_further(controller_ways: Ways) -> None:
    ways = controller_ways
    ways.upstream.answer = [OK + b"Content-Length: 0\r\n\r\n"]
    fields = (b"Connection: keep-alive, X-Hop", b"X-Hop: 1", b"Keep-Alive: 5", b"TE: trailers", b"X-End: 1")
    await ways.both("GET", Site(b"/api/x").get(*fields))
    for asked in ways.upstream.asked:
        assert that_matter(asked, NOT_THE_CLIENTS) == [("x-end", "1")]


def completion(**members: Any) -> bytes:
    body = {"model": "smollm2", "prompt": "hi", "max_tokens": 50, **members}
    fields = f"Authorization: Bearer {QUERY_KEY}\r\nContent-Type: application/json\r\n".encode()
    return Site(b"/v1/completions", fields, json.dumps(body).encode()).whole()


JSON_ANSWERS = framings(b"Content-Type: application/json\r\n", WHOLE)
SSE_ANSWERS = framings(b"Content-Type: text/event-stream; charset=utf-8\r\n", STREAM)


@pytest.mark.parametrize("name", JSON_ANSWERS)
async def test_an_engines_json_is_the_same(name: str, engine_ways: Ways) -> None:
    await same_answer(engine_ways, JSON_ANSWERS[name], completion())


@pytest.mark.parametrize("name", SSE_ANSWERS)
async def test_an_engines_stream_is_the_same(name: str, engine_ways: Ways) -> None:
    asked = completion(stream=True, stream_options={"include_usage": True})
    await same_answer(engine_ways, SSE_ANSWERS[name], asked)


async def same_answer(ways: Ways, scripted: Scripted, data: bytes) -> None:
    ways.upstream.answer, ways.upstream.closes = scripted.pieces, scripted.closes
    got, expected = await ways.both("POST", data)
    assert (got.status, got.body) == (expected.status, expected.body) and got.status == 200
    assert values(got, "content-type") == values(expected, "content-type")
    request, reference = ways.upstream.asked
    assert (request.method, request.target) == (reference.method, reference.target)
    assert json.loads(request.body) == json.loads(reference.body)
