"""The least that is still an HTTP proxy: httptools on both sides, a pool of upstream connections, bytes as they arrive.

It has no limits, no time-outs, no back-pressure and no defence against malformed requests.
``python httptools_proxy.py UPSTREAM_PORT`` prints the port that it listens on and serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import cast

import httptools
import uvloop


class Upstream(asyncio.Protocol):
    """A connection to the upstream; its answer goes to the client that has it."""

    def __init__(self, pool: list[Upstream]) -> None:
        self.pool = pool
        self.client: Client | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        client = self.client
        self.parser.feed_data(data)
        if client is not None:
            client.transport.write(data)

    def on_message_complete(self) -> None:
        self.client = None
        self.pool.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self.pool:
            self.pool.remove(self)
        if self.client is not None:
            self.client.transport.close()


class Client(asyncio.Protocol):
    """A client's connection; each request takes an upstream connection from the pool, or a new one."""

    def __init__(self, upstream_port: int, pool: list[Upstream]) -> None:
        self.upstream_port = upstream_port
        self.pool = pool
        self.pieces: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        request = b"".join(self.pieces)
        self.pieces.clear()
        if self.pool:
            self.send(self.pool.pop(), request)
        else:
            self.connecting = asyncio.get_running_loop().create_task(self.connect(request))

    async def connect(self, request: bytes) -> None:
        _, upstream = await asyncio.get_running_loop().create_connection(
            lambda: Upstream(self.pool), "127.0.0.1", self.upstream_port
        )
        self.send(upstream, request)

    def send(self, upstream: Upstream, request: bytes) -> None:
        upstream.client = self
        upstream.transport.write(request)


async def serve(upstream_port: int) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    pool: list[Upstream] = []
    server = await loop.create_server(lambda: Client(upstream_port, pool), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stopping.wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
