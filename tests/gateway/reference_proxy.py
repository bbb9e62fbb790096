"""A reverse proxy as one writes it with aiohttp in an afternoon, and a server with scripted answers behind it: what a
gateway is compared with. It shares no code with Headrace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import h11
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect")
)
LARGE = 1 << 16


@dataclass
class Message:
    """A request or an answer, as one who reads it sees it."""

    headers: list[tuple[str, str]]
    """Names in lower case."""
    body: bytes
    status: int = 0
    method: str = ""
    target: str = ""


@dataclass
class Upstream:
    """Answers every request with the same bytes, in these pieces; ``closes`` where the connection ends with them."""

    answer: Sequence[bytes] = ()
    closes: bool = False
    asked: list[Message] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        try:
            while (request := await read(connection, reader)) is not None:
                self.asked.append(request)
                for piece in self.answer:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)  # so that pieces arrive as they were cut
                if self.closes:
                    break
                connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        except (ConnectionError, h11.RemoteProtocolError):
            pass
        finally:
            writer.close()


async def read(connection: h11.Connection, reader: asyncio.StreamReader) -> Message | None:
    """One message; None where the other side has closed instead. Raises h11.RemoteProtocolError."""
    message: Message | None = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(LARGE))
        elif isinstance(event, h11.Request | h11.Response):
            message = Message([(name.decode(), value.decode("latin-1")) for name, value in event.headers], b"")
            if isinstance(event, h11.Request):
                message.method, message.target = event.method.decode(), event.target.decode()
            else:
                message.status = event.status_code
        elif isinstance(event, h11.Data):
            assert message is not None
            message.body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return message
        elif isinstance(event, h11.ConnectionClosed):
            return None


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, data: bytes) -> Message:
    """Send the bytes of one request, and read the answer to it."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    writer.write(data)
    async with asyncio.timeout(20):
        answer = await read(connection, reader)
    assert answer is not None
    return answer


def passed_on(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    """Without what belongs to one connection only (RFC 9110 7.6.1)."""
    named = {option.strip().lower() for value in headers.getall("connection", []) for option in value.split(",")}
    return CIMultiDict((n, v) for n, v in headers.items() if n.lower() not in HOP_BY_HOP | named | {"date"})


@asynccontextmanager
async def reference_proxy(origin: Path | str) -> AsyncIterator[int]:
    """Port of a proxy to a Unix socket, or to ``http://host:port``."""
    connector = aiohttp.UnixConnector(str(origin)) if isinstance(origin, Path) else aiohttp.TCPConnector()
    base = "http://localhost" if isinstance(origin, Path) else origin
    session = aiohttp.ClientSession(
        connector=connector, auto_decompress=False, max_line_size=LARGE, max_field_size=LARGE, raise_for_status=False
    )

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        headers = passed_on(CIMultiDict(request.headers))
        body = await request.read()
        headers.pop("content-length", None)
        target = request.raw_path if request.raw_path.startswith("/") else request.url.raw_path_qs
        url = URL(base + target, encoded=True)
        async with session.request(
            request.method, url, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            response = web.StreamResponse(status=answer.status, headers=passed_on(CIMultiDict(answer.headers)))
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            return response

    server = web.Server(handle, max_line_size=LARGE, max_field_size=LARGE)
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
        await session.close()
