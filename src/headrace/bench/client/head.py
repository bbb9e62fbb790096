"""The head of an answer: what of it matters here."""

from __future__ import annotations

from dataclasses import dataclass

import httptools

from headrace.wire.errors import ProtocolError

_MOST_KNOWN = 256
_known: dict[bytes, Head] = {}
"""Answers of one second often have the same head, byte for byte."""


@dataclass(frozen=True, slots=True)
class Head:
    status: int
    chunked: bool
    length: int | None
    """Of the body; None where it is chunked or ends with the connection."""
    keep_alive: bool
    is_stream: bool
    """Its body is a stream of events."""
    retry_after_s: float | None
    location: str | None

    @property
    def bodiless(self) -> bool:
        return self.status in (204, 304) or self.length == 0


def read_head(data: bytes) -> Head:
    """``data``: up to and with the blank line. Raises ProtocolError."""
    found = _known.get(data)
    if found is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        found = _known[data] = _read(data)
    return found


class _Fields:
    """Callbacks of httptools; the last of several fields with the same name."""

    def __init__(self) -> None:
        self.of: dict[bytes, bytes] = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self.of[name.lower()] = value


def _read(data: bytes) -> Head:
    fields = _Fields()
    parser = httptools.HttpResponseParser(fields)
    try:
        parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise ProtocolError(f"the answer is not HTTP/1.1: {error}") from None
    coding = fields.of.get(b"transfer-encoding")
    if coding is not None and coding.strip().lower() != b"chunked":
        raise ProtocolError("the answer has a transfer coding other than chunked")
    length = fields.of.get(b"content-length")
    location = fields.of.get(b"location")
    return Head(
        status=parser.get_status_code(),
        chunked=coding is not None,
        length=int(length) if length is not None and coding is None else None,  # digits, or httptools had refused it
        keep_alive=parser.should_keep_alive(),
        is_stream=fields.of.get(b"content-type", b"").lower().startswith(b"text/event-stream"),
        retry_after_s=_retry_after_s(fields.of),
        location=None if location is None else location.decode("latin-1"),
    )


def _retry_after_s(fields: dict[bytes, bytes]) -> float | None:
    """``retry-after-ms`` says it best; a date in ``Retry-After`` is not read, since clocks differ."""
    for name, unit_s in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        try:
            seconds = float(fields[name]) * unit_s
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    return None
