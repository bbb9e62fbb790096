"""Heads of HTTP/1.1 messages: how they are represented and how they are written. Framing belongs to this package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import Final

Header = tuple[bytes, bytes]
"""Name in lower case, value without surrounding blanks."""

FRAMING = frozenset(
    b"connection content-length date keep-alive proxy-connection te trailer transfer-encoding upgrade".split()
)
"""Fields that belong to one connection, and the date: written here, left out where a caller passes them on."""


@dataclass(init=False, slots=True)
class Request:
    """One complete request."""

    method: str
    target: str
    """As sent: path and query, not percent-decoded."""
    path: str
    query: str
    """Without the question mark; empty where there is none."""
    version: str
    """``1.1`` or ``1.0``."""
    headers: list[Header]
    body: bytes
    keep_alive: bool
    """The client lets the connection stay open."""

    def __init__(
        self,
        method: str,
        target: str,
        path: str,
        query: str,
        version: str,
        headers: list[Header],
        body: bytes,
        keep_alive: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.path = path
        self.query = query
        self.version = version
        self.headers = headers
        self.body = body
        self.keep_alive = keep_alive

    def header(self, name: bytes) -> bytes | None:
        """Value of the first field with this lower-case name."""
        return first(self.headers, name)


def first(headers: Iterable[Header], name: bytes) -> bytes | None:
    """Value of the first field with this lower-case name."""
    for key, value in headers:
        if key == name:
            return value
    return None


@lru_cache(maxsize=128)
def status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


class _Date:
    """The field of this second."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        second = int(time())
        if second != self._second:
            self._second = second
            self._line = f"date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._line


_DATE: Final = _Date()


def date_line() -> bytes:
    return _DATE.line()


def keeps_alive(connection: bytes, version: str) -> bool:
    """Whether a message lets its connection stay open. ``connection``: its Connection fields, joined by commas."""
    if not connection:
        return version == "1.1"
    options = {option.strip() for option in connection.lower().split(b",")}
    return b"close" not in options and (version == "1.1" or b"keep-alive" in options)


def field_lines(headers: Sequence[Header], keep: bytes = b"") -> bytes:
    """The fields as bytes, without those of ``FRAMING`` (but for the one named ``keep``).

    Raises ValueError where a field would break out of its line: a peer's bytes must not become a head of ours.
    """
    lines = [b"%b: %b\r\n" % header for header in headers if header[0] not in FRAMING or header[0] == keep]
    block = b"".join(lines)
    if not block.count(b"\n") == block.count(b"\r") == len(lines) or b"\0" in block:
        raise ValueError("a header field contains a line break or a NUL")
    return block
