"""An answer as it arrives, for a reader that waits; with bounded memory when it is slow."""

from __future__ import annotations

import asyncio

from headrace.wire.errors import ConnectionLost, ProtocolError, WireError
from headrace.wire.message import Header, first
from headrace.wire.transfer import Transfer

_BUFFER_BYTES = 256 * 1024
"""Reading pauses while more than this waits for a slow reader."""


class Response:
    """Status, headers, and the body by ``async for``: all that arrived meanwhile comes as one piece.

    Read it to the end or ``close`` it; ``async with`` does the latter.
    """

    __slots__ = ("_buffered", "_error", "_pieces", "_transfer", "_waiter", "complete", "headers", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[Header] = []
        """Names in lower case."""
        self.complete = False
        """The whole body has arrived (and may wait to be read)."""
        self._transfer: Transfer | None = None
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
            await self._wait()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._buffered = 0
        if self._transfer is not None and not self.complete:
            self._transfer.resume()
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
            self._error = ConnectionLost("closed here")
            if self._transfer is not None:
                self._transfer.cancel()
            self._wake()

    async def __aenter__(self) -> Response:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    @property
    def buffered(self) -> int:
        """Bytes that arrived and were not read."""
        return self._buffered

    # The client's side.

    async def begun(self, transfer: Transfer) -> Response:
        """Itself, when the head is there. Raises WireError. Cancelling it closes the connection."""
        self._transfer = transfer
        try:
            while not self.status:
                if self._error is not None:
                    raise self._error
                await self._wait()
        except asyncio.CancelledError:
            self.close()
            raise
        return self

    # The reader of a transfer.

    def head(self, status: int, headers: list[Header]) -> None:
        """See ``transfer.Reader``."""
        self.status = status
        self.headers = headers
        self._wake()

    def body(self, data: bytes, framed: bytes | None, last: bool) -> None:
        """See ``transfer.Reader``."""
        if data:
            self._pieces.append(data)
            self._buffered += len(data)
        self.complete = last
        if self._buffered > _BUFFER_BYTES and not last and self._transfer is not None:
            self._transfer.pause()
        self._wake()

    def failed(self, error: WireError) -> None:
        """See ``transfer.Reader``."""
        self._error = error
        self._wake()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
