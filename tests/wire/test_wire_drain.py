"""The end of a server: what was begun is finished, and nobody who was let in is turned away."""

from __future__ import annotations

import asyncio

from wire_peer import Connect, Serve

from headrace.wire.exchange import Exchange

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def ok(exchange: Exchange) -> None:
    exchange.respond(200, [], b"ok")


async def test_a_request_that_is_being_received_is_finished(serve: Serve, connect: Connect) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
    for border in (10, len(head) - 2):
        server = await serve(ok)
        peer, witness = await connect(server.port), await connect(server.port)
        witness.send(GET)
        await witness.answer()
        peer.send(head[:border])
        witness.send(GET)
        await witness.answer()  # what was sent before has been read by now
        server.close_listener()
        draining = asyncio.create_task(server.drain(10.0))
        assert await witness.rest() == b""
        assert not draining.done()
        peer.send(head[border:])
        assert b"\r\nconnection: close\r\n" in await peer.head()
        assert await peer.rest() == b"ok"
        assert await draining == 0


async def test_an_idle_connection_may_send_a_last_request_where_time_is_given(serve: Serve, connect: Connect) -> None:
    server = await serve(ok)
    used, fresh = await connect(server.port), await connect(server.port)
    used.send(GET)
    assert (await used.answer())[0] == 200
    server.close_listener()
    draining = asyncio.create_task(server.drain(10.0, last_request_s=10.0))
    await asyncio.sleep(0)
    for peer in (used, fresh):
        peer.send(GET)
        assert b"\r\nconnection: close\r\n" in await peer.head()
        assert await peer.rest() == b"ok"
    assert await draining == 0


async def test_an_idle_connection_is_closed_when_that_time_is_over(serve: Serve, connect: Connect) -> None:
    server = await serve(ok)
    peer = await connect(server.port)
    peer.send(GET)
    await peer.answer()
    server.close_listener()
    assert await server.drain(10.0, last_request_s=0.05) == 0
    assert await peer.rest() == b""


async def test_a_client_that_is_slow_to_read_gets_the_whole_answer(serve: Serve, connect: Connect) -> None:
    body = b"x" * 20_000_000  # more than the kernel keeps
    server = await serve(lambda exchange: exchange.respond(200, [], body))
    peer = await connect(server.port)
    peer.send(GET)
    await peer.head()
    server.close_listener()
    draining = asyncio.create_task(server.drain(20.0))
    await asyncio.wait((draining,), timeout=0.05)
    assert not draining.done()  # else the process would end, and take with it what waits to be read
    received = 0
    while data := await peer.reader.read(1 << 20):
        received += len(data)
    assert received == len(body)
    assert await draining == 0
