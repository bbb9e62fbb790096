"""One connection to a server: one request at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import httptools

from headrace.wire.errors import ConnectionLost, FirstByteTimeout, ProtocolError, WireError
from headrace.wire.message import Header
from headrace.wire.response import Response

if TYPE_CHECKING:
    from headrace.wire.client import Client

_BUFFER_BYTES = 256 * 1024
"""Reading pauses while more than this waits for a slow reader."""
_HEAD_BYTES = 64 * 1024
"""Read without the end of a head in sight: no answer that we want to buffer."""
STALE_WINDOW_S = 1.0
"""A server that had closed an idle connection says so within a round trip. One that closes later was at work on the
request, and may have died of it."""


class StaleConnection(ConnectionLost):
    """A reused connection was closed before a byte of the answer came: the server had closed it while it was idle."""


class ClientConnection(asyncio.Protocol):
    def __init__(self, client: Client, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._reused = False  # it has carried an answer before this request
        self._reuse = False  # it may carry another request after this one
        self._paused = False
        self._eof = False
        self._response: Response | None = None
        self._head: asyncio.Future[Response] | None = None  # waits for the head of the answer
        self._timer: asyncio.TimerHandle | None = None
        self.idle_since = 0.0
        self._sent_at = 0.0
        self._reset("")

    def _reset(self, method: str) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._method = method
        self._fields: list[Header] = []
        self._pieces: list[bytes] = []
        self._any_byte = False
        self._head_bytes = 0
        self._head_done = False
        self._framed = False
        self._done = False
        self._surplus = False

    @property
    def usable(self) -> bool:
        """Idle and open, as far as anybody can know."""
        return self._transport is not None and not self._transport.is_closing() and not self._eof

    async def exchange(
        self, method: str, payload: bytes, *, reuse: bool, first_byte_timeout_s: float | None
    ) -> Response:
        """Send a request and wait for the head of its answer."""
        if self._transport is None:
            raise StaleConnection("the connection was closed while it was idle")
        self._reset(method)
        self._reuse = reuse
        response = self._response = Response(self)
        self._head = self._loop.create_future()
        if first_byte_timeout_s is not None:
            self._timer = self._loop.call_later(first_byte_timeout_s, self._first_byte_late, first_byte_timeout_s)
        self._sent_at = self._loop.time()
        self._transport.write(payload)
        try:
            return await self._head
        except asyncio.CancelledError:
            response.close()
            raise

    def abandon(self) -> None:
        """The reader wants no more: a closed connection is how HTTP/1.1 cancels."""
        self._fail(ConnectionLost("closed here"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def resume_reading(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            self.close()  # bytes that nobody asked for
            return
        self._any_byte = True
        if not self._head_done:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._done:
                self._fail(ProtocolError(f"the answer is not HTTP/1.1: {error}"))
                return
            self._surplus = True
        if not self._head_done:
            if self._head_bytes > _HEAD_BYTES:
                self._fail(ProtocolError(f"the head of the answer does not end within {_HEAD_BYTES} bytes"))
            return
        self._deliver(response)

    def eof_received(self) -> bool:
        self._eof = True
        if self._response is not None and self._head_done and not self._framed and not self._done:
            self._done = True  # the end of the connection is the end of such a body
            self._reuse = False
            self._deliver(self._response)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._client.forget(self)
        if self._reused and not self._any_byte and self._loop.time() - self._sent_at < STALE_WINDOW_S:
            self._fail(StaleConnection("the connection was closed while it was idle"))
        else:
            self._fail(ConnectionLost("the server closed the connection before the answer was complete"))

    # The parser's side.

    def on_message_begin(self) -> None:
        self._surplus = self._done  # a second answer to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._done:
            self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._done or self._parser.get_status_code() < 200:
            return
        self._head_done = True
        self._framed = any(name in (b"content-length", b"transfer-encoding") for name, _ in self._fields)
        if self._method == "HEAD":
            self._done = self._framed = True

    def on_body(self, data: bytes) -> None:
        if not self._done:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        if self._done:
            return
        if self._head_done:
            self._done = True
            self._reuse = self._reuse and self._parser.should_keep_alive()
        else:
            self._fields.clear()  # an interim answer (1xx)

    # Inside.

    def _deliver(self, response: Response) -> None:
        """Hand on what one read from the socket has brought."""
        pieces, self._pieces = self._pieces, []
        if pieces or self._done:
            self._cancel_timer()
        if self._head is not None:
            response.status = self._parser.get_status_code()
            response.headers = self._fields
            head, self._head = self._head, None
            if not head.done():
                head.set_result(response)
        response.arrived(pieces, complete=self._done)
        if self._done:
            self._response = None
            self._finish()
        elif response.buffered > _BUFFER_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _finish(self) -> None:
        """The answer is complete: keep the connection for the next request, or close it."""
        self.resume_reading()
        if self._reuse and not self._surplus and self.usable:
            self._reused = True
            self.idle_since = self._loop.time()
            self._client.keep(self)
        else:
            self.close()

    def _fail(self, error: WireError) -> None:
        self._cancel_timer()
        response, self._response = self._response, None
        head, self._head = self._head, None
        if response is not None:
            response.failed(error)
        if head is not None and not head.done():
            head.set_exception(error)
        self.close()

    def _first_byte_late(self, seconds: float) -> None:
        self._timer = None
        self._fail(FirstByteTimeout(f"no byte of the answer's body within {seconds:g} s"))

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
