"""Heads of answers, from bytes.

The lines of a server's heads repeat, so each is taken apart once. What is not plain is left to httptools, which gives
the same for what is.
"""

from __future__ import annotations

import re
from typing import Final

import httptools

from headrace.wire.errors import ProtocolError
from headrace.wire.message import Header, keeps_alive

_STATUS_LINE: Final = re.compile(rb"HTTP/(1\.[01]) ([2-5][0-9]{2})(?: [\x20-\x7e]*)?")
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\x20-\x7e\x80-\xff]*)")
_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding", b"connection", b"upgrade"))
_KNOWN_FIELDS: Final[dict[bytes, Header]] = {}
_KNOWN_STATUS: Final[dict[bytes, tuple[int, str]]] = {}
_LONGEST_LENGTH = 18
"""Digits."""
_MOST_KNOWN = 512
_LONGEST_KNOWN = 256


class ResponseHead:
    """Status and fields, and where the body ends: by ``chunked``, by ``length``, or with the connection."""

    __slots__ = ("chunked", "fields", "keep_alive", "length", "status")

    def __init__(self, status: int, version: str, fields: list[Header]) -> None:
        """Raises ProtocolError for a coding that is not understood."""
        self.status = status
        self.fields = fields
        self.length: int | None = None
        """Bytes; None where it was not announced."""
        self.chunked = False
        coding = connection = b""
        for name, value in fields:
            if name not in _FRAMING:
                continue
            if name == b"content-length":
                self.length = int(value)  # digits only, by both ways to come here
            elif name == b"transfer-encoding":
                coding = b"two fields" if coding else value.lower()
            elif name == b"connection":
                connection += b",%b" % value
        if coding:
            if coding != b"chunked":
                raise ProtocolError("the answer has a transfer coding other than chunked, or several")
            self.chunked = True
        self.keep_alive = keeps_alive(connection, version)
        """The server lets the connection stay open."""


class _Fields:
    """Callbacks of httptools for one head."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: list[Header] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.rstrip(b" \t")))


def read_head(data: bytes) -> ResponseHead:
    """``data``: a head with the empty line after it. Raises ProtocolError."""
    lines = data[:-4].split(b"\r\n")
    begun = _status(lines[0])
    if begun is not None:
        fields = _plain_fields(lines)
        if fields is not None:
            return ResponseHead(begun[0], begun[1], fields)
    found = _Fields()
    parser = httptools.HttpResponseParser(found)
    try:
        parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise ProtocolError(f"the answer is not HTTP/1.1: {error}") from None
    status: int = parser.get_status_code()
    if status < 100:
        raise ProtocolError(f"the answer has the status {status}")
    return ResponseHead(status, parser.get_http_version(), found.fields)


def _status(line: bytes) -> tuple[int, str] | None:
    """Status and version; None for a line that is not plain."""
    known = _KNOWN_STATUS.get(line)
    if known is not None:
        return known
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        return None
    known = (int(match[2]), match[1].decode("ascii"))
    if len(_KNOWN_STATUS) < _MOST_KNOWN and len(line) <= _LONGEST_KNOWN:
        _KNOWN_STATUS[line] = known
    return known


def _plain_fields(lines: list[bytes]) -> list[Header] | None:
    """The fields of a head whose framing nobody could read in another way; None for any other."""
    fields: list[Header] = []
    framed = False
    for line in lines[1:]:
        field = _KNOWN_FIELDS.get(line)
        if field is None:
            field = _field(line)
            if field is None:
                return None
        name = field[0]
        if name in _FRAMING and name != b"connection":
            if framed or not _is_plain_framing(name, field[1]):
                return None
            framed = True
        fields.append(field)
    return fields


def _is_plain_framing(name: bytes, value: bytes) -> bool:
    if name == b"content-length":
        return value.isdigit() and len(value) <= _LONGEST_LENGTH
    return name == b"transfer-encoding" and value == b"chunked"


def _field(line: bytes) -> Header | None:
    match = _FIELD.fullmatch(line)
    if match is None:
        return None
    field = (match[1].lower(), match[2].strip(b" "))
    if len(line) <= _LONGEST_KNOWN:
        if len(_KNOWN_FIELDS) >= _MOST_KNOWN:
            _KNOWN_FIELDS.clear()  # a date a second, and ids: what repeats is soon known again
        _KNOWN_FIELDS[line] = field
    return field
