"""One request and its answer, as a handler sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from headrace.wire.event_relay import EventRelay
from headrace.wire.message import Header, Request, date_line, field_lines, first, status_line

if TYPE_CHECKING:
    from headrace.wire.server_connection import ServerConnection


class ClientGone(Exception):
    """The client left, or reads nothing any more."""


class Exchange:
    """Answer with ``respond``, or with ``start``, ``write``... and ``finish``.

    What is written after the client has left, or after ``abort``, is dropped in silence: the handler learns of it from
    ``client_gone``, ``on_client_gone`` or ``drain``.
    """

    __slots__ = (
        "_chunked",
        "_connection",
        "_left",
        "_on_client_gone",
        "_on_congestion",
        "client_gone",
        "extra_fields",
        "finished",
        "handler_over",
        "keep_alive",
        "request",
        "started",
    )

    def __init__(self, connection: ServerConnection, request: Request) -> None:
        self.request = request
        self.started = False
        """The head of the answer was written: its status is settled."""
        self.finished = False
        """Nothing more can be written: complete, aborted, or the client is gone."""
        self.client_gone = False
        self.keep_alive = request.keep_alive
        """The connection takes another request after this one."""
        self.extra_fields = b""
        """More header lines for the head of the answer, whoever writes it; each with its line end."""
        self.handler_over = False
        self._connection = connection
        self._chunked = False
        self._left: int | None = None  # bytes of body to come where the length was announced
        self._on_client_gone: Callable[[], object] | None = None
        self._on_congestion: tuple[Callable[[], object], Callable[[], object]] | None = None

    def respond(self, status: int, headers: Sequence[Header] = (), body: bytes = b"", *, fields: bytes = b"") -> None:
        """The whole answer. Raises ValueError for a header field with a line break.

        ``fields``: more header lines, as bytes that the caller answers for, each with its line end.
        """
        if self.finished:
            return
        head = self.request.method == "HEAD"
        bodiless = status in (204, 304)
        length = first(headers, b"content-length") if head else None
        if headers:
            fields += field_lines(headers) if length is None else field_lines(headers, keep=b"content-length")
        if length is None and not bodiless:
            fields += b"content-length: %d\r\n" % len(body)
        self._write_head(status, fields, b"" if head or bodiless else body)
        self._finish()

    def start(
        self, status: int, headers: Sequence[Header] = (), *, length: int | None = None, fields: bytes = b""
    ) -> None:
        """Begin an answer whose body follows in pieces; ``length`` where its size is known already.

        ``fields``: as in ``respond``.
        """
        if self.finished:
            return
        if headers:
            fields += field_lines(headers)
        if length is not None:
            fields += b"content-length: %d\r\n" % length
            self._left = length
        elif self.request.version == "1.1":
            fields += b"transfer-encoding: chunked\r\n"
            self._chunked = True
        else:
            self.keep_alive = False  # HTTP/1.0: the body ends with the connection
        self._write_head(status, fields, b"")

    def write(self, data: bytes, framed: bytes | None = None) -> None:
        """A piece of the body. Never waits: call ``drain`` between pieces where the amount is not bounded otherwise.

        ``framed``: the same in chunked coding, sent as it is where this answer is in that coding too.
        Raises ValueError beyond the announced length.
        """
        if self.finished or not data:
            return
        if self._chunked:
            if self.request.method != "HEAD":
                self._connection.write(framed or b"%x\r\n%b\r\n" % (len(data), data))
            return
        assert self.started, "start() comes before write()"
        if self._left is not None:
            if len(data) > self._left:
                raise ValueError(f"{len(data)} bytes written where {self._left} were left of the announced length")
            self._left -= len(data)
        if self.request.method != "HEAD":
            self._connection.write(data)

    def relay(self, mark: bytes) -> EventRelay | None:
        """A way for events past this object, between ``start`` and ``finish``; None where the answer is not chunked."""
        if not self._chunked or self.finished or self.request.method == "HEAD":
            return None
        write = self._connection.transport_write
        return None if write is None else EventRelay(write, mark)

    def finish(self) -> None:
        """The answer is complete. An answer shorter than announced is cut off so that the client notices."""
        if self.finished:
            return
        assert self.started, "start() comes before finish()"
        if self._left and self.request.method != "HEAD":
            self.abort()
            return
        if self._chunked and self.request.method != "HEAD":
            self._connection.write(b"0\r\n\r\n")
        self._finish()

    def abort(self) -> None:
        """Close the connection at once, and drop what waits for the client."""
        self._end(send_what_was_written=False)

    def break_off(self) -> None:
        """Close the connection once what was written has gone out, without the mark of a complete answer, so that the
        client can tell that it is not."""
        self._end(send_what_was_written=True)

    @property
    def congested(self) -> bool:
        """More waits for the client than ``Limits.write_buffer_bytes``; ``drain`` would wait."""
        return self._connection.write_paused

    async def drain(self) -> None:
        """Wait until the client has read enough. Raises ClientGone where it never will."""
        if self.client_gone:
            raise ClientGone
        if self._connection.write_paused:
            await self._connection.writable()
            if self.client_gone:
                raise ClientGone

    def on_congestion(self, pause: Callable[[], object], resume: Callable[[], object]) -> None:
        """Call ``pause`` when more waits for the client than ``Limits.write_buffer_bytes``, ``resume`` when it has
        read enough; for a source that is told rather than one that waits with ``drain``."""
        self._on_congestion = (pause, resume)
        if self.congested:
            pause()

    def on_client_gone(self, callback: Callable[[], object]) -> None:
        """Call it once, at the moment when the client leaves before the answer is complete; now, if it has left.

        There is one callback: another one takes its place.
        """
        if self.client_gone:
            callback()
        else:
            self._on_client_gone = callback

    # The connection's side.

    def congestion(self, congested: bool) -> None:
        """Tell who asked by ``on_congestion``."""
        if self._on_congestion is not None:
            self._on_congestion[0 if congested else 1]()

    def client_left(self) -> None:
        """Tell who asked by ``on_client_gone``."""
        self.client_gone = True
        self.finished = True
        self.keep_alive = False
        callback, self._on_client_gone = self._on_client_gone, None
        self._on_congestion = None
        if callback is not None:
            callback()

    def _end(self, *, send_what_was_written: bool) -> None:
        if not self.finished:
            self.keep_alive = False
            self.finished = True
            self._on_client_gone = self._on_congestion = None
            self._connection.end_exchange(self, send_what_was_written=send_what_was_written)

    def _write_head(self, status: int, fields: bytes, body: bytes) -> None:
        assert not self.started, "an exchange has one answer"
        self.started = True
        if self._connection.closing:
            self.keep_alive = False
        if self.extra_fields:
            fields += self.extra_fields
        if not self.keep_alive:
            fields += b"connection: close\r\n"
        elif self.request.version == "1.0":
            fields += b"connection: keep-alive\r\n"
        self._connection.write(b"%b%b%b\r\n%b" % (status_line(status), date_line(), fields, body))

    def _finish(self) -> None:
        self.finished = True
        self._on_client_gone = self._on_congestion = None  # they may hold on to what holds this
        self._connection.answer_complete(self)
