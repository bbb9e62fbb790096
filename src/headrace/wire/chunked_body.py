"""A request body in chunked coding (RFC 9112 7.1) from bytes, without I/O. The chunks are called pieces here."""

from __future__ import annotations

import re

from headrace.wire.limits import BadRequest, Limits

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,12})(?:;%b(?:=(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED))
"""The size in hexadecimal, and extensions as their grammar says, without blanks around them."""
SIZE_LINE_BYTES = 256
_TRAILER_LINE = re.compile(rb"%b:[\t\x20-\x7e\x80-\xff]*" % _TOKEN)
_NO_TRAILERS = (b"content-length", b"transfer-encoding", b"host")
"""A reader that merges trailers into the head would take the message for another one."""
_MAX_PIECES = 16384
"""Of one body: one byte each would cost more CPU than the request."""


def is_trailer(line: bytes) -> bool:
    """Whether the line is a field that may be in a trailer."""
    return _TRAILER_LINE.fullmatch(line) is not None and line.partition(b":")[0].lower() not in _NO_TRAILERS


class ChunkedBody:
    """``read`` from the same buffer until it returns the body."""

    __slots__ = ("_in_trailer", "_left", "_limits", "_pieces", "_size", "_trailer_bytes")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pieces: list[bytes] = []
        self._size = 0
        self._left = -1  # bytes to come of the piece begun, -1 between pieces
        self._in_trailer = False
        self._trailer_bytes = 0

    def read(self, buffer: bytearray) -> bytes | None:
        """Take what is there; the body once it is complete, else None. Trailer fields are checked and dropped.

        Raises BadRequest.
        """
        at = 0
        try:
            while not self._in_trailer:
                if self._left >= 0:
                    end = at + self._left
                    if len(buffer) < end + 2:
                        return None
                    if buffer[end : end + 2] != b"\r\n":
                        raise BadRequest(400, "a piece of the body in chunked coding does not end where it should")
                    with memoryview(buffer) as view:
                        self._pieces.append(bytes(view[at:end]))
                    if len(self._pieces) > _MAX_PIECES:
                        raise BadRequest(400, f"the body in chunked coding has more than {_MAX_PIECES} pieces")
                    at, self._left = end + 2, -1
                line = _line(buffer, at, SIZE_LINE_BYTES)
                if line is None:
                    return None
                at += len(line) + 2
                size = self._size_of(line)
                self._left = size if size else -1
                self._in_trailer = size == 0
            while (line := _line(buffer, at, self._limits.head_bytes)) is not None:
                at += len(line) + 2
                if not line:
                    return b"".join(self._pieces)
                self._check_trailer(line)
            return None
        finally:
            del buffer[:at]

    def _size_of(self, line: bytes) -> int:
        match = SIZE_LINE.fullmatch(line)
        if not match:
            raise BadRequest(400, "malformed size line in chunked coding")
        size = int(match[1], 16)
        self._size += size
        self._limits.refuse_body_of(self._size)
        return size

    def _check_trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line) + 2
        if self._trailer_bytes > self._limits.head_bytes:
            raise BadRequest(431, f"trailer fields exceed {self._limits.head_bytes} bytes")
        if not is_trailer(line):
            raise BadRequest(400, "malformed trailer field, or one that may not be in a trailer")


def _line(buffer: bytearray, at: int, limit: int) -> bytes | None:
    """The line at ``at`` without its CR LF, or None where its end is missing."""
    end = buffer.find(b"\n", at, at + limit + 2)
    if end < 0:
        if len(buffer) - at > limit + 1:
            raise BadRequest(400, f"a line of the chunked coding exceeds {limit} bytes")
        return None
    if end == at or buffer[end - 1] != 0x0D:
        raise BadRequest(400, "a line of the chunked coding does not end with CR LF")
    return bytes(buffer[at : end - 1])
