"""An answer as it arrives, with bounded memory when its reader is slow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headrace.wire.errors import ProtocolError, WireError
from headrace.wire.message import Header, first

if TYPE_CHECKING:
    from headrace.wire.client_connection import ClientConnection


class Response:
    """Status, headers, and the body by ``async for``: all that arrived meanwhile comes as one piece.

    Read it to the end or ``close`` it; ``async with`` does the latter.
    """

    __slots__ = (
        "_buffered",
        "_connection",
        "_error",
        "_pieces",
        "_waiter",
        "complete",
        "headers",
        "status",
    )

    def __init__(self, connection: ClientConnection) -> None:
        self.status = 0
        self.headers: list[Header] = []
        """Names in lower case."""
        self.complete = False
        """The whole body has arrived (and may wait to be read)."""
        self._connection = connection
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._error: WireError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def header(self, name: bytes) -> bytes | None:
        """Value of the first field with this lower-case name."""
        return first(self.headers, name)

    def __aiter__(self) -> Response:
        return self

    async def __anext__(self) -> bytes:
        """The bytes that have arrived, transfer coding removed. Raises WireError once those before it were read."""
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self.complete:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._buffered = 0
        if not self.complete:
            self._connection.resume_reading()
        return data

    async def read(self, limit: int = 16 * 1024 * 1024) -> bytes:
        """The rest of the body. Raises ProtocolError and closes beyond ``limit`` bytes."""
        pieces: list[bytes] = []
        size = 0
        async for piece in self:
            size += len(piece)
            if size > limit:
                self.close()
                raise ProtocolError(f"the answer's body exceeds {limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Cancel: close the connection at once, unless the answer is complete already. What has arrived is dropped."""
        self._pieces.clear()
        self._buffered = 0
        if not self.complete and self._error is None:
            self._connection.abandon()

    async def __aenter__(self) -> Response:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    # The connection's side.

    @property
    def buffered(self) -> int:
        """Bytes that arrived and were not read."""
        return self._buffered

    def arrived(self, pieces: list[bytes], *, complete: bool) -> None:
        """Body bytes of one read from the socket."""
        if pieces:
            self._pieces.append(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            self._buffered += len(self._pieces[-1])
        self.complete = complete
        self._wake()

    def failed(self, error: WireError) -> None:
        """Nothing more will come."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
