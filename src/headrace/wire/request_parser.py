"""Requests from bytes, without I/O: strict where leniency would let two servers disagree on where a request ends.

httptools reads each head, given exactly the bytes of that head. Where a request ends is decided here, so one piece of
code only can be wrong about it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import httptools

from headrace.wire.message import Header, Request


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes from a client. Beyond them it answers with the status in brackets."""

    head_bytes: int = 64 * 1024
    """Request line and header fields together (431)."""
    body_bytes: int = 4 * 1024 * 1024
    """After decoding (413)."""
    head_timeout_s: float = 10.0
    """From the first byte of a request to the end of its head (408)."""
    body_timeout_s: float = 60.0
    """From the end of the head to the end of the body (408)."""
    idle_timeout_s: float = 75.0
    """Without a request: the connection is closed without a word."""
    stall_timeout_s: float = 60.0
    """A client that reads nothing while bytes wait for it is taken as gone."""
    connections: int = 4096
    """Open at once (503)."""
    write_buffer_bytes: int = 64 * 1024
    """``Exchange.drain`` waits while more than this waits for the client."""

    @property
    def shortest_timeout_s(self) -> float:
        return min(self.head_timeout_s, self.body_timeout_s, self.idle_timeout_s, self.stall_timeout_s)


class BadRequest(Exception):
    """The bytes are no request that may be served; the connection ends after the answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


_CONTROLS = bytes(i for i in (*range(32), 127) if i not in b"\t\r\n")
_REQUEST_LINE = re.compile(rb"[A-Z-]+ [!-~]+ HTTP/[0-9]\.[0-9]\r\n")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,12})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_SIZE_LINE_BYTES = 256
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")
_ABSOLUTE = re.compile(r"https?://[^/?#]+", re.IGNORECASE)
_MAX_PIECES = 16384
"""Pieces of one body in chunked coding: one byte each would cost more CPU than the request."""


class _Head:
    """Callbacks of httptools for one head."""

    __slots__ = ("fields", "target")

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[Header] = []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.rstrip(b" \t")))


class RequestParser:
    """``feed`` bytes, then take requests with ``next`` until it returns None."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._checked = 0  # bytes of the head already searched
        self._request: Request | None = None  # head complete, body not yet
        self._length: int | None = None  # of the body; None for chunked coding
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0
        self._piece_left = -1  # bytes to come of the piece begun, -1 between pieces
        self._in_trailer = False
        self._trailer_bytes = 0
        self._expects = False

    @property
    def buffered(self) -> int:
        """Bytes fed and not yet taken."""
        return len(self._buffer)

    @property
    def in_body(self) -> bool:
        """A head is complete and its body is not."""
        return self._request is not None

    def take_continue(self) -> bool:
        """True once for a request whose client waits for ``100 Continue`` before it sends the body."""
        expects = self._expects and self._request is not None and not self._buffer
        self._expects = self._expects and not expects
        return expects

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> Request | None:
        """The next complete request, or None where bytes are missing. Raises BadRequest; the parser is dead then."""
        if self._request is None and not self._read_head():
            return None
        complete = self._read_length() if self._length is not None else self._read_chunked()
        if not complete:
            return None
        request, self._request = self._request, None
        self._expects = False
        return request

    def _read_head(self) -> bool:
        buffer, limit = self._buffer, self._limits.head_bytes
        while buffer.startswith(b"\r\n"):  # RFC 9112 2.2: empty lines before a request line are ignored
            del buffer[:2]
        end = buffer.find(b"\r\n\r\n", max(0, self._checked - 3))
        stop = min(limit, end + 4 if end >= 0 else len(buffer))
        if _BARE_LF.search(buffer, max(0, self._checked - 1), stop):
            raise BadRequest(400, "a line of the head does not end with CR LF")
        if (end if end >= 0 else len(buffer) - 4) > limit - 4:
            raise BadRequest(431, f"request line and header fields exceed {limit} bytes")
        if end < 0:
            self._checked = len(buffer)
            return False
        head = bytes(buffer[: end + 4])
        del buffer[: end + 4]
        self._checked = 0
        self._request = self._parse_head(head)
        return True

    def _parse_head(self, head: bytes) -> Request:
        if head.count(b"\r") != head.count(b"\n") or len(head.translate(None, _CONTROLS)) != len(head):
            raise BadRequest(400, "the head contains a control character")
        if not _REQUEST_LINE.match(head):  # httptools takes any number of blanks, and bytes beyond ASCII
            raise BadRequest(400, "malformed request line: expected METHOD /path HTTP/1.1, separated by single blanks")
        fields = _Head()
        parser = httptools.HttpRequestParser(fields)
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # no other protocol is spoken here: the request is answered as HTTP/1.1
        except httptools.HttpParserError as error:
            raise BadRequest(400, f"malformed request head: {error}") from None
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise BadRequest(505, f"HTTP/{version} is not spoken here, only HTTP/1.1 and HTTP/1.0")
        self._set_framing(fields.fields, version)
        target = _origin_form(fields.target, parser.get_method())
        path, _, query = target.partition("?")
        return Request(
            method=parser.get_method().decode("ascii"),
            target=target,
            path=path,
            query=query,
            version=version,
            headers=fields.fields,
            body=b"",
            keep_alive=_keeps_alive(fields.fields, version),
        )

    def _set_framing(self, headers: list[Header], version: str) -> None:
        """Where the body ends (RFC 9112 6.3), with every ambiguity refused."""
        hosts = 0
        lengths: list[bytes] = []
        codings: list[bytes] = []
        self._expects = False
        for name, value in headers:
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                lengths.append(value)
            elif name == b"transfer-encoding":
                codings.append(value)
            elif name == b"expect":
                if value.lower() != b"100-continue":
                    raise BadRequest(417, "only the expectation 100-continue can be met")
                self._expects = version == "1.1"
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            raise BadRequest(400, f"a request needs exactly one Host field, this one has {hosts}")
        if codings and lengths:
            raise BadRequest(400, "a request has either Content-Length or Transfer-Encoding, not both")
        if codings:
            if version == "1.0":
                raise BadRequest(400, "HTTP/1.0 has no Transfer-Encoding")
            if len(codings) > 1 or codings[0].lower() != b"chunked":
                raise BadRequest(501, "the only transfer coding understood is chunked, once")
            self._length = None
            self._pieces, self._pieces_bytes, self._piece_left = [], 0, -1
            self._in_trailer, self._trailer_bytes = False, 0
            return
        if len(lengths) > 1 or (lengths and not _DIGITS.fullmatch(lengths[0])):
            raise BadRequest(400, "Content-Length must be one decimal number")
        self._length = int(lengths[0]) if lengths else 0
        self._refuse_beyond(self._length)

    def _refuse_beyond(self, size: int) -> None:
        if size > self._limits.body_bytes:
            raise BadRequest(413, f"the body exceeds {self._limits.body_bytes} bytes")

    def _read_length(self) -> bool:
        assert self._request is not None and self._length is not None
        if len(self._buffer) < self._length:
            return False
        if self._length:
            self._request.body = bytes(self._buffer[: self._length])
            del self._buffer[: self._length]
        return True

    def _read_chunked(self) -> bool:
        """Chunked coding (RFC 9112 7.1); trailer fields are checked and dropped."""
        assert self._request is not None
        buffer = self._buffer
        at = 0
        try:
            while not self._in_trailer:
                if self._piece_left >= 0:
                    if len(buffer) - at < self._piece_left + 2:
                        return False
                    end = at + self._piece_left
                    if buffer[end : end + 2] != b"\r\n":
                        raise BadRequest(400, "a piece of the body in chunked coding does not end where it should")
                    self._pieces.append(bytes(buffer[at:end]))
                    if len(self._pieces) > _MAX_PIECES:
                        raise BadRequest(400, f"the body in chunked coding has more than {_MAX_PIECES} pieces")
                    at, self._piece_left = end + 2, -1
                line = self._line(at, _SIZE_LINE_BYTES)
                if line is None:
                    return False
                match = _SIZE_LINE.fullmatch(line)
                if not match:
                    raise BadRequest(400, "malformed size line in chunked coding")
                size = int(match[1], 16)
                at += len(line) + 2
                self._pieces_bytes += size
                self._refuse_beyond(self._pieces_bytes)
                self._piece_left = size if size else -1
                self._in_trailer = size == 0
            while (line := self._line(at, self._limits.head_bytes)) is not None:
                at += len(line) + 2
                if not line:
                    self._request.body = b"".join(self._pieces)
                    self._pieces = []
                    return True
                self._trailer_bytes += len(line) + 2
                if self._trailer_bytes > self._limits.head_bytes:
                    raise BadRequest(431, f"trailer fields exceed {self._limits.head_bytes} bytes")
                if not _TRAILER_LINE.fullmatch(line):
                    raise BadRequest(400, "malformed trailer field")
            return False
        finally:
            del buffer[:at]

    def _line(self, at: int, limit: int) -> bytes | None:
        """The line at ``at`` without its CR LF, or None where its end is missing."""
        buffer = self._buffer
        end = buffer.find(b"\n", at, at + limit + 2)
        if end < 0:
            if len(buffer) - at > limit + 1:
                raise BadRequest(400, f"a line of the chunked coding exceeds {limit} bytes")
            return None
        if end == at or buffer[end - 1] != 0x0D:
            raise BadRequest(400, "a line of the chunked coding does not end with CR LF")
        return bytes(buffer[at : end - 1])


def _origin_form(target: bytes, method: bytes) -> str:
    """Path and query. The absolute form, which every server must take (RFC 9112 3.2.2), loses its authority."""
    text = target.decode("ascii")
    if text.startswith("/") or (text == "*" and method == b"OPTIONS"):
        return text
    match = _ABSOLUTE.match(text)
    if not match:
        raise BadRequest(400, "the request target must be a path that begins with /")
    rest = text[match.end() :]
    return rest if rest.startswith("/") else f"/{rest}"


def _keeps_alive(headers: list[Header], version: str) -> bool:
    options = b",".join(value for name, value in headers if name == b"connection").lower()
    tokens = [token.strip() for token in options.split(b",")] if options else []
    return b"close" not in tokens if version == "1.1" else b"keep-alive" in tokens and b"close" not in tokens
