"""One connection: a request goes out, and the bytes of its answer are timed as they come.

Timing and keeping is all that is done with a read; what it says is read when enough has come, or the last of it seems
to be there, and then only after all others that came with it have been timed. ``wire``'s client is made for passing
answers on: it looks into every read before the next one can be timed, and writes a request only when the loop's round
ends, which a stopwatch must not wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from time import monotonic
from typing import TYPE_CHECKING, cast

from headrace.bench.client.answer import LONGEST_ERROR_BODY, Answer, KeptAnswer, StreamAnswer, WholeAnswer
from headrace.bench.client.chunks import whole_chunks
from headrace.bench.client.flight import Flight
from headrace.bench.client.head import Head, read_head
from headrace.wire.chunked import ChunkedDecoder
from headrace.wire.client_connection import STALE_WINDOW_S
from headrace.wire.errors import ProtocolError

if TYPE_CHECKING:
    from headrace.bench.client.sender import Sender

READ_EVERY = 32 << 10
"""Bytes kept before they are read: it bounds memory, and the time that other connections wait meanwhile (0.2 ms)."""
_LONGEST_HEAD = 64 << 10
_BEGINNING = b"HTTP/1."
_BLANK = b"\r\n\r\n"
_CRLF_EVENT = b"}\r\n\r\n\r\n"
"""The end of an event, and of its chunk, of servers that write CR LF."""


class Connection(asyncio.Protocol):
    __slots__ = (
        "_chunked",
        "_fd",
        "_flight",
        "_left",
        "_pieces",
        "_room",
        "_sender",
        "_times",
        "_transport",
        "_used",
        "_waits",
    )

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._transport: asyncio.Transport | None = None
        self._fd = -1  # to write to past the transport; TLS has none
        self._flight: Flight | None = None
        self._times: list[float] = []
        self._pieces: list[bytes] = []
        self._room = -1  # bytes that may come before they are looked at
        self._chunked: ChunkedDecoder | None = None
        self._left = -1  # of a body whose length was announced
        self._used = False
        self._waits = False  # for its turn to be looked at

    @property
    def usable(self) -> bool:
        """Idle and open, as far as anybody can know."""
        return self._transport is not None and self._flight is None and not self._transport.is_closing()

    def open_ahead(self) -> None:
        """It is there before any request needs it, as one that was used is."""
        self._used = True

    def send(self, flight: Flight) -> None:
        assert self._transport is not None
        self._flight = flight
        flight.new_connection = not self._used
        self._room = -1
        self._left = -1
        self._chunked = None
        payload = flight.payload
        flight.sent = monotonic()
        written = 0
        if self._fd >= 0:
            # At once: the transport writes at the end of the loop's round, after all else that is due.
            with contextlib.suppress(OSError):  # full, or closed, which the transport will tell
                written = os.write(self._fd, payload)
        if written < len(payload):
            self._transport.write(payload[written:])

    def abandon(self, flight: Flight) -> None:
        """Cut it off, but read what it has brought."""
        if self._pieces:
            self._look()  # which may find the end of the answer
        if self._flight is flight:
            self.close()

    def look(self) -> None:
        """Read what has come: its turn, which it asked the sender for."""
        self._waits = False
        if self._pieces:
            self._look()

    def close(self) -> None:
        """Cut it off. Its flight hears nothing more."""
        self._flight = None
        if self._transport is not None:
            self._transport.abort()

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if transport.get_extra_info("sslcontext") is None:
            self._fd = sock.fileno()

    def data_received(self, data: bytes) -> None:
        self._times.append(monotonic())
        self._pieces.append(data)
        self._room -= len(data)
        # The last read of a chunked body ends with a blank line, or is a small piece of it.
        ends = len(data) < 6 or (data.endswith(_BLANK) and not data.endswith(_CRLF_EVENT))
        if (ends or self._room < 0) and not self._waits:
            self._waits = True
            self._sender.look_soon(self)

    def eof_received(self) -> bool:
        flight = self._flight
        if flight is None:
            return False
        if self._pieces:
            self._look()
        if self._flight is flight and flight.answer is not None and self._chunked is None and self._left < 0:
            self._complete(flight, flight.answer, monotonic(), clean=False)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fd = -1
        flight = self._flight
        self._sender.forget(self)
        if flight is None:
            return
        if (
            flight.head is None
            and not self._pieces
            and self._used
            and not flight.resent
            and monotonic() - flight.sent < STALE_WINDOW_S
        ):
            self._flight = None
            flight.resent = True
            self._sender.resend(flight)
            return
        if self._pieces:
            self._look()
        if self._flight is flight:
            where = "before any answer" if flight.head is None else "before the answer was complete"
            self._fail(flight, f"the server closed the connection {where}")

    # Inside.

    def _look(self) -> None:
        """Read what has come."""
        flight = self._flight
        if flight is None:
            self.close()  # bytes that nobody asked for
            return
        try:
            if flight.head is None:
                self._read_head(flight)
            if flight.answer is not None:
                self._read_body(flight, flight.answer)
        except ProtocolError as error:
            self._fail(flight, str(error))

    def _read_head(self, flight: Flight) -> None:
        data = b""
        for taken, piece in enumerate(self._pieces, 1):
            data += piece
            if not data.startswith(_BEGINNING[: len(data)]):
                raise ProtocolError("the answer is not HTTP/1.1")
            while (end := data.find(_BLANK) + 4) >= 4:
                head = read_head(data[:end])
                data = data[end:]
                if head.status >= 200:
                    # What came in the read that the head ended in, and later ones, each with its own time.
                    begin = taken - 1 if data else taken
                    self._pieces, self._times = self._pieces[begin:], self._times[begin:]
                    if data:
                        self._pieces[0] = data
                    self._begin_body(flight, head)
                    return
            if len(data) > _LONGEST_HEAD:
                raise ProtocolError(f"the head of the answer does not end within {_LONGEST_HEAD >> 10} KiB")
        self._pieces, self._times = [data], self._times[-1:]

    def _begin_body(self, flight: Flight, head: Head) -> None:
        flight.head = head
        answer: Answer
        if head.status != 200:
            answer = WholeAnswer(LONGEST_ERROR_BODY)
        elif head.is_stream:
            answer = KeptAnswer() if flight.text_wanted else StreamAnswer()
        else:
            answer = WholeAnswer()
        flight.answer = answer
        if head.bodiless:
            self._left = 0
        elif head.chunked:
            self._chunked = ChunkedDecoder()
        elif head.length is not None:
            self._left = head.length

    def _read_body(self, flight: Flight, answer: Answer) -> None:
        times, pieces = self._times, self._pieces
        self._times, self._pieces = [], []
        if times and flight.first_byte != flight.first_byte:
            flight.first_byte = times[0]
        chunked = self._chunked
        over, clean = self._left == 0, not pieces
        for at, piece in zip(times, pieces, strict=True):
            if chunked is not None:
                body = whole_chunks(piece) if chunked.at_border else None
                if body is None:
                    body, _ = chunked.feed(piece)
                over, clean = chunked.complete, not chunked.surplus
            elif self._left >= 0:
                body, clean = piece[: self._left], len(piece) <= self._left
                self._left -= len(body)
                over = not self._left
            else:
                body = piece
            if body:
                answer.feed(body, at)
        if over:
            self._complete(flight, answer, times[-1] if times else monotonic(), clean=clean)
        else:
            self._room = min(READ_EVERY, self._left - 1) if self._left > 0 else READ_EVERY

    def _complete(self, flight: Flight, answer: Answer, at: float, *, clean: bool) -> None:
        """The connection is free before the flight's end is told, so that the next request can have it."""
        head, self._flight = flight.head, None
        self._used = True
        answer.end(at)
        flight.end = at
        if clean and head is not None and head.keep_alive:
            self._sender.keep(self)
        else:
            self.close()
        self._sender.settle(flight)

    def _fail(self, flight: Flight, fault: str) -> None:
        flight.fault = fault
        flight.end = monotonic()
        self.close()
        self._sender.settle(flight)
