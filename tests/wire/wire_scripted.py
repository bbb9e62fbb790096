"""A server whose every byte a test decides."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from headrace.wire.client import Client

ClientOf = Callable[..., Client]
Script = Callable[["Wire"], Awaitable[None]]
"""What a server does with one connection."""
ScriptedOf = Callable[[Script], Awaitable["Scripted"]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Wire:
    """The server's end of one connection, byte by byte."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """Head and body of the next request; IncompleteReadError where the client has closed."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = [int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
        return head + await self.reader.readexactly(length[0] if length else 0)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer_all(self) -> None:
        while True:
            await self.request()
            await self.send(OK)


class Scripted:
    def __init__(self) -> None:
        self.connections = 0
        self.port = 0
        self.closed: asyncio.Queue[int] = asyncio.Queue()
        """Numbers of the connections whose script ended because the client closed."""

    async def start(self, script: Script) -> asyncio.Server:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            number = self.connections
            try:
                await script(Wire(number, reader, writer))
            except (asyncio.IncompleteReadError, ConnectionError):
                self.closed.put_nowait(number)
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server
