"""One request on its way to a server, and its answer on its way back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from headrace.wire.errors import ConnectFailed, ConnectionLost, StaleConnection, WireError
from headrace.wire.event_relay import EventRelay
from headrace.wire.message import Header

if TYPE_CHECKING:
    from headrace.wire.client import Client
    from headrace.wire.client_connection import ClientConnection


class Reader(Protocol):
    """Takes an answer as it arrives. Called by the event loop: it must neither wait nor raise.

    ``head``, then ``body`` until one is ``last``; or ``failed`` at any point, and then nothing more.
    """

    def head(self, status: int, headers: list[Header]) -> None:
        """Names of ``headers`` are in lower case."""
        ...

    def body(self, data: bytes, framed: bytes | None, last: bool) -> None:
        """What one read from the socket has brought, transfer coding removed; only the last may be empty.

        ``framed``: the same bytes in chunked coding, exactly as they came, where they are whole chunks.
        """
        ...

    def failed(self, error: WireError) -> None:
        """Nothing more will come."""
        ...


class Transfer:
    """Made by ``Client.send``."""

    __slots__ = ("_client", "_connecting", "_connection", "_payload", "_retried", "method", "reader", "relay", "reuse")

    def __init__(self, client: Client, method: str, payload: bytes, reader: Reader, *, reuse: bool) -> None:
        self.method = method
        self.reader = reader
        self.relay: EventRelay | None = None
        """Takes the events that the reader need not see, once there is one."""
        self.reuse = reuse
        """The connection may carry another request after this one."""
        self._client = client
        self._payload = payload
        self._connection: ClientConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._retried = False

    def cancel(self) -> None:
        """Close the connection, which is how HTTP/1.1 cancels; once the answer is complete, nothing. The reader hears
        nothing more."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon(self)

    def pause(self) -> None:
        """Read no more from the server until ``resume``."""
        if self._connection is not None:
            self._connection.pause(self)

    def resume(self) -> None:
        if self._connection is not None:
            self._connection.resume(self)

    # The client's and the connection's side.

    def answered(self) -> None:
        """The head of the answer is there: the request will not be sent again."""
        self._payload = b""

    def begin(self, kept: ClientConnection | None) -> None:
        """On a connection that was kept, or on a new one."""
        if kept is not None:
            self._connection = kept
            kept.send(self, self._payload)
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def lost(self, error: WireError) -> None:
        """The connection is gone before the answer was complete."""
        self._connection = None
        if isinstance(error, StaleConnection) and not self._retried:
            self._retried = True
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
        else:
            self.reader.failed(error)

    async def _connect(self) -> None:
        try:
            connection = await self._client.connect()
        except ConnectFailed as error:
            self._connecting = None
            # ConnectFailed says that nothing was sent; before a retry something was.
            stale = f"the connection was closed while it was idle, and {error}"
            self.reader.failed(ConnectionLost(stale) if self._retried else error)
        else:
            self._connecting = None
            self._connection = connection
            connection.send(self, self._payload)
