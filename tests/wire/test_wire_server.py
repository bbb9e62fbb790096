from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from pathlib import Path

import pytest
from wire_peer import Connect, Serve

from headrace.wire.client import Client
from headrace.wire.exchange import ClientGone, Exchange
from headrace.wire.request_parser import Limits

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def within(awaitable: asyncio.Future[None] | asyncio.Event, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        await (awaitable.wait() if isinstance(awaitable, asyncio.Event) else awaitable)


async def test_pipelined_requests_are_answered_in_order(serve: Serve, connect: Connect) -> None:
    async def slower_first(exchange: Exchange) -> None:
        for _ in range(int(exchange.request.path[1:])):
            await asyncio.sleep(0)
        exchange.respond(200, [], exchange.request.path.encode())

    server = await serve(slower_first)
    peer = await connect(server.port)
    peer.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(20, 0, -1)))
    assert [(await peer.answer())[1] for _ in range(20)] == [b"/%d" % n for n in range(20, 0, -1)]


async def test_a_thousand_pipelined_requests_answered_at_once_do_not_recurse(serve: Serve, connect: Connect) -> None:
    server = await serve(lambda exchange: exchange.respond(200))
    peer = await connect(server.port)
    peer.send(GET * 2000)
    for _ in range(2000):
        assert (await peer.answer())[0] == 200


async def test_a_streamed_answer_is_chunked_and_the_connection_goes_on(serve: Serve, connect: Connect) -> None:
    def stream(exchange: Exchange) -> None:
        exchange.start(200, [(b"content-type", b"text/event-stream")])
        exchange.write(b"data: 1\n\n")
        exchange.write(b"")
        exchange.write(b"data: 2\n\n")
        exchange.finish()

    server = await serve(stream)
    peer = await connect(server.port)
    for _ in range(2):
        peer.send(GET)
        head = await peer.head()
        assert b"transfer-encoding: chunked\r\n" in head and b"connection" not in head
        assert await peer.reader.readuntil(b"\r\n0\r\n\r\n") == b"9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n0\r\n\r\n"


async def test_a_streamed_answer_to_http_1_0_ends_with_the_connection(serve: Serve, connect: Connect) -> None:
    def stream(exchange: Exchange) -> None:
        exchange.start(200)
        exchange.write(b"abc")
        exchange.finish()

    server = await serve(stream)
    peer = await connect(server.port)
    peer.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert b"connection: close" in await peer.head()
    assert await peer.rest() == b"abc"


async def test_an_announced_length_is_kept_or_the_connection_is_cut(serve: Serve, connect: Connect) -> None:
    def stream(exchange: Exchange) -> None:
        exchange.start(200, length=4)
        exchange.write(b"abcd" if exchange.request.path == "/whole" else b"ab")
        with pytest.raises(ValueError, match="announced length"):
            exchange.write(b"efg")
        exchange.finish()

    server = await serve(stream)
    peer = await connect(server.port)
    peer.send(b"GET /whole HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await peer.answer())[1] == b"abcd"
    peer.send(GET)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await peer.answer()


async def test_head_gets_the_head_of_the_answer_only(serve: Serve, connect: Connect) -> None:
    def handler(exchange: Exchange) -> None:
        if exchange.request.path == "/stream":
            exchange.start(200)
            exchange.write(b"abc")
            exchange.finish()
        else:
            exchange.respond(200, [], b"abc")

    server = await serve(handler)
    peer = await connect(server.port)
    peer.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\nHEAD /stream HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
    assert b"content-length: 3\r\n" in await peer.head()
    assert b"transfer-encoding: chunked\r\n" in await peer.head()
    assert await peer.answer() == (200, b"abc")


async def test_a_client_that_expects_100_is_told_to_continue(serve: Serve, connect: Connect) -> None:
    server = await serve(lambda exchange: exchange.respond(200, [], exchange.request.body))
    peer = await connect(server.port)
    for _ in range(2):
        peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert await peer.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.send(b"abc")
        assert await peer.answer() == (200, b"abc")


async def test_connection_close_is_honoured_and_said(serve: Serve, connect: Connect) -> None:
    server = await serve(lambda exchange: exchange.respond(200))
    peer = await connect(server.port)
    peer.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n")
    assert b"connection: close\r\n" in await peer.head()
    assert await peer.rest() == b""


async def test_a_body_of_5_mb_is_answered_413_although_the_client_sends_it_all(serve: Serve, connect: Connect) -> None:
    server = await serve(lambda exchange: exchange.respond(200))
    peer = await connect(server.port)
    size = 5_000_000
    peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
    await peer.writer.drain()
    status, reason = await peer.answer()
    assert status == 413 and b"4194304 bytes" in reason


async def test_a_head_that_never_ends_is_answered_408(serve: Serve, connect: Connect) -> None:
    server = await serve(lambda exchange: exchange.respond(200), limits=Limits(head_timeout_s=0.1))
    peer = await connect(server.port)
    peer.send(b"GET / HTTP/1.1\r\n")
    assert (await peer.answer())[0] == 408
    assert await peer.rest() == b""


async def test_a_body_that_never_ends_is_answered_408(serve: Serve, connect: Connect) -> None:
    server = await serve(lambda exchange: exchange.respond(200), limits=Limits(body_timeout_s=0.1))
    peer = await connect(server.port)
    peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab")
    assert (await peer.answer())[0] == 408


async def test_an_idle_connection_is_closed_without_a_word(serve: Serve, connect: Connect) -> None:
    server = await serve(lambda exchange: exchange.respond(200), limits=Limits(idle_timeout_s=0.1))
    peer = await connect(server.port)
    peer.send(GET)
    await peer.answer()
    assert await peer.rest() == b""


async def test_connections_beyond_the_limit_are_answered_503(serve: Serve, connect: Connect) -> None:
    server = await serve(lambda exchange: exchange.respond(200), limits=Limits(connections=1))
    first = await connect(server.port)
    first.send(GET)
    assert (await first.answer())[0] == 200
    second = await connect(server.port)
    second.send(GET)
    assert (await second.answer())[0] == 503
    first.send(GET)
    assert (await first.answer())[0] == 200


async def test_those_turned_away_hold_no_place_and_a_crowd_of_them_is_not_told(serve: Serve, connect: Connect) -> None:
    server = await serve(lambda exchange: exchange.respond(200), limits=Limits(connections=1))
    first = await connect(server.port)
    first.send(GET)
    assert (await first.answer())[0] == 200
    crowd = [await connect(server.port) for _ in range(300)]
    told = 0
    for peer in crowd:
        with contextlib.suppress(ConnectionResetError):
            told += (await peer.rest()).startswith(b"HTTP/1.1 503 ")
    assert 200 < told < 300
    assert server.connections == 1
    first.close()
    async with asyncio.timeout(2):
        status = 503
        while status == 503:
            peer = await connect(server.port)
            peer.send(GET)
            with contextlib.suppress(ConnectionResetError, asyncio.IncompleteReadError):
                status = (await peer.answer())[0]
    assert status == 200


async def test_a_client_that_leaves_while_it_waits_is_noticed_at_once(serve: Serve, connect: Connect) -> None:
    waiting, gone = asyncio.Event(), asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        exchange.on_client_gone(gone.set)
        waiting.set()
        await gone.wait()
        assert exchange.client_gone
        exchange.respond(200)  # dropped in silence

    server = await serve(wait)
    peer = await connect(server.port)
    peer.send(GET)
    await within(waiting)
    peer.close()
    await within(gone, 1.0)
    assert await server.drain(1.0) == 0


async def test_a_client_that_leaves_in_mid_stream_ends_drain_with_client_gone(serve: Serve, connect: Connect) -> None:
    ended = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        exchange.start(200)
        try:
            while True:
                exchange.write(b"x" * 65536)
                await exchange.drain()
        except ClientGone:
            ended.set()
            raise

    server = await serve(stream)
    peer = await connect(server.port)
    peer.send(GET)
    await peer.head()
    peer.close()
    await within(ended)


async def test_memory_is_bounded_for_a_client_that_reads_slowly(serve: Serve, connect: Connect) -> None:
    written = 0
    blocked = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        nonlocal written
        exchange.start(200)
        for _ in range(1000):
            exchange.write(b"x" * 65536)
            written += 65536
            if exchange.congested:
                blocked.set()
            await exchange.drain()
        exchange.finish()

    server = await serve(stream)
    reader = socket.create_connection(("127.0.0.1", server.port))
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    reader.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(reader, GET)
    await within(blocked)
    before = written
    for _ in range(100):
        await asyncio.sleep(0)
    assert written == before < 16 * 1024 * 1024  # what the kernel's buffers hold, not what the handler would write
    received = 0
    while received < 1000 * 65536:
        received += len(await loop.sock_recv(reader, 1 << 20))
    reader.close()
    assert written == 1000 * 65536


async def test_a_client_that_stops_reading_is_taken_as_gone(serve: Serve, connect: Connect) -> None:
    gone = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        exchange.on_client_gone(gone.set)
        exchange.start(200)
        while True:
            exchange.write(b"x" * 65536)
            await exchange.drain()

    server = await serve(stream, limits=Limits(stall_timeout_s=0.1))
    reader = socket.create_connection(("127.0.0.1", server.port))
    reader.sendall(GET)
    await within(gone)
    reader.close()


async def test_a_handler_that_fails_is_answered_500_and_the_reason_stays_inside(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(exchange: Exchange) -> None:
        raise RuntimeError("a secret")

    def fail_at_once(exchange: Exchange) -> None:
        raise RuntimeError("a secret")

    for handler in (fail, fail_at_once):
        server = await serve(handler)
        peer = await connect(server.port)
        for _ in range(2):
            peer.send(GET)
            assert await peer.answer() == (500, b"internal error\n")
    assert "a secret" in caplog.text


async def test_a_handler_that_fails_in_mid_stream_cuts_the_connection(serve: Serve, connect: Connect) -> None:
    async def fail(exchange: Exchange) -> None:
        exchange.start(200)
        exchange.write(b"abc")
        raise RuntimeError("broken")

    server = await serve(fail)
    peer = await connect(server.port)
    peer.send(GET)
    received = b""
    try:
        while data := await peer.reader.read(65536):
            received += data
    except ConnectionResetError:
        pass
    assert not received.endswith(b"0\r\n\r\n")


async def test_a_header_field_with_a_line_break_is_refused(serve: Serve, connect: Connect) -> None:
    def split(exchange: Exchange) -> None:
        with pytest.raises(ValueError, match="line break"):
            exchange.respond(200, [(b"x", b"a\r\nset-cookie: b")])
        exchange.respond(204)

    server = await serve(split)
    peer = await connect(server.port)
    peer.send(GET)
    assert (await peer.head()).startswith(b"HTTP/1.1 204 No Content\r\n")


async def test_draining_finishes_what_is_in_flight_and_closes_the_rest(serve: Serve, connect: Connect) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        begun.set()
        await go.wait()
        exchange.respond(200, [], b"done")

    server = await serve(wait)
    port = server.port
    busy, idle = await connect(port), await connect(port)
    busy.send(GET)
    await within(begun)
    server.close_listener()
    draining = asyncio.create_task(server.drain(10.0))
    assert await idle.rest() == b""
    assert server.in_flight == 1
    with pytest.raises(OSError):
        await connect(port)
    go.set()
    assert b"connection: close\r\n" in await busy.head()
    assert await busy.rest() == b"done"
    assert await draining == 0
    assert server.in_flight == 0


async def test_draining_cuts_what_is_not_finished_at_its_deadline(serve: Serve, connect: Connect) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def never(exchange: Exchange) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            assert exchange.client_gone
            cancelled.set()

    server = await serve(never)
    peer = await connect(server.port)
    peer.send(GET + GET)
    await within(begun)
    assert await server.drain(0.05) == 1
    assert cancelled.is_set() and server.in_flight == 0


async def test_a_handler_that_settles_after_its_answer_is_still_in_flight(serve: Serve, connect: Connect) -> None:
    settle = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        exchange.respond(200)
        await settle.wait()

    server = await serve(handler)
    peer = await connect(server.port)
    peer.send(GET)
    await peer.answer()
    assert server.in_flight == 1
    settle.set()
    assert await server.drain(10.0) == 0


async def test_an_inherited_socket_is_served_without_delay_of_small_writes(serve: Serve, connect: Connect) -> None:
    inherited = socket.create_server(("127.0.0.1", 0))
    nodelay: list[bool] = []

    def handler(exchange: Exchange) -> None:
        sock = exchange._connection._transport.get_extra_info("socket")  # type: ignore[union-attr]
        nodelay.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)
        exchange.respond(200)

    server = await serve(handler, sock=inherited)
    peer = await connect(server.port)
    peer.send(GET)
    assert (await peer.answer())[0] == 200
    assert nodelay == [True]


async def test_a_unix_socket_is_served_by_path_and_inherited(serve: Serve) -> None:
    with tempfile.TemporaryDirectory() as folder:
        by_path = os.path.join(folder, "a.sock")
        inherited = socket.socket(socket.AF_UNIX)
        inherited.bind(os.path.join(folder, "b.sock"))
        await serve(lambda exchange: exchange.respond(200, [], b"a"), path=by_path)
        await serve(lambda exchange: exchange.respond(200, [], b"b"), sock=inherited)
        for name in ("a", "b"):
            async with Client(f"unix:{Path(folder) / name}.sock") as client:
                response = await client.request("GET", "/")
                assert await response.read() == name.encode()
