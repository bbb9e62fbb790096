"""One client's connection: requests in order, one at a time, each with its time limits."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, cast

from headrace.wire.exchange import ClientGone, Exchange
from headrace.wire.message import date_line, field_lines, status_line
from headrace.wire.request_parser import BadRequest, RequestParser

if TYPE_CHECKING:
    from headrace.wire.server import Server

log = logging.getLogger(__name__)

Phase = Literal["idle", "head", "body", "answer", "lingering"]

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINGER_S = 5.0
_LINGER_BYTES = 64 * 1024 * 1024
"""After an early answer the rest of the request is read and dropped up to here: closing a socket with unread bytes
resets it, and the client would never see the answer."""
_READ_AHEAD_BYTES = 64 * 1024
"""Pipelined bytes kept while a request is answered. Reading goes on until then, because a closed connection shows only
to a reader."""


class ServerConnection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser = RequestParser(server.limits)
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._advancing = False
        self._reading_paused = False
        self._writable: asyncio.Future[None] | None = None
        self._lingered = 0
        self._phase: Phase = "idle"
        self._deadline: float | None = None
        self.write_paused = False

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._server.limits.write_buffer_bytes)
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio forgets it on inherited sockets
        if not self._server.admits(self):
            if self._server.turns_away_in_silence:
                self._transport.abort()
            else:
                self._refuse(BadRequest(503, f"more than {self._server.limits.connections} connections are open"))
            return
        self._enter("idle")

    def data_received(self, data: bytes) -> None:
        if self._phase == "lingering":
            self._lingered += len(data)
            if self._lingered > _LINGER_BYTES and self._transport is not None:
                self._transport.abort()
            return
        self._parser.feed(data)
        if self._exchange is None and not self.write_paused:
            self._advance()
        elif self._parser.buffered > _READ_AHEAD_BYTES and not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        if self._exchange is not None and self._transport is not None:
            # A client that has closed cannot be told from one that has only finished sending; nobody sends
            # requests half-closed, and an answer that nobody reads must not hold a slot.
            self._leave()
            self._transport.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._deadline = None
        self._leave()
        self._server.forget(self)

    def pause_writing(self) -> None:
        self.write_paused = True
        self._deadline = self._server.now() + self._server.limits.stall_timeout_s
        if self._exchange is not None:
            self._exchange.congestion(True)

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._phase == "answer":
            self._deadline = None
        self._wake_writer()
        if self._exchange is not None:
            self._exchange.congestion(False)
        if self._exchange is None:
            self._go_on()

    # The exchange's side.

    @property
    def closing(self) -> bool:
        return self._server.draining

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    @property
    def transport_write(self) -> Callable[[bytes], None] | None:
        """Writes as ``write`` does, as long as the client has not left."""
        return None if self._transport is None else self._transport.write

    async def writable(self) -> None:
        """Until the write buffer has room or the connection is lost."""
        if self._writable is None:
            self._writable = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._writable)

    def answer_complete(self, exchange: Exchange) -> None:
        self._exchange = None
        if exchange.handler_over:
            self._server.exchange_over()
        if self._transport is None:
            return
        if not exchange.keep_alive or self._server.draining:
            self._transport.close()
            return
        if not self._advancing:
            self._go_on()

    def end_exchange(self, exchange: Exchange, *, send_what_was_written: bool) -> None:
        """Its answer stays incomplete, so the connection ends with it."""
        self._exchange = None
        if exchange.handler_over:
            self._server.exchange_over()
        if self._transport is not None:
            if send_what_was_written:
                self._transport.close()
            else:
                self._transport.abort()

    # The server's side.

    def check_deadline(self, now: float) -> None:
        """Act on a time limit that has passed; the server calls this about once a second."""
        if self._deadline is None or now < self._deadline or self._transport is None:
            return
        self._deadline = None
        limits = self._server.limits
        if self._phase == "head":
            self._refuse(BadRequest(408, f"the request head was not complete within {limits.head_timeout_s:g} s"))
        elif self._phase == "body":
            self._refuse(BadRequest(408, f"the request body was not complete within {limits.body_timeout_s:g} s"))
        else:
            self.abort()

    def close_if_idle(self) -> None:
        """Close it unless a request is being received or answered."""
        if self._exchange is None and self._phase in ("idle", "answer") and self._transport is not None:
            self._transport.close()

    def shut(self) -> None:
        """Cut what is in progress, close what is not; an answer that is complete still goes out."""
        if self._exchange is not None or self._phase == "lingering":
            self.abort()
        elif self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        self._leave()
        if self._transport is not None:
            self._transport.abort()

    # Inside.

    def _go_on(self) -> None:
        """After an answer, or once the client has read enough of it."""
        if self.write_paused or self._transport is None:
            return
        self._advance()
        if self._reading_paused and self._exchange is None and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()

    def _advance(self) -> None:
        """Take requests from the buffer, as long as each is answered at once."""
        self._advancing = True
        try:
            while self._exchange is None and not self.write_paused and self._transport is not None:
                if self._transport.is_closing():
                    return
                request = self._parser.next()
                if request is None:
                    if self._parser.take_continue():
                        self._transport.write(_CONTINUE)
                    self._enter("body" if self._parser.in_body else "head" if self._parser.buffered else "idle")
                    return
                self._enter("answer")
                self._exchange = Exchange(self, request)
                self._server.handle(self._exchange)
        except BadRequest as refusal:
            self._refuse(refusal)
        finally:
            self._advancing = False

    def _enter(self, phase: Phase) -> None:
        """A phase's time limit runs from its beginning, however many bytes trickle in meanwhile."""
        if phase == self._phase and self._deadline is not None:
            return
        limits = self._server.limits
        self._phase = phase
        if phase == "answer":
            self._deadline = None
            return
        if phase == "idle":
            seconds = limits.idle_timeout_s
        elif phase == "head":
            seconds = limits.head_timeout_s
        elif phase == "body":
            seconds = limits.body_timeout_s
        else:
            seconds = _LINGER_S
        self._deadline = self._server.now() + seconds

    def _refuse(self, refusal: BadRequest) -> None:
        """Answer bytes that are no request, let the client read the answer, and close."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        headers, body = self._server.on_error(None, refusal.status, refusal.reason)
        fields = field_lines(headers) + b"content-length: %d\r\nconnection: close\r\n" % len(body)
        transport.write(b"%b%b%b\r\n%b" % (status_line(refusal.status), date_line(), fields, body))
        self._enter("lingering")
        if transport.can_write_eof():  # TLS has no half-closed connections; there the client closes, or the time is up
            transport.write_eof()

    def _leave(self) -> None:
        """The client is gone: tell the exchange in progress, at once."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            if exchange.handler_over:
                self._server.exchange_over()
            try:
                exchange.client_left()
            except Exception:
                log.exception("a callback for a client that left has failed")
        self._wake_writer()

    def _wake_writer(self) -> None:
        waiter, self._writable = self._writable, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def answer_handler_error(exchange: Exchange, server: Server, error: BaseException | None) -> None:
    """The end of a handler that did not complete its answer."""
    if isinstance(error, ClientGone) or exchange.finished:
        if error is not None and not isinstance(error, ClientGone | asyncio.CancelledError):
            log.error("a handler failed after its answer", exc_info=error)
        return
    log.error("a handler failed" if error is not None else "a handler ended without an answer", exc_info=error)
    if exchange.started:
        exchange.abort()
        return
    headers, body = server.on_error(exchange, 500, "internal error")
    exchange.respond(500, headers, body)
