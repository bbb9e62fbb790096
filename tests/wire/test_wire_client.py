from __future__ import annotations

import asyncio
import os
import socket
import tempfile

import pytest
from wire_peer import Serve
from wire_scripted import OK, ClientOf, ScriptedOf, Wire

from headrace.wire.client import (
    Client,
    ConnectFailed,
    ConnectionLost,
    ProtocolError,
    Response,
)
from headrace.wire.exchange import Exchange


async def pieces(response: Response) -> list[bytes]:
    async with asyncio.timeout(10):
        return [piece async for piece in response]


async def read(response: Response) -> bytes:
    return b"".join(await pieces(response))


async def test_a_request_is_answered_with_status_headers_and_body(serve: Serve, client_of: ClientOf) -> None:
    def echo(exchange: Exchange) -> None:
        request = exchange.request
        headers = [(b"x-asked", request.header(b"x-ask") or b"")]
        exchange.respond(201, headers, f"{request.method} {request.path} {request.query} ".encode() + request.body)

    server = await serve(echo)
    client = client_of(server.port)
    response = await client.request("POST", "/a?b=c", [(b"x-ask", b"1"), (b"content-length", b"99")], b"body")
    assert response.status == 201
    assert response.header(b"x-asked") == b"1"
    assert await response.read() == b"POST /a b=c body"


async def test_a_chunked_body_arrives_decoded_however_its_bytes_are_cut(
    scripted: ScriptedOf, client_of: ClientOf
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n"

    async def byte_by_byte(wire: Wire) -> None:
        while True:
            await wire.request()
            for i in range(len(answer)):
                await wire.send(answer[i : i + 1])
                await asyncio.sleep(0)

    peer = await scripted(byte_by_byte)
    client = client_of(peer.port)
    for _ in range(2):
        assert await read(await client.request("GET", "/")) == b"abcde"
    assert peer.connections == 1


async def test_what_arrives_together_comes_as_one_piece(scripted: ScriptedOf, client_of: ClientOf) -> None:
    async def in_two(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await wire.send(b"".join(b"9\r\ndata: %d\n\n\r\n" % n for n in range(5)))
        await wire.request()

    peer = await scripted(in_two)
    response = await client_of(peer.port).request("GET", "/")
    async with asyncio.timeout(10), response:
        piece = await anext(response)
    assert piece == b"".join(b"data: %d\n\n" % n for n in range(5))


async def test_a_body_without_a_length_ends_with_the_connection(scripted: ScriptedOf, client_of: ClientOf) -> None:
    async def until_close(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\n\r\nabc")

    peer = await scripted(until_close)
    client = client_of(peer.port)
    for connections in (1, 2):
        assert await read(await client.request("GET", "/")) == b"abc"
        assert peer.connections == connections


async def test_interim_answers_are_skipped(scripted: ScriptedOf, client_of: ClientOf) -> None:
    async def continued(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 103 Early Hints\r\nX: early\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK)

    peer = await scripted(continued)
    response = await client_of(peer.port).request("POST", "/", [], b"x")
    assert (response.status, response.headers) == (200, [(b"content-length", b"2")])
    assert await read(response) == b"ok"


@pytest.mark.parametrize("status", [b"200 OK", b"204 No Content", b"304 Not Modified"])
async def test_answers_without_a_body_leave_the_connection_usable(
    status: bytes, scripted: ScriptedOf, client_of: ClientOf
) -> None:
    async def bodiless(wire: Wire) -> None:
        while True:
            await wire.request()
            length = b"Content-Length: 5\r\n" if status.startswith(b"200") else b""
            await wire.send(b"HTTP/1.1 %b\r\n%b\r\n" % (status, length))

    peer = await scripted(bodiless)
    client = client_of(peer.port)
    for _ in range(2):
        assert await read(await client.request("HEAD", "/")) == b""
    assert peer.connections == 1


async def test_the_connection_used_last_is_used_next(scripted: ScriptedOf, client_of: ClientOf) -> None:
    seen: list[int] = []
    both = asyncio.Barrier(2)

    async def numbered(wire: Wire) -> None:
        await wire.request()
        await both.wait()
        await wire.send(OK)
        while True:
            await wire.request()
            seen.append(wire.number)
            await wire.send(OK)

    peer = await scripted(numbered)
    client = client_of(peer.port)
    for response in await asyncio.gather(client.request("GET", "/"), client.request("GET", "/")):
        await read(response)
    for _ in range(5):
        await read(await client.request("GET", "/"))
    assert len(set(seen)) == 1


@pytest.mark.parametrize(
    ("answer", "connections"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 1),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 1),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", 1),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 2),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 2),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x\r\nConnection: Close\r\n\r\nok", 2),
    ],
)
async def test_an_answer_says_whether_its_connection_carries_another(
    answer: bytes, connections: int, scripted: ScriptedOf, client_of: ClientOf
) -> None:
    async def same(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.send(answer)

    peer = await scripted(same)
    client = client_of(peer.port)
    for _ in range(2):
        await read(await client.request("GET", "/"))
    assert peer.connections == connections


async def test_a_connection_that_must_not_be_reused_is_not(scripted: ScriptedOf, client_of: ClientOf) -> None:
    heads: list[bytes] = []

    async def answer(wire: Wire) -> None:
        while True:
            heads.append(await wire.request())
            await wire.send(OK)

    peer = await scripted(answer)
    client = client_of(peer.port)
    for _ in range(2):
        await read(await client.request("GET", "/", reuse=False))
    assert peer.connections == 2
    assert all(b"connection: close\r\n" in head for head in heads)


async def test_a_kept_connection_that_was_closed_costs_one_retry(scripted: ScriptedOf, client_of: ClientOf) -> None:
    bodies: list[bytes] = []

    async def close_on_second(wire: Wire) -> None:
        bodies.append(await wire.request())
        await wire.send(OK)
        if wire.number == 1:
            bodies.append(await wire.request())
            return
        await wire.answer_all()

    peer = await scripted(close_on_second)
    client = client_of(peer.port)
    await read(await client.request("POST", "/first", [], b"x"))
    response = await client.request("POST", "/second", [], b"yy")
    assert await read(response) == b"ok"
    assert peer.connections == 2
    assert [body.split(b" ")[1] for body in bodies] == [b"/first", b"/second", b"/second"]


async def test_a_kept_connection_that_answered_in_part_is_not_retried(
    scripted: ScriptedOf, client_of: ClientOf
) -> None:
    async def half_an_answer(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK)
        await wire.request()
        await wire.send(b"HTTP/1.1 2")

    peer = await scripted(half_an_answer)
    client = client_of(peer.port)
    await read(await client.request("GET", "/"))
    with pytest.raises(ConnectionLost):
        await client.request("GET", "/")
    assert peer.connections == 1


async def test_a_kept_connection_that_was_closed_late_is_not_retried(
    scripted: ScriptedOf, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.wire.client_connection.STALE_WINDOW_S", 0.0)

    async def die_of_second(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK)
        await wire.request()

    peer = await scripted(die_of_second)
    client = client_of(peer.port)
    await read(await client.request("GET", "/"))
    with pytest.raises(ConnectionLost):
        await client.request("GET", "/")
    assert peer.connections == 1


async def test_a_retry_that_finds_nobody_does_not_say_that_nothing_was_sent(client_of: ClientOf) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(1, reader, writer)
        await wire.request()
        await wire.send(OK)
        await wire.request()
        server.close()
        writer.close()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    client = client_of(server.sockets[0].getsockname()[1])
    await read(await client.request("GET", "/"))
    with pytest.raises(ConnectionLost, match="closed while it was idle, and no connection"):
        await client.request("GET", "/")


async def test_a_new_connection_that_is_closed_is_not_retried(scripted: ScriptedOf, client_of: ClientOf) -> None:
    async def close(wire: Wire) -> None:
        await wire.request()

    peer = await scripted(close)
    with pytest.raises(ConnectionLost):
        await client_of(peer.port).request("GET", "/")
    assert peer.connections == 1


async def test_a_kept_connection_grows_too_old(scripted: ScriptedOf, client_of: ClientOf) -> None:
    peer = await scripted(Wire.answer_all)
    client = client_of(peer.port, idle_s=0.0)
    await read(await client.request("GET", "/"))
    await asyncio.sleep(0.01)
    await read(await client.request("GET", "/"))
    assert peer.connections == 2


async def test_closing_a_response_closes_its_connection_at_once(scripted: ScriptedOf, client_of: ClientOf) -> None:
    async def endless(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab")
        await wire.request()

    peer = await scripted(endless)
    client = client_of(peer.port)
    async with await client.request("GET", "/") as response:
        assert await anext(response) == b"ab"
    async with asyncio.timeout(1):
        assert await peer.closed.get() == 1
    with pytest.raises(ConnectionLost):
        await anext(response)


async def test_cancelling_a_request_closes_its_connection(scripted: ScriptedOf, client_of: ClientOf) -> None:
    asked = asyncio.Event()

    async def silent(wire: Wire) -> None:
        await wire.request()
        asked.set()
        await wire.request()

    peer = await scripted(silent)
    task = asyncio.create_task(client_of(peer.port).request("GET", "/"))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(1):
        assert await peer.closed.get() == 1


async def test_a_lost_connection_is_told_after_what_had_arrived(scripted: ScriptedOf, client_of: ClientOf) -> None:
    async def cut(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")

    peer = await scripted(cut)
    response = await client_of(peer.port).request("GET", "/")
    assert await anext(response) == b"abc"
    with pytest.raises(ConnectionLost):
        await anext(response)


async def test_memory_is_bounded_for_a_reader_that_is_slow(serve: Serve, client_of: ClientOf) -> None:
    async def flood(exchange: Exchange) -> None:
        exchange.start(200)
        for _ in range(500):
            exchange.write(b"x" * 65536)
            await exchange.drain()
        exchange.finish()

    server = await serve(flood)
    response = await client_of(server.port).request("GET", "/")
    for _ in range(200):
        await asyncio.sleep(0)
    assert response.buffered < 1024 * 1024
    assert not response.complete
    assert len(await read(response)) == 500 * 65536


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70000,
    ],
)
async def test_what_is_not_http_is_a_protocol_error(answer: bytes, scripted: ScriptedOf, client_of: ClientOf) -> None:
    async def nonsense(wire: Wire) -> None:
        await wire.request()
        await wire.send(answer)
        await wire.request()

    peer = await scripted(nonsense)
    with pytest.raises(ProtocolError):
        await read(await client_of(peer.port).request("GET", "/"))


async def test_bytes_beyond_the_answer_spoil_the_connection_but_not_the_answer(
    scripted: ScriptedOf, client_of: ClientOf
) -> None:
    async def too_much(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK + OK)
        await wire.request()

    peer = await scripted(too_much)
    client = client_of(peer.port)
    for _ in range(2):
        assert await read(await client.request("GET", "/")) == b"ok"
    assert peer.connections == 2


async def test_reading_stops_at_the_callers_limit(scripted: ScriptedOf, client_of: ClientOf) -> None:
    peer = await scripted(Wire.answer_all)
    response = await client_of(peer.port).request("GET", "/")
    with pytest.raises(ProtocolError, match="exceeds 1 bytes"):
        await response.read(1)


async def test_nobody_listening_is_connect_failed(client_of: ClientOf) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConnectFailed, match=f"127.0.0.1:{port}"):
        await client_of(port).request("GET", "/")
    with tempfile.TemporaryDirectory() as folder, pytest.raises(ConnectFailed):
        await Client(f"unix:{os.path.join(folder, 'none.sock')}").request("GET", "/")


async def test_a_closed_client_makes_no_request(serve: Serve, client_of: ClientOf) -> None:
    server = await serve(lambda exchange: exchange.respond(200))
    client = client_of(server.port)
    await read(await client.request("GET", "/"))
    await client.close()
    with pytest.raises(ConnectFailed, match="closed"):
        await client.request("GET", "/")


@pytest.mark.parametrize("origin", ["ftp://a", "http://", "https://a/v1", "a:80"])
def test_an_origin_that_is_none_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="an origin is"):
        Client(origin)


@pytest.mark.parametrize(("method", "target"), [("GET", "/a b"), ("GET", "/a\r\nX: y"), ("GET X", "/")])
async def test_a_request_line_that_would_split_is_refused(method: str, target: str, client_of: ClientOf) -> None:
    with pytest.raises(ValueError, match="blanks or line breaks"):
        await client_of(1).request(method, target)
