"""Heads of answers: what is plain is read as httptools reads it, the first time and when its lines are known."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.wire.errors import ProtocolError
from headrace.wire.response_head import ResponseHead, read_head

LINES = st.sampled_from(
    [
        b"content-length: 5",
        b"Content-Length: 05",
        b"content-length: +5",
        b"content-length: 5, 5",
        b"content-length:",
        b"transfer-encoding: chunked",
        b"Transfer-Encoding: Chunked",
        b"transfer-encoding: gzip, chunked",
        b"connection: close",
        b"Connection: keep-alive",
        b"connection: upgrade",
        b"upgrade: h2c",
        b"X-A:b",
        b"x-a:  b c  ",
        b"x-tab:\tb",
        b"x-high: \xe9",
        b"x-empty:",
        b"bad name: x",
        b"no colon",
        b" folded",
        b"x-nul: \0",
    ]
)
STATUS = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 404", b"HTTP/1.0 200 OK", b"HTTP/1.1 999 No", b"HTTP/1.1 20 OK"]
)


class Fields:
    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))


def outcome(data: bytes) -> object:
    try:
        head: ResponseHead = read_head(data)
    except ProtocolError:
        return "refused"
    return head.status, head.fields, head.length, head.chunked, head.keep_alive


@given(STATUS, st.lists(LINES, max_size=5))
def test_a_head_is_read_as_httptools_reads_it_or_refused(status: bytes, lines: list[bytes]) -> None:
    data = b"\r\n".join([status, *lines]) + b"\r\n\r\n"
    found = outcome(data)
    assert outcome(data) == found
    theirs = Fields()
    parser = httptools.HttpResponseParser(theirs)
    try:
        parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        assert found == "refused"
        return
    if found != "refused":
        assert found[:2] == (parser.get_status_code(), [(name, value.strip(b" \t")) for name, value in theirs.fields])  # type: ignore[index]


@pytest.mark.parametrize(
    ("lines", "length", "chunked", "keep_alive"),
    [
        ([b"Content-Length: 12"], 12, False, True),
        ([b"Content-Length: 0", b"Connection: close"], 0, False, False),
        ([b"Transfer-Encoding: chunked"], None, True, True),
        ([], None, False, True),
    ],
)
def test_a_head_tells_where_its_body_ends_and_what_follows(
    lines: list[bytes], length: int | None, chunked: bool, keep_alive: bool
) -> None:
    head = read_head(b"\r\n".join([b"HTTP/1.1 200 OK", *lines]) + b"\r\n\r\n")
    assert (head.length, head.chunked, head.keep_alive) == (length, chunked, keep_alive)


def test_what_is_remembered_of_heads_is_bounded() -> None:
    for number in range(2000):
        head = read_head(b"HTTP/1.1 200 OK\r\nx-request-id: %d\r\n\r\n" % number)
        assert head.fields == [(b"x-request-id", b"%d" % number)]
