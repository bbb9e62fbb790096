"""One connection to a server: one request at a time."""

from __future__ import annotations

import asyncio
import socket
from time import monotonic
from typing import TYPE_CHECKING, Literal, cast

from headrace.wire.chunked import ChunkedDecoder, whole_chunk
from headrace.wire.errors import ConnectionLost, ProtocolError, StaleConnection, WireError
from headrace.wire.event_relay import EventRelay
from headrace.wire.response_head import read_head
from headrace.wire.transfer import Transfer

if TYPE_CHECKING:
    from headrace.wire.client import Client

_HEAD_BYTES = 64 * 1024
"""Read without the end of a head in sight: no answer that we want to buffer."""
_BEGINNING = b"HTTP/1."
STALE_WINDOW_S = 1.0
"""A server that had closed an idle connection says so within a round trip. One that closes later was at work on the
request, and may have died of it."""

Phase = Literal["idle", "head", "length", "chunked", "until_close"]


class ClientConnection(asyncio.Protocol):
    __slots__ = (
        "_buffer",
        "_chunked",
        "_client",
        "_fast",
        "_left",
        "_paused",
        "_phase",
        "_reused",
        "_sent_at",
        "_transfer",
        "_transport",
        "idle_since",
    )

    def __init__(self, client: Client) -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._transfer: Transfer | None = None
        self._phase: Phase = "idle"
        self._buffer = b""  # of a head that is not complete
        self._left = 0  # of a body whose length was announced
        self._chunked: ChunkedDecoder | None = None
        self._fast: EventRelay | None = None  # where the next read may go past the reader
        self._reused = False  # it has carried an answer before this request
        self._paused = False
        self._sent_at = 0.0
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        """Idle and open, as far as anybody can know."""
        return self._transport is not None and self._phase == "idle" and not self._transport.is_closing()

    def send(self, transfer: Transfer, payload: bytes) -> None:
        """Begin with a request; the connection is its own until the answer is complete."""
        self._transfer = transfer
        if self._transport is None:
            self._fail(StaleConnection("the connection was closed while it was idle"))
            return
        self._phase = "head"
        self._sent_at = monotonic()
        self._transport.write(payload)

    def abandon(self, transfer: Transfer) -> None:
        """Nobody reads this answer any more."""
        if self._transfer is transfer:
            self._transfer = self._fast = None
            self.close()

    def pause(self, transfer: Transfer) -> None:
        if self._transfer is transfer and self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self, transfer: Transfer) -> None:
        if self._transfer is transfer:
            self._unpause()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        fast = self._fast
        # One chunk, of whole events of JSON, none of them marked: nearly every read of a stream.
        if (
            fast is not None
            and whole_chunk(data)
            and data.endswith(b"}\n\n\r\n")
            and data.find(fast.mark) < 0  # by far quicker than ``in``, which first tries bytes as a number
        ):
            fast.events += data.count(b"\n\n")
            fast.write(data)
            return
        transfer = self._transfer
        if transfer is None:
            self.close()  # bytes that nobody asked for, or not any more
            return
        chunked = self._chunked
        try:
            if chunked is not None:
                body, framed = chunked.feed(data)
                if chunked.complete:
                    self._complete(transfer, body, framed, clean=not chunked.surplus)
                else:
                    if body:
                        transfer.reader.body(body, framed, False)
                    relay = transfer.relay
                    self._fast = relay if relay is not None and relay.ready and chunked.at_border else None
            elif self._phase == "head":
                self._read_head(transfer, data)
            else:
                self._read_body(transfer, data)
        except ProtocolError as error:
            self._fail(error)

    def eof_received(self) -> bool:
        if self._phase == "until_close" and self._transfer is not None:
            self._complete(self._transfer, b"", None, clean=False)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._client.forget(self)
        if self._reused and self._phase == "head" and not self._buffer and monotonic() - self._sent_at < STALE_WINDOW_S:
            self._fail(StaleConnection("the connection was closed while it was idle"))
        else:
            self._fail(ConnectionLost("the server closed the connection before the answer was complete"))

    # Inside.

    def _read_head(self, transfer: Transfer, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        while True:
            if not _BEGINNING.startswith(data[: len(_BEGINNING)]):
                raise ProtocolError("the answer is not HTTP/1.1")
            end = data.find(b"\r\n\r\n") + 4
            if end < 4 or end > _HEAD_BYTES:
                break
            status = self._parse_head(transfer, data[:end])
            data = data[end:]
            if status >= 200:
                self._buffer = b""
                if self._phase == "idle":
                    self._phase = "length"
                    self._complete(transfer, b"", None, clean=not data)
                elif data:
                    self.data_received(data)
                return
        self._buffer = data
        if len(data) > _HEAD_BYTES:
            raise ProtocolError(f"the head of the answer does not end within {_HEAD_BYTES} bytes")

    def _parse_head(self, transfer: Transfer, data: bytes) -> int:
        """The status; sets the phase that follows, ``idle`` where there is no body."""
        head = read_head(data)
        status = head.status
        if status < 200:
            return status
        transfer.reuse = transfer.reuse and head.keep_alive
        if transfer.method == "HEAD" or status in (204, 304):
            self._phase = "idle"
        elif head.chunked:
            self._phase, self._chunked = "chunked", ChunkedDecoder()
        elif head.length is not None:
            self._left = head.length
            self._phase = "length" if self._left else "idle"
        else:
            self._phase = "until_close"
            transfer.reuse = False
        transfer.answered()
        transfer.reader.head(status, head.fields)
        return status

    def _read_body(self, transfer: Transfer, data: bytes) -> None:
        if self._phase == "until_close":
            transfer.reader.body(data, None, False)
            return
        self._left -= len(data)
        if self._left > 0:
            transfer.reader.body(data, None, False)
        elif self._left == 0:
            self._complete(transfer, data, None, clean=True)
        else:
            self._complete(transfer, data[: self._left], None, clean=False)

    def _complete(self, transfer: Transfer, body: bytes, framed: bytes | None, *, clean: bool) -> None:
        """The last of an answer. The connection is free before the reader hears of it, so that the reader can use it.

        ``clean``: nothing came after the answer.
        """
        if self._transfer is not transfer:
            return  # its reader has cancelled it
        self._transfer = self._fast = None
        self._phase = "idle"
        self._chunked = None
        self._unpause()
        if transfer.reuse and clean and self.usable:
            self._reused = True
            self.idle_since = monotonic()
            self._client.keep(self)
        else:
            self.close()
        transfer.reader.body(body, framed, True)

    def _unpause(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def _fail(self, error: WireError) -> None:
        transfer, self._transfer = self._transfer, None
        self._fast = None
        self.close()
        if transfer is not None:
            transfer.lost(error)
