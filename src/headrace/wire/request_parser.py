"""Requests from bytes, without I/O: strict where leniency would let two servers disagree on where a request ends.

A plain request that comes in one read is read by two regular expressions; every other head by httptools, given exactly
the bytes of that head. Both ways give the same request. Where it ends is decided here, so one piece of code only can be
wrong about it. And a head that is the last one's but for the length of the body need not be read again.
"""

from __future__ import annotations

import re

import httptools

from headrace.wire.chunked_body import ChunkedBody
from headrace.wire.limits import BadRequest, Limits
from headrace.wire.message import Header, Request, keeps_alive

__all__ = ["BadRequest", "Limits", "RequestParser"]

_CONTROLS = bytes(i for i in (*range(32), 127) if i not in b"\t\r\n")
_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_REQUEST_LINE = re.compile(rb'[A-Z-]+ [!"$-~]+ HTTP/([0-9]\.[0-9])\r\n')
_VERSIONS = (b"1.1", b"1.0")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_HOST = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+,;=%:\[\]]*")
_ABSOLUTE = re.compile(r"https?://([^/?]*)", re.IGNORECASE)
_NAME = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE = rb"[\x20-\x7e\x80-\xff]*"
_PLAIN_FIELD = re.compile(rb"(%b):(%b)\r\n" % (_NAME, _VALUE))
_PLAIN_HEAD = re.compile(
    rb'(GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS) (/[!"$-~]*) HTTP/1\.1\r\n((?:%b:%b\r\n)+)\r\n' % (_NAME, _VALUE)
)
_LENGTH_FIELD = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_LONGEST_LENGTH = 18
"""Digits."""
_MOST_LEARNED = 4
"""Heads of one connection: a client whose heads always differ is not to pay for it."""
_LARGEST_LEARNED = 4096
_READ_HERE = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"))


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


class _KnownHead:
    """A head that was read, to be known again: most clients repeat theirs, with another length."""

    __slots__ = (
        "_after",
        "_before",
        "_headers",
        "_keep_alive",
        "_length_at",
        "_method",
        "_path",
        "_query",
        "_target",
    )

    def __init__(self, request: Request, before: bytes, after: bytes) -> None:
        """``before`` and ``after`` the digits of the length, which ``request`` has in one of its fields."""
        self._method, self._target = request.method, request.target
        self._path, self._query = request.path, request.query
        self._headers = request.headers
        self._keep_alive = request.keep_alive
        self._before = before
        self._after = after
        self._length_at = [name for name, _ in request.headers].index(b"content-length")

    def read(self, data: bytes, limits: Limits) -> Request | None:
        """The request, where ``data`` is this head with any length, and all of that body."""
        before, after = self._before, self._after
        if not data.startswith(before):
            return None
        at = len(before)
        end = data.find(b"\r", at, at + _LONGEST_LENGTH + 1)
        digits = data[at:end]
        if end < 0 or not digits.isdigit() or not data.startswith(after, end):
            return None
        length, begin = int(digits), end + len(after)
        if len(data) != begin + length or length > limits.body_bytes or begin > limits.head_bytes:
            return None
        headers = self._headers.copy()
        headers[self._length_at] = (b"content-length", digits)
        body = data[begin:]
        return Request(self._method, self._target, self._path, self._query, "1.1", headers, body, self._keep_alive)


class RequestParser:
    """``feed`` bytes, then take requests with ``next`` until it returns None."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._fresh = b""  # the first read since the buffer was empty
        self._checked = 0  # bytes of the head already searched
        self._line_checked = False
        self._request: Request | None = None  # head complete, body not yet
        self._length = 0  # of the body, where it is not chunked
        self._chunked: ChunkedBody | None = None
        self._expects = False
        self._known: _KnownHead | None = None
        self._learned = 0

    @property
    def buffered(self) -> int:
        """Bytes fed and not yet taken."""
        return len(self._buffer) + len(self._fresh)

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
        if self._buffer or self._fresh or self._request is not None:
            self._buffer += self._fresh
            self._buffer += data
            self._fresh = b""
        else:
            self._fresh = data

    def next(self) -> Request | None:
        """The next complete request, or None where bytes are missing. Raises BadRequest; the parser is dead then."""
        if self._fresh:
            known = None if self._known is None else self._known.read(self._fresh, self._limits)
            if known is not None:
                self._fresh = b""
                return known
            plain = self._read_plain()
            if plain is not None:
                return plain
        elif not self._buffer and self._request is None:
            return None
        if self._request is None:
            head = self._read_head()
            if head is None:
                return None
            self._request = self._parse_head(head)
        request = self._request
        if self._chunked is not None:
            body = self._chunked.read(self._buffer)
            if body is None:
                return None
            request.body = body
            self._chunked = None
        elif self._length:
            if len(self._buffer) < self._length:
                return None
            with memoryview(self._buffer) as view:
                request.body = bytes(view[: self._length])
            del self._buffer[: self._length]
        self._request = None
        return request

    def _read_plain(self) -> Request | None:
        """The request that one read has brought whole, as nearly all do, read without a copy of its body.

        Only heads that nobody could read in another way come through here; None leaves the read to the code below.
        """
        data, self._fresh = self._fresh, b""
        match = _PLAIN_HEAD.match(data)
        fields = [] if match is None else _PLAIN_FIELD.findall(match[3])
        if match is None or match.end() > self._limits.head_bytes or len(fields) > self._limits.head_fields:
            self._buffer += data
            return None
        headers = [(name.lower(), value.strip(b" ")) for name, value in fields]
        try:
            keep_alive = self._read_fields(headers, "1.1")
            plain = self._chunked is None
        except BadRequest:
            plain = keep_alive = False  # refused below, for the first of its faults
        if not plain:
            self._chunked = None
            self._buffer += data
            return None
        target = match[2].decode("ascii")
        path, _, query = target.partition("?")
        end = match.end()
        request = Request(match[1].decode("ascii"), target, path, query, "1.1", headers, b"", keep_alive)
        if len(data) == end + self._length:
            if not self._expects:
                self._learn(request, data[:end])
            request.body = data[end:]
            self._expects = False
            return request
        self._request = request
        self._buffer += data[end:]
        return None

    def _learn(self, request: Request, head: bytes) -> None:
        if self._learned >= _MOST_LEARNED or len(head) > _LARGEST_LEARNED:
            return
        length = _LENGTH_FIELD.search(head)
        if length is not None:
            self._learned += 1
            begin, end = length.span(1)
            self._known = _KnownHead(request, head[:begin], head[end:])

    def _read_head(self) -> bytes | None:
        """Request line and fields with the empty line after them, once they are complete."""
        buffer, limit = self._buffer, self._limits.head_bytes
        if not self._line_checked and not self._check_line():
            return None
        end = buffer.find(b"\r\n\r\n", max(0, self._checked - 3))
        stop = min(limit, end + 4 if end >= 0 else len(buffer))
        since = max(0, self._checked - 1)
        if since and buffer[since] != 0x0D:
            since += 1
        if buffer.count(b"\n", since, stop) != buffer.count(b"\r\n", since, stop):
            raise BadRequest(400, "a line of the head does not end with CR LF")
        if (end if end >= 0 else len(buffer) - 4) > limit - 4:
            raise BadRequest(431, f"request line and header fields exceed {limit} bytes")
        if end < 0:
            self._checked = len(buffer)
            return None
        with memoryview(buffer) as view:
            head = bytes(view[: end + 4])
        del buffer[: end + 4]
        self._checked = 0
        self._line_checked = False
        return head

    def _check_line(self) -> bool:
        """Refuse what does not begin like a request as soon as that shows: TLS, HTTP/0.9, or no HTTP at all.

        False where not even an empty line can be told from a request line yet.
        """
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):  # RFC 9112 2.2: empty lines before a request line are ignored
            del buffer[:2]
        if not buffer or buffer == b"\r":
            return False
        end = buffer.find(b"\n", 0, self._limits.head_bytes)
        if buffer[0] in _LETTERS and end >= 0 and buffer[end - 1] != 0x0D:
            raise BadRequest(400, "a line of the head does not end with CR LF")
        # httptools takes any number of blanks, and bytes beyond ASCII.
        line = _REQUEST_LINE.match(buffer)
        if buffer[0] not in _LETTERS or (end >= 0 and line is None):
            raise BadRequest(400, "malformed request line: expected METHOD /path HTTP/1.1, separated by single blanks")
        if line is not None and line[1] not in _VERSIONS:
            version = line[1].decode()
            raise BadRequest(505, f"HTTP/{version} is not spoken here, only HTTP/1.1 and HTTP/1.0")
        self._line_checked = end >= 0
        return True

    def _parse_head(self, head: bytes) -> Request:
        if head.count(b"\r") != head.count(b"\n") or len(head.translate(None, _CONTROLS)) != len(head):
            raise BadRequest(400, "the head contains a control character")
        if head.count(b"\n") - 2 > self._limits.head_fields:
            raise BadRequest(431, f"the request has more than {self._limits.head_fields} header fields")
        fields = _Head()
        parser = httptools.HttpRequestParser(fields)
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # no other protocol is spoken here: the request is answered as HTTP/1.1
        except httptools.HttpParserError as error:
            raise BadRequest(400, f"malformed request head: {error}") from None
        version = parser.get_http_version()
        keep_alive = self._read_fields(fields.fields, version)
        method = parser.get_method().decode("ascii")
        target = fields.target.decode("ascii")
        if not target.startswith("/"):
            target = _origin_form(target, method, fields.fields)
        path, _, query = target.partition("?")
        return Request(method, target, path, query, version, fields.fields, b"", keep_alive)

    def _read_fields(self, headers: list[Header], version: str) -> bool:
        """Where the body ends (RFC 9112 6.3), with every ambiguity refused; whether the connection may stay open."""
        hosts = lengths = codings = 0
        connection = coding = length = b""
        self._expects = False
        for name, value in headers:
            if name not in _READ_HERE:
                continue
            if name == b"host":
                hosts += 1
                if not _HOST.fullmatch(value):
                    raise BadRequest(400, "the Host field is not the name of a host")
            elif name == b"content-length":
                lengths += 1
                length = value
            elif name == b"transfer-encoding":
                codings += 1
                coding = value
            elif name == b"connection":
                connection += b",%b" % value
            else:
                if value.lower() != b"100-continue":
                    raise BadRequest(417, "only the expectation 100-continue can be met")
                self._expects = version == "1.1"
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            raise BadRequest(400, f"a request needs exactly one Host field, this one has {hosts}")
        if codings and lengths:
            raise BadRequest(400, "a request has either Content-Length or Transfer-Encoding, not both")
        self._length = 0
        if codings:
            if version == "1.0":
                raise BadRequest(400, "HTTP/1.0 has no Transfer-Encoding")
            if codings > 1 or coding.lower() != b"chunked":
                raise BadRequest(501, "the only transfer coding understood is chunked, once")
            self._chunked = ChunkedBody(self._limits)
        elif lengths:
            if lengths > 1 or not _DIGITS.fullmatch(length):
                raise BadRequest(400, "Content-Length must be one decimal number")
            self._length = int(length)
            self._limits.refuse_body_of(self._length)
        return keeps_alive(connection, version)


def _origin_form(target: str, method: str, headers: list[Header]) -> str:
    """Path and query of a target that does not begin with a slash.

    The absolute form, which every server must take, names the host in the place of the Host field (RFC 9112 3.2.2).
    """
    if target == "*" and method == "OPTIONS":
        return target
    match = _ABSOLUTE.match(target)
    if not match:
        raise BadRequest(400, "the request target must be a path that begins with /")
    authority = match[1].encode()
    if not authority or not _HOST.fullmatch(authority):
        raise BadRequest(400, "the request target does not name a host")
    for index, (name, _) in enumerate(headers):
        if name == b"host":
            headers[index] = (name, authority)
    rest = target[match.end() :]
    return rest if rest.startswith("/") else f"/{rest}"
