"""Reference parsers: what they make of the same bytes. ``h11`` is strict and independent of ours; ``httptools`` is what
other servers of this language read requests with."""

from __future__ import annotations

from dataclasses import dataclass

import h11
import httptools

from headrace.wire.request_parser import BadRequest, Limits, RequestParser

LARGEST = 1 << 20


@dataclass(frozen=True)
class Framed:
    """A request as far as parsers must agree on it."""

    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(frozen=True)
class Parsed:
    requests: tuple[Framed, ...]
    refusal: tuple[int, str] | None = None


def ours(pieces: list[bytes], limits: Limits) -> Parsed:
    """What the parser makes of a stream of these reads; anything it raises but BadRequest is an error of the test."""
    parser = RequestParser(limits)
    found: list[Framed] = []
    try:
        for piece in pieces:
            parser.feed(piece)
            while (request := parser.next()) is not None:
                found.append(Framed(request.method, request.target, tuple(request.headers), request.body))
    except BadRequest as refusal:
        return Parsed(tuple(found), (refusal.status, refusal.reason))
    return Parsed(tuple(found))


def by_h11(data: bytes, count: int) -> list[Framed]:
    """The first ``count`` requests of a stream. Raises h11.RemoteProtocolError."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST)
    connection.receive_data(data)
    found: list[Framed] = []
    while len(found) < count:
        head = connection.next_event()
        assert isinstance(head, h11.Request), head
        body = b""
        while isinstance(event := connection.next_event(), h11.Data):
            body += bytes(event.data)
        assert isinstance(event, h11.EndOfMessage), event
        fields = tuple((name, value) for name, value in head.headers)
        found.append(Framed(head.method.decode(), head.target.decode(), fields, body))
        if len(found) == count:
            break
        connection.send(h11.Response(status_code=200, headers=[(b"content-length", b"0")]))
        connection.send(h11.EndOfMessage())
        connection.start_next_cycle()
    return found


class _Events:
    def __init__(self) -> None:
        self.found: list[Framed] = []
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.target, self.fields, self.body = b"", [], b""  # type: ignore[var-annotated]

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.rstrip(b" \t")))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        method = self.parser.get_method().decode()
        self.found.append(Framed(method, self.target.decode(), tuple(self.fields), self.body))


def by_httptools(data: bytes, count: int) -> list[Framed]:
    """The first ``count`` requests of a stream. Raises httptools.HttpParserError where it finds fewer."""
    events = _Events()
    try:
        events.parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        if len(events.found) < count:
            raise
    return events.found[:count]
