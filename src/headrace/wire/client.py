"""An HTTP/1.1 client for one server, with a pool of kept connections. It follows no redirect."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from urllib.parse import urlsplit

from headrace.wire.client_connection import ClientConnection
from headrace.wire.errors import ConnectFailed, ConnectionLost, ProtocolError, WireError
from headrace.wire.message import Header, field_lines, first
from headrace.wire.response import Response
from headrace.wire.tls import client_context
from headrace.wire.transfer import Reader, Transfer

__all__ = [
    "Client",
    "ConnectFailed",
    "ConnectionLost",
    "ProtocolError",
    "Reader",
    "Response",
    "Transfer",
    "WireError",
]

PORTS = {"http": 80, "https": 443}


class Client:
    """Requests to one origin: ``http://host:port``, ``https://host:port`` or ``unix:/path``. Belongs to the running
    event loop."""

    def __init__(
        self,
        origin: str,
        *,
        connect_timeout_s: float = 5.0,
        idle_s: float = 30.0,
        max_idle: int = 64,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Raises ValueError for another kind of origin.

        ``connect_timeout_s``: TLS included. ``tls``: for https; the system's authorities where None.
        ``idle_s``: a connection idle for longer is not used again; servers close theirs, and both at once is a race.
        """
        self.origin = origin
        self._connect_timeout_s = connect_timeout_s
        self._idle_s = idle_s
        self._max_idle = max_idle
        self._path, self._host, self._port = _parse_origin(origin)
        self._tls = (tls or client_context()) if origin.startswith("https:") else None
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.authority = f"{host}:{self._port}".encode() if self._path is None else b"localhost"
        """For the Host field."""
        self._idle: list[ClientConnection] = []  # the last one used comes first: the rest can age and go
        self._open: set[ClientConnection] = set()
        self._closed = False

    def send(self, method: str, payload: bytes, reader: Reader, *, reuse: bool = True) -> Transfer:
        """Send a request; ``reader`` takes the answer as it arrives.

        ``payload``: head and body as they go on the line, from ``payload`` or of the caller's own making.
        ``reuse=False`` asks for a connection that nothing else will use; the head must say ``connection: close`` then.
        A kept connection that turns out to have been closed while it was idle costs one retry on a new one.
        """
        transfer = Transfer(self, method, payload, reader, reuse=reuse)
        transfer.begin(self._take() if reuse and self._idle else None)
        return transfer

    async def request(
        self, method: str, target: str, headers: Sequence[Header] = (), body: bytes = b"", *, reuse: bool = True
    ) -> Response:
        """Send a request; returns when the head of the answer is there.

        Raises ConnectFailed, ConnectionLost or ProtocolError. Cancelling it closes the connection.
        """
        response = Response()
        payload = self.payload(method, target, headers, body, reuse=reuse)
        return await response.begun(self.send(method, payload, response, reuse=reuse))

    async def close(self) -> None:
        """Close every connection; answers in progress end with ConnectionLost."""
        self._closed = True
        for connection in list(self._open):
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)  # lets the transports report their end

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def payload(self, method: str, target: str, headers: Sequence[Header], body: bytes, *, reuse: bool) -> bytes:
        """A request as it goes on the line.

        ``target``: path and query as they are. Framing fields among ``headers`` are left out, and Host is added where
        it is missing. Raises ValueError for a line break where none may be.
        """
        line = f"{method} {target} HTTP/1.1\r\n".encode("ascii")
        if line.count(b" ") != 2 or line.count(b"\n") != 1 or line.count(b"\r") != 1:
            raise ValueError("method and target must not contain blanks or line breaks")
        fields = field_lines(headers)
        if first(headers, b"host") is None:
            fields += b"host: %b\r\n" % self.authority
        if body or method not in ("GET", "HEAD"):
            fields += b"content-length: %d\r\n" % len(body)
        if not reuse:
            fields += b"connection: close\r\n"
        return b"%b%b\r\n%b" % (line, fields, body)

    # The transfers' side.

    async def connect(self) -> ClientConnection:
        """A new connection. Raises ConnectFailed."""
        if self._closed:
            raise ConnectFailed(f"the client of {self.origin} is closed")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                if self._path is not None:
                    _, connection = await loop.create_unix_connection(lambda: ClientConnection(self), self._path)
                else:
                    _, connection = await loop.create_connection(
                        lambda: ClientConnection(self), self._host, self._port, ssl=self._tls
                    )
        except TimeoutError:
            raise ConnectFailed(f"no connection to {self.origin} within {self._connect_timeout_s:g} s") from None
        except OSError as error:
            raise ConnectFailed(f"no connection to {self.origin}: {error.strerror or error}") from error
        self._open.add(connection)
        return connection

    def _take(self) -> ClientConnection | None:
        oldest = monotonic() - self._idle_s
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.idle_since >= oldest:
                return connection
            connection.close()
        return None

    # The connections' side.

    def keep(self, connection: ClientConnection) -> None:
        """Its answer is complete: it may carry the next request."""
        if self._closed or len(self._idle) >= self._max_idle:
            connection.close()
        else:
            self._idle.append(connection)

    def forget(self, connection: ClientConnection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


def _parse_origin(origin: str) -> tuple[str | None, str, int]:
    """(Unix path or None, host, port)."""
    if origin.startswith("unix:"):
        return origin.removeprefix("unix:"), "", 0
    parts = urlsplit(origin)
    if parts.scheme not in PORTS or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ValueError(f"an origin is http://host:port, https://host:port or unix:/path, not {origin!r}")
    return None, parts.hostname, parts.port or PORTS[parts.scheme]
