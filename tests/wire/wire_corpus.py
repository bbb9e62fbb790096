"""Requests on which two servers could disagree, by name: which are refused, with which status, and which are served, as
what. One table for the parser, the server and the whole gateway.

Sources of the kinds: RFC 9112 (2.2, 3, 5, 6, 7.1, 11.2), and what has been published on request smuggling since 2005.
"""

from __future__ import annotations

from dataclasses import dataclass

BIG_HEAD = 64 * 1024
BIG_BODY = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Site:
    """Where the requests go, so that a server would serve each if only its framing were taken."""

    target: bytes = b"/"
    fields: bytes = b""
    """Complete lines besides Host: credentials, for one."""
    body: bytes = b"abc"

    def post(self, *lines: bytes, host: bytes = b"Host: a\r\n", version: bytes = b"1.1") -> bytes:
        """The head of a POST with these lines more."""
        block = b"".join(line + b"\r\n" for line in lines)
        return b"POST %b HTTP/%b\r\n%b%b%b\r\n" % (self.target, version, host, self.fields, block)

    def get(self, *lines: bytes, host: bytes = b"Host: a\r\n", version: bytes = b"1.1") -> bytes:
        return self.post(*lines, host=host, version=version).replace(b"POST", b"GET", 1)

    def whole(self, body: bytes | None = None) -> bytes:
        """A POST without a fault."""
        body = self.body if body is None else body
        return self.post(b"Content-Length: %d" % len(body)) + body

    @property
    def length(self) -> bytes:
        return b"Content-Length: %d" % len(self.body)

    def chunked(self, *, extension: bytes = b"", trailer: bytes = b"", cut: int = 2) -> bytes:
        """The body in chunked coding, in two pieces."""
        pieces = [piece for piece in (self.body[:cut], self.body[cut:]) if piece]
        coded = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
        return coded + b"0%b\r\n%b\r\n" % (extension, trailer)


@dataclass(frozen=True, slots=True)
class Served:
    """What a request that is served must be taken for."""

    data: bytes
    method: str
    body: bytes = b""
    keeps: bool = True
    """The connection takes another request after it."""


CODED = b"Transfer-Encoding: chunked"


def _request_lines(s: Site) -> dict[str, tuple[int, bytes]]:
    rest = b"Host: a\r\n" + s.fields
    return {
        "no HTTP at all": (400, b"hello\r\n\r\n"),
        "the beginning of TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        "unknown method": (400, b"SMUGGLE %b HTTP/1.1\r\n%b\r\n" % (s.target, rest)),
        "lower-case method": (400, b"post %b HTTP/1.1\r\n%b\r\n" % (s.target, rest)),
        "method with a colon": (400, b"POST: %b HTTP/1.1\r\n%b\r\n" % (s.target, rest)),
        "blank before the method": (400, b" POST %b HTTP/1.1\r\n%b\r\n" % (s.target, rest)),
        "two blanks in the request line": (400, b"POST  %b HTTP/1.1\r\n%b\r\n" % (s.target, rest)),
        "tab in the request line": (400, b"POST\t%b HTTP/1.1\r\n%b\r\n" % (s.target, rest)),
        "blank after the version": (400, b"POST %b HTTP/1.1 \r\n%b\r\n" % (s.target, rest)),
        "blank in the target": (400, b"POST %b x HTTP/1.1\r\n%b\r\n" % (s.target, rest)),
        "target without a slash": (400, b"POST x HTTP/1.1\r\n%b\r\n" % rest),
        "target with a fragment": (400, b"POST %b#x HTTP/1.1\r\n%b\r\n" % (s.target, rest)),
        "target with bytes beyond ASCII": (400, b"POST %b\xff HTTP/1.1\r\n%b\r\n" % (s.target, rest)),
        "target with a NUL": (400, b"POST %b\0 HTTP/1.1\r\n%b\r\n" % (s.target, rest)),
        "target with a bare CR": (400, b"POST %b\r HTTP/1.1\r\n%b\r\n" % (s.target, rest)),
        "asterisk without OPTIONS": (400, b"GET * HTTP/1.1\r\n%b\r\n" % rest),
        "authority form": (400, b"GET a:80 HTTP/1.1\r\n%b\r\n" % rest),
        "CONNECT": (400, b"CONNECT a:80 HTTP/1.1\r\n%b\r\n" % rest),
        "absolute form without a host": (400, b"GET http:/// HTTP/1.1\r\n%b\r\n" % rest),
        "absolute form with a user": (400, b"GET http://a@b/ HTTP/1.1\r\n%b\r\n" % rest),
        "absolute form of another scheme": (400, b"GET file://a/ HTTP/1.1\r\n%b\r\n" % rest),
        "HTTP/0.9 without a version": (400, b"GET /\r\n"),
        "HTTP/0.9": (505, b"GET / HTTP/0.9\r\n%b\r\n" % rest),
        "HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        "HTTP/1.2": (505, b"GET / HTTP/1.2\r\n%b\r\n" % rest),
        "HTTP/3.0": (505, b"GET / HTTP/3.0\r\n%b\r\n" % rest),
        "version of two digits": (400, b"GET / HTTP/1.10\r\n%b\r\n" % rest),
        "another protocol": (400, b"GET / HTTPS/1.1\r\n%b\r\n" % rest),
        "version in lower case": (400, b"GET / http/1.1\r\n%b\r\n" % rest),
        "endless request line": (431, b"GET /" + b"a" * (BIG_HEAD + 4096)),
        "head beyond the limit": (431, s.get(b"X: " + b"a" * BIG_HEAD)),
        "more fields than the limit": (431, s.get(*(b"X: a" for _ in range(300)))),
    }


def _fields(s: Site) -> dict[str, tuple[int, bytes]]:
    line = b"POST %b HTTP/1.1\r\n" % s.target
    rest = s.fields + b"%b\r\n\r\n%b" % (s.length, s.body)
    return {
        "missing Host": (400, s.post(s.length, host=b"") + s.body),
        "two Hosts": (400, s.post(s.length, host=b"Host: a\r\nHost: b\r\n") + s.body),
        "two Hosts that agree": (400, s.post(s.length, host=b"Host: a\r\nHost: a\r\n") + s.body),
        "list of Hosts": (400, s.post(s.length, host=b"Host: a, b\r\n") + s.body),
        "Host with a path": (400, s.post(s.length, host=b"Host: a/b\r\n") + s.body),
        "Host with a user": (400, s.post(s.length, host=b"Host: a@b\r\n") + s.body),
        "bare LF after the request line": (400, b"POST %b HTTP/1.1\nHost: a\r\n" % s.target + rest),
        "bare LF after a field": (400, line + b"Host: a\nX: b\r\n" + rest),
        "bare LF ends the head": (400, line + b"Host: a\r\n" + s.fields + s.length + b"\r\n\n" + s.body),
        "bare LF alone": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
        "bare CR in a field": (400, s.post(b"X: a\rb", s.length) + s.body),
        "bare CR hides a length": (400, s.post(b"X: a\rContent-Length: 0", s.length) + s.body),
        "CR CR LF": (400, s.post(b"X: a\r", s.length) + s.body),
        "NUL in a field": (400, s.post(b"X: a\0b", s.length) + s.body),
        "NUL in a name": (400, s.post(b"X\0: a", s.length) + s.body),
        "control character in a field": (400, s.post(b"X: a\x01b", s.length) + s.body),
        "vertical tab in a field": (400, s.post(b"X: a\x0bb", s.length) + s.body),
        "escape in a field": (400, s.post(b"X: \x1b[2J", s.length) + s.body),
        "DEL in a field": (400, s.post(b"X: a\x7fb", s.length) + s.body),
        "folded field": (400, s.post(b"X: a", b" b", s.length) + s.body),
        "folded field with a tab": (400, s.post(b"X: a", b"\tb", s.length) + s.body),
        "folded length": (400, s.post(b"Content-Length:", b" %d" % len(s.body)) + s.body),
        "folded coding": (400, s.post(b"Transfer-Encoding:", b" chunked") + s.chunked()),
        "blank before the first field": (400, line + b" Host: a\r\n" + rest),
        "blank before the colon": (400, s.post(b"X : a", s.length) + s.body),
        "tab before the colon": (400, s.post(b"X\t: a", s.length) + s.body),
        "blank before the colon of a length": (400, s.post(b"Content-Length : %d" % len(s.body)) + s.body),
        "blank before the colon of a coding": (400, s.post(b"Transfer-Encoding : chunked") + s.chunked()),
        "field without a name": (400, s.post(b": a", s.length) + s.body),
        "field without a colon": (400, s.post(b"nothing", s.length) + s.body),
        "field name with a bracket": (400, s.post(b"X[]: a", s.length) + s.body),
        "field name beyond ASCII": (400, s.post(b"X\xc3\xa4: a", s.length) + s.body),
        "unknown expectation": (417, s.post(b"Expect: a-miracle", s.length) + s.body),
        "two expectations": (417, s.post(b"Expect: 100-continue, a-miracle", s.length) + s.body),
    }


def _lengths(s: Site) -> dict[str, tuple[int, bytes]]:
    size, body = len(s.body), s.body

    def length(value: bytes) -> bytes:
        return s.post(b"Content-Length:" + value) + body

    return {
        "two lengths that differ": (400, s.post(b"Content-Length: 0", s.length) + body),
        "two lengths that agree": (400, s.post(s.length, s.length) + body),
        "two lengths, one in other case": (400, s.post(s.length, b"content-LENGTH: 0") + body),
        "list of lengths that agree": (400, length(b" %d, %d" % (size, size))),
        "list of lengths that differ": (400, length(b" %d, 0" % size)),
        "length with a plus": (400, length(b" +%d" % size)),
        "length with a minus": (400, length(b" -%d" % size)),
        "hexadecimal length": (400, length(b" 0x%x" % size)),
        "hexadecimal digits": (400, length(b" a")),
        "length with an exponent": (400, length(b" 1e1")),
        "length with a point": (400, length(b" %d.0" % size)),
        "length with an underscore": (400, length(b" 1_0")),
        "length with a blank inside": (400, length(b" 1 0")),
        "length in quotes": (400, length(b' "%d"' % size)),
        "length in digits beyond ASCII": (400, length(" ٣".encode())),
        "empty length": (400, length(b"")),
        "blank length": (400, length(b" \t ")),
        "length beyond 64 bits": (400, length(b" 18446744073709551619")),
        "length of very many digits": (400, length(b" " + b"9" * 5000)),
        "length beyond the limit": (413, length(b" %d" % (BIG_BODY + 1))),
        "length beyond the limit, with Expect": (
            413,
            s.post(b"Expect: 100-continue", b"Content-Length: %d" % (BIG_BODY + 1)),
        ),
        "length that is none, with Expect": (400, s.post(b"Expect: 100-continue", b"Content-Length: x")),
    }


def _codings(s: Site) -> dict[str, tuple[int, bytes]]:
    def coding(*values: bytes) -> bytes:
        return s.post(*(b"Transfer-Encoding:" + value for value in values)) + s.chunked()

    return {
        "length and chunked": (400, s.post(s.length, CODED) + s.chunked()),
        "chunked and length": (400, s.post(CODED, s.length) + s.chunked()),
        "chunked and a length of nothing": (400, s.post(CODED, b"Content-Length: 0") + s.chunked()),
        "length and an unknown coding": (400, s.post(s.length, b"Transfer-Encoding: x") + s.body),
        "length and identity": (400, s.post(s.length, b"Transfer-Encoding: identity") + s.body),
        "chunked in HTTP/1.0": (400, s.post(CODED, version=b"1.0") + s.chunked()),
        "chunked in HTTP/1.0, kept": (400, s.post(CODED, b"Connection: keep-alive", version=b"1.0") + s.chunked()),
        "gzip, then chunked": (501, coding(b" gzip, chunked")),
        "gzip alone": (400, coding(b" gzip")),
        "identity": (400, coding(b" identity")),
        "chunked, then identity": (400, coding(b" chunked, identity")),
        "identity, then chunked": (501, coding(b" identity, chunked")),
        "chunked twice": (400, coding(b" chunked, chunked")),
        "two fields of chunked": (400, coding(b" chunked", b" chunked")),
        "chunked, and another field": (400, coding(b" chunked", b" x")),
        "another field, and chunked": (501, coding(b" x", b" chunked")),
        "almost chunked: x before": (400, coding(b" xchunked")),
        "almost chunked: x after": (400, coding(b" chunkedx")),
        "almost chunked: quoted": (400, coding(b' "chunked"')),
        "almost chunked: vertical tab after": (400, coding(b" chunked\x0b")),
        "almost chunked: vertical tab before": (400, coding(b" \x0bchunked")),
        "almost chunked: tab after": (400, coding(b" chunked\t")),
        "almost chunked: form feed after": (400, coding(b" chunked\x0c")),
        "almost chunked: NUL after": (400, coding(b" chunked\0")),
        "almost chunked: comma before": (501, coding(b" , chunked")),
        "almost chunked: comma after": (400, coding(b" chunked,")),
        "almost chunked: with a parameter": (400, coding(b" chunked;q=1")),
        "almost chunked: blank inside": (400, coding(b" chun ked")),
        "empty coding": (400, coding(b"")),
    }


def _pieces(s: Site) -> dict[str, tuple[int, bytes]]:
    head = s.post(CODED)
    one = b"1\r\nx\r\n0\r\n\r\n"
    return {
        "size that is no number": (400, head + b"x\r\n\r\n"),
        "empty size": (400, head + b"\r\nx\r\n0\r\n\r\n"),
        "negative size": (400, head + b"-" + one),
        "size with a plus": (400, head + b"+" + one),
        "size with a prefix": (400, head + b"0x" + one),
        "size with an underscore": (400, head + b"1_0\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n"),
        "size after a blank": (400, head + b" " + one),
        "size before a blank": (400, head + b"1 \r\nx\r\n0\r\n\r\n"),
        "size before junk": (400, head + b"1 x\r\nx\r\n0\r\n\r\n"),
        "size before a NUL": (400, head + b"1\0\r\nx\r\n0\r\n\r\n"),
        "size in digits beyond ASCII": (400, head + "١".encode() + b"\r\nx\r\n0\r\n\r\n"),
        "size of too many digits": (400, head + b"000000000000" + one),
        "size beyond 64 bits": (400, head + b"10000000000000001\r\nx\r\n0\r\n\r\n"),
        "size beyond the limit": (413, head + b"400001\r\n"),
        "sizes beyond the limit together": (413, head + b"5\r\nabcde\r\n3fffff\r\n"),
        "bare LF after the size": (400, head + b"1\nx\r\n0\r\n\r\n"),
        "bare CR after the size": (400, head + b"1\rx\r\n0\r\n\r\n"),
        "bare LF in the extension": (400, head + b"1;a\nx\r\n0\r\n\r\n"),
        "bare CR in the extension": (400, head + b"1;a\rb\r\nx\r\n0\r\n\r\n"),
        "NUL in the extension": (400, head + b"1;a\0\r\nx\r\n0\r\n\r\n"),
        "endless extension": (400, head + b"1;" + b"a" * 300),
        "piece longer than its size": (400, head + b"1\r\nxy\r\n0\r\n\r\n"),
        "piece shorter than its size": (400, head + b"5\r\nx\r\n0\r\n\r\n"),
        "bare LF after a piece": (400, head + b"1\r\nx\n0\r\n\r\n"),
        "last piece without its line": (400, head + b"1\r\nx\r\n0\n\r\n"),
        "more pieces than are worth it": (400, head + b"1\r\nx\r\n" * 16385),
        "trailer without a colon": (400, head + b"0\r\nnothing\r\n\r\n"),
        "trailer with a blank before its colon": (400, head + b"0\r\nX : a\r\n\r\n"),
        "length in the trailer": (400, head + b"0\r\nContent-Length: 9\r\n\r\n"),
        "coding in the trailer": (400, head + b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        "Host in the trailer": (400, head + b"0\r\nhost: b\r\n\r\n"),
        "folded trailer": (400, head + b"0\r\nX: a\r\n b\r\n\r\n"),
        "bare LF in the trailer": (400, head + b"0\r\nX: a\n\r\n"),
        "NUL in the trailer": (400, head + b"0\r\nX: \0\r\n\r\n"),
        "endless trailer": (431, head + b"0\r\n" + b"X: aaaaaaaaaaaa\r\n" * 5000),
        "bad piece, with Expect": (400, s.post(b"Expect: 100-continue", CODED) + b"x\r\n"),
    }


def refused(site: Site) -> dict[str, tuple[int, bytes]]:
    """Status and bytes of each request that is answered, and its connection closed; none may be served."""
    parts = (_request_lines(site), _fields(site), _lengths(site), _codings(site), _pieces(site))
    found = {name: entry for part in parts for name, entry in part.items()}
    assert len(found) == sum(map(len, parts)), "two entries have the same name"
    return found


def served(site: Site) -> dict[str, Served]:
    """Requests that are unusual, and valid."""
    s, body = site, site.body
    absolute = b"http://b:1" + s.target
    return {
        "length": Served(s.whole(), "POST", body),
        "length between blanks": Served(s.post(b"Content-Length: \t%d \t" % len(body)) + body, "POST", body),
        "length without a blank": Served(s.post(b"Content-Length:%d" % len(body)) + body, "POST", body),
        "length with zeros before it": Served(s.post(b"Content-Length: 000%d" % len(body)) + body, "POST", body),
        "length of nothing": Served(s.post(b"Content-Length: 0"), "POST"),
        "no length": Served(s.post(), "POST"),
        "chunked": Served(s.post(CODED) + s.chunked(), "POST", body),
        "chunked in other case": Served(s.post(b"TRANSFER-encoding: Chunked") + s.chunked(), "POST", body),
        "chunked between blanks": Served(s.post(b"Transfer-Encoding:  chunked  ") + s.chunked(), "POST", body),
        "chunked after a tab": Served(s.post(b"Transfer-Encoding:\tchunked") + s.chunked(), "POST", body),
        "chunked in one piece": Served(s.post(CODED) + s.chunked(cut=len(body)), "POST", body),
        "chunked without a piece": Served(s.post(CODED) + b"0\r\n\r\n", "POST"),
        "chunked, last piece of many zeros": Served(s.post(CODED) + b"000\r\n\r\n", "POST"),
        "chunked with extensions": Served(s.post(CODED) + s.chunked(extension=b';a=b;c="d"'), "POST", body),
        "chunked with trailers": Served(s.post(CODED) + s.chunked(trailer=b"X-Sum: 4\r\n"), "POST", body),
        "a body that looks like a request": Served(
            s.whole(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"), "POST", b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        ),
        "Expect, with the body": Served(s.post(b"Expect: 100-continue", s.length) + body, "POST", body),
        "Expect in HTTP/1.0 is ignored": Served(
            s.post(b"Expect: 100-continue", b"Connection: keep-alive", s.length, version=b"1.0") + body, "POST", body
        ),
        "a name that only looks like a length": Served(s.post(b"Content_Length: 9", s.length) + body, "POST", body),
        "a name that only looks like a coding": Served(
            s.post(b"Transfer_Encoding: chunked", s.length) + body, "POST", body
        ),
        "empty lines before": Served(b"\r\n\r\n" + s.whole(), "POST", body),
        "a field beyond ASCII": Served(s.post(b"X: \xc3\xa4\xff", s.length) + body, "POST", body),
        "an empty field": Served(s.post(b"X:", s.length) + body, "POST", body),
        "many fields": Served(s.post(*(b"X-%d: %d" % (n, n) for n in range(200)), s.length) + body, "POST", body),
        "a long field": Served(s.post(b"X: " + b"a" * 60_000, s.length) + body, "POST", body),
        "an upgrade is not taken": Served(
            s.post(b"Connection: upgrade", b"Upgrade: h2c", s.length) + body, "POST", body
        ),
        "absolute form": Served(s.whole().replace(s.target, absolute, 1), "POST", body),
        "Connection: close": Served(s.post(b"Connection: close", s.length) + body, "POST", body, keeps=False),
        "close among other options": Served(
            s.post(b"Connection: keep-alive, Close", s.length) + body, "POST", body, keeps=False
        ),
        "HTTP/1.0": Served(s.post(s.length, version=b"1.0") + body, "POST", body, keeps=False),
        "HTTP/1.0 without a Host": Served(s.post(s.length, host=b"", version=b"1.0") + body, "POST", body, keeps=False),
        "HTTP/1.0, kept": Served(s.post(b"Connection: Keep-Alive", s.length, version=b"1.0") + body, "POST", body),
        "GET": Served(s.get(), "GET"),
        "GET with a body": Served(s.get(s.length) + body, "GET", body),
        "HEAD": Served(s.get().replace(b"GET", b"HEAD", 1), "HEAD"),
        "HEAD with a body": Served(s.get(s.length).replace(b"GET", b"HEAD", 1) + body, "HEAD", body),
        "OPTIONS": Served(s.get().replace(b"GET", b"OPTIONS", 1), "OPTIONS"),
        "OPTIONS *": Served(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n" + s.fields + b"\r\n", "OPTIONS"),
    }
