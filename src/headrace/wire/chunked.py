"""Bodies in chunked coding (RFC 9112 7.1), decoded so that they can also be passed on as they came.

A *chunk* here is HTTP's: a size line, that many bytes, and a line end. Strict, because a proxy that forwards framing
which it has read otherwise than the next reader will has been made a tool of somebody.
"""

from __future__ import annotations

from headrace.wire.chunked_body import SIZE_LINE, SIZE_LINE_BYTES, is_trailer
from headrace.wire.errors import ProtocolError

_TRAILER_BYTES = 8 * 1024
"""Nobody reads it, and what is held of it is looked at again with every read."""

_MOST_DIGITS = 8


def whole_chunk(data: bytes) -> int:
    """Where its data begins, where a read is one chunk with data and without an extension; 0 for any other read.

    (Byte by byte: compiled, that is a few instructions for each, and calls of methods are hundreds.)
    """
    length = len(data)
    if length <= _MOST_DIGITS:
        return 0
    at = size = 0
    while at < _MOST_DIGITS:
        byte = data[at]
        if 0x30 <= byte <= 0x39:
            digit = byte - 0x30
        elif 0x61 <= byte <= 0x66:
            digit = byte - 0x57
        elif 0x41 <= byte <= 0x46:
            digit = byte - 0x37
        else:
            break
        size = size * 16 + digit
        at += 1
    if not size or length != at + size + 4:
        return 0
    return at + 2 if data[at] == data[-2] == 0x0D and data[at + 1] == data[-1] == 0x0A else 0


class ChunkedDecoder:
    """``feed`` reads until ``complete``."""

    __slots__ = ("_held", "_left", "_plain", "_state", "_trailer_bytes", "complete", "surplus")

    def __init__(self) -> None:
        self.complete = False
        self.surplus = b""
        """What came after the end."""
        self._state = "size"
        """What comes next: ``size``, ``data``, ``end`` (of the data), ``trailer``."""
        self._left = 0
        """Of the chunk's data."""
        self._held = b""
        """The beginning of a line."""
        self._plain = True
        """No size line of this read had an extension."""
        self._trailer_bytes = 0

    @property
    def at_border(self) -> bool:
        """Between two chunks: the next read begins with a size line."""
        return self._state == "size" and not self._held

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """The body's bytes in a read; and the same as they came, where they are whole chunks. Raises ProtocolError."""
        if self._state == "size" and not self._held and (begin := whole_chunk(data)):
            return data[begin:-2], data  # one event in one read: nearly always so
        return self._feed(data)

    def _feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        whole = self._state == "size" and not self._held
        if self._held:
            data, self._held = self._held + data, b""
        self._plain = True
        pieces: list[bytes] = []
        at = whole_to = 0
        while at < len(data) and not self.complete:
            if self._state == "data":
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = "end"
                continue
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                self._hold(data[at:])
                break
            line, at = data[at:line_end], line_end + 2
            if self._state == "size":
                self._left = self._size(line)
                self._state = "data" if self._left else "trailer"
            elif self._state == "end":
                if line:
                    raise ProtocolError("a chunk of the answer's body does not end where it should")
                self._state = "size"
                whole_to = at
            elif line:
                self._trailer_bytes += len(line)
                self._check_trailer(self._trailer_bytes)
                if not is_trailer(line):
                    raise ProtocolError("malformed trailer in the answer's chunked coding")
            else:
                self.complete = True
                self.surplus = data[at:]
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if whole and body and self._plain and self._state in ("size", "trailer"):
            return body, data[:whole_to]
        return body, None

    def _hold(self, beginning: bytes) -> None:
        if self._state == "end" and beginning != b"\r":
            raise ProtocolError("a chunk of the answer's body does not end where it should")
        if self._state == "size" and len(beginning) > SIZE_LINE_BYTES:
            raise ProtocolError("malformed size line in the answer's chunked coding")
        self._check_trailer(self._trailer_bytes + len(beginning))
        self._held = beginning

    def _check_trailer(self, size: int) -> None:
        if size > _TRAILER_BYTES:
            raise ProtocolError(f"the trailer of the answer exceeds {_TRAILER_BYTES} bytes")

    def _size(self, line: bytes) -> int:
        match = SIZE_LINE.fullmatch(line)
        if match is None or len(line) > SIZE_LINE_BYTES:
            raise ProtocolError("malformed size line in the answer's chunked coding")
        size = int(match[1], 16)
        if len(match[1]) < len(line):
            self._plain = False  # an extension is between two neighbours, and goes no further
        return size
