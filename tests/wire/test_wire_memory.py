"""What a server keeps for one connection is bounded, whatever its client does."""

from __future__ import annotations

import asyncio
import socket

from wire_peer import Serve

from headrace.wire.exchange import Exchange

GET = b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"a" * 2000)
KERNEL_BYTES = 16 * 1024 * 1024
"""More than the kernel's own buffers of one connection hold."""


async def fill(loop: asyncio.AbstractEventLoop, sock: socket.socket, data: bytes) -> int:
    """Send until the server has taken nothing more for a while; how much it was."""
    sent = 0
    while sent < 2 * KERNEL_BYTES:
        try:
            sent += sock.send(data[sent % len(data) :])
        except BlockingIOError:
            writable = loop.create_future()
            loop.add_writer(sock, lambda writable=writable: writable.done() or writable.set_result(None))
            try:
                async with asyncio.timeout(0.5):
                    await writable
            except TimeoutError:
                break
            finally:
                loop.remove_writer(sock)
    return sent


async def test_requests_sent_ahead_by_a_client_that_reads_nothing_are_left_in_the_kernel(serve: Serve) -> None:
    server = await serve(lambda exchange: exchange.respond(200, [], b"x" * 1000))
    loop = asyncio.get_running_loop()
    client = socket.create_connection(("127.0.0.1", server.port))
    client.setblocking(False)
    sent = await fill(loop, client, GET)
    assert sent < KERNEL_BYTES
    # It was only held up: all that it asked is answered once it reads.
    await loop.sock_sendall(client, GET[sent % len(GET) :])
    requests = sent // len(GET) + 1
    tail = b""
    answers = 0
    async with asyncio.timeout(60):
        while answers < requests:
            received = await loop.sock_recv(client, 1 << 20)
            answers += (tail + received).count(b"HTTP/1.1 200") - tail.count(b"HTTP/1.1 200")
            tail = received[-11:]
    client.close()


async def test_requests_sent_ahead_of_one_that_takes_long_are_left_in_the_kernel(serve: Serve) -> None:
    async def never(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    server = await serve(never)
    loop = asyncio.get_running_loop()
    client = socket.create_connection(("127.0.0.1", server.port))
    client.setblocking(False)
    assert await fill(loop, client, GET) < KERNEL_BYTES
    client.close()
