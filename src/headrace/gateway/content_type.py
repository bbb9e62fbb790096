"""The header lines that go with the type of an answer."""

from __future__ import annotations

from headrace.wire.message import field_lines

JSON = (b"content-type", b"application/json")
STREAM_FIELDS = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
_KNOWN = {
    b"application/json": b"content-type: application/json\r\n",
    b"text/event-stream": b"content-type: text/event-stream\r\ncache-control: no-cache\r\n",
    b"text/event-stream; charset=utf-8": STREAM_FIELDS,
    b"": b"",
}


def type_fields(content_type: bytes) -> bytes:
    """Empty for an answer without a type."""
    known = _KNOWN.get(content_type)
    return known if known is not None else field_lines([(b"content-type", content_type)])
