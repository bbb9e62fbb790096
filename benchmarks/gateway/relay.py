"""The floor: a bare uvloop TCP relay. Bytes go both ways unread; each client connection has its own to the upstream.

``python relay.py UPSTREAM_PORT`` prints the port that it listens on and serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import cast

import uvloop


class End(asyncio.Protocol):
    """One end of a pair: what it reads, the other one writes."""

    def __init__(self) -> None:
        self.other: End | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.other.transport.write(data)  # type: ignore[union-attr]

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class Client(End):
    """What it reads before its upstream connection stands waits."""

    def __init__(self, upstream_port: int) -> None:
        super().__init__()
        self._upstream_port = upstream_port
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early += data
        else:
            self.other.transport.write(data)  # type: ignore[union-attr]

    async def _connect(self) -> None:
        assert self.transport is not None
        try:
            _, upstream = await asyncio.get_running_loop().create_connection(End, "127.0.0.1", self._upstream_port)
        except OSError:
            self.transport.close()
            return
        upstream.other, self.other = self, upstream
        if self._early:
            self.data_received(self._early)


async def serve(upstream_port: int) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    server = await loop.create_server(lambda: Client(upstream_port), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stopping.wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
