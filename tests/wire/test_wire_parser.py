"""However the bytes are cut, the parser says the same."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from wire_mutations import seeds

from headrace.wire.request_parser import BadRequest, Limits, RequestParser

LIMITS = Limits(head_bytes=300, body_bytes=200)
LENGTH = re.compile(rb"Content-Length: [0-9]+\r\n")

fields = st.dictionaries(
    st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,10}", fullmatch=True).filter(
        lambda name: name.lower() not in ("host", "content-length", "transfer-encoding", "expect", "connection")
    ),
    st.from_regex(r"([!-~]([ -~]{0,20}[!-~])?)?", fullmatch=True),
    max_size=4,
)
bodies = st.lists(st.binary(min_size=1, max_size=60), max_size=4)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes, bytes]:
    """(bytes, path, body) of a valid request, mostly."""
    path = b"/" + draw(st.from_regex(r"[a-z]{0,8}", fullmatch=True)).encode()
    lines = [b"POST %b HTTP/1.1" % path, b"Host: a"]
    lines += [f"{name}: {value}".encode() for name, value in draw(fields).items()]
    pieces = draw(bodies)
    body = b"".join(pieces)
    if draw(st.booleans()):
        lines.append(b"Transfer-Encoding: chunked")
        encoded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        lines.append(b"Content-Length: %d" % len(body))
        encoded = body
    return b"\r\n".join(lines) + b"\r\n\r\n" + encoded, path, body


def parse(pieces: list[bytes]) -> list[object]:
    parser = RequestParser(LIMITS)
    found: list[object] = []
    try:
        for piece in pieces:
            parser.feed(piece)
            while (request := parser.next()) is not None:
                found.append((request.path, request.headers, request.body))
    except BadRequest as refusal:
        found.append((refusal.status, refusal.reason))
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    borders = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(borders)]


@settings(deadline=None)  # what it takes says nothing on a machine that others use
@given(st.lists(requests(), max_size=4), st.lists(st.integers(0, 5000), max_size=30))
def test_valid_requests_come_out_as_they_went_in(sent: list[tuple[bytes, bytes, bytes]], places: list[int]) -> None:
    stream = b"".join(data for data, _, _ in sent)
    found = parse(cut(stream, places))
    assert found == parse([stream])
    for request, (_, path, body) in zip(found, sent, strict=False):
        if isinstance(request, tuple) and len(request) == 3:
            assert (request[0], request[2]) == (path.decode(), body)
    if len(found) < len(sent):
        assert found[-1][0] in (413, 431)  # type: ignore[index]


@settings(deadline=None)
@given(
    st.one_of(
        st.sampled_from([data for data in seeds() if len(data) < 1000]),
        st.lists(
            st.sampled_from([b"GET / HTTP/1.1", b"Host: a", b"\r\n", b"\n", b"\r", b"X: b", b" ", b"0", b"\0"])
        ).map(b"".join),
        requests().flatmap(
            lambda request: st.tuples(st.integers(0, len(request[0])), st.binary(max_size=3)).map(
                lambda change: request[0][: change[0]] + change[1] + request[0][change[0] + 1 :]
            )
        ),
    ),
    st.lists(st.integers(0, 1000), max_size=30),
)
def test_what_is_refused_is_refused_alike_however_it_is_cut(data: bytes, places: list[int]) -> None:
    assert parse(cut(data, places)) == parse([data]) == parse([data[i : i + 1] for i in range(len(data))])


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + 1 :]


@settings(deadline=None)
@given(requests(), requests(), st.integers(0, 500), st.binary(max_size=3), st.integers(0, 10**19))
def test_what_came_before_on_a_connection_does_not_change_how_a_request_is_read(
    first: tuple[bytes, bytes, bytes], second: tuple[bytes, bytes, bytes], at: int, new: bytes, length: int
) -> None:
    known = first[0]
    repeated = LENGTH.sub(b"Content-Length: %d\r\n" % length, known)
    shorter = LENGTH.sub(b"Content-Length: 3\r\n", known).partition(b"\r\n\r\n")[0] + b"\r\n\r\nabc"
    whole = parse([known])
    if len(whole) != 1 or len(whole[0]) != 3:  # type: ignore[arg-type]
        return
    other = changed(known, at % len(known), new)
    for data in (known, shorter, repeated, second[0], other, shorter[:-1], shorter + b"G"):
        assert parse([known, data]) == whole + parse([data])
        assert parse([known, known, data]) == whole + whole + parse([data])


def test_a_repeated_head_may_announce_another_length() -> None:
    heads = [b"POST /v1 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nX-Y: z\r\n\r\n" % length for length in (3, 12, 0)]
    bodies = [b"abc", b"another body", b""]
    assert parse([head + body for head, body in zip(heads, bodies, strict=True)]) == [
        ("/v1", [(b"host", b"a"), (b"content-length", b"%d" % len(body)), (b"x-y", b"z")], body) for body in bodies
    ]
    assert parse([heads[0] + b"abc", heads[0].replace(b"3", b"201") + b"d" * 201])[1:] == [
        (413, "the body exceeds 200 bytes")
    ]
