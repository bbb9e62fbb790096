"""Bytes that must not be served, each by name, with the status that answers them."""

from __future__ import annotations

import pytest
from wire_peer import Connect, Serve

from headrace.wire.exchange import Exchange
from headrace.wire.request_parser import Limits

HOST = b"Host: a\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

CORPUS = {
    "no HTTP at all": (400, b"hello\r\n\r\n"),
    "unknown method": (400, b"SMUGGLE / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "lower-case method": (400, b"get / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "two blanks in the request line": (400, b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "target without a slash": (400, b"GET x HTTP/1.1\r\n" + HOST + b"\r\n"),
    "target with bytes beyond ASCII": (400, b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n"),
    "asterisk without OPTIONS": (400, b"GET * HTTP/1.1\r\n" + HOST + b"\r\n"),
    "CONNECT": (400, b"CONNECT a:80 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/0.9": (505, b"GET / HTTP/0.9\r\n" + HOST + b"\r\n"),
    "missing Host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, b"GET / HTTP/1.1\r\n" + HOST + b"Host: b\r\n\r\n"),
    "bare LF after the request line": (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    "bare LF after a field": (400, b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
    "bare LF alone": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "bare CR in a field": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n"),
    "NUL in a field": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n"),
    "control character in a field": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x01b\r\n\r\n"),
    "DEL in a field": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x7fb\r\n\r\n"),
    "folded field": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n"),
    "folded field with a tab": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n\tb\r\n\r\n"),
    "blank before the first field": (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    "blank before the colon": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n"),
    "blank before the colon of a length": (400, POST + b"Content-Length : 1\r\n\r\nx"),
    "field without a name": (400, b"GET / HTTP/1.1\r\n" + HOST + b": a\r\n\r\n"),
    "field without a colon": (400, b"GET / HTTP/1.1\r\n" + HOST + b"nothing\r\n\r\n"),
    "field name with a bracket": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X[]: a\r\n\r\n"),
    "length and chunked": (400, POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunked and length": (400, POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    "two lengths that differ": (400, POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
    "two lengths that agree": (400, POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
    "list of lengths": (400, POST + b"Content-Length: 1, 1\r\n\r\nx"),
    "signed length": (400, POST + b"Content-Length: +1\r\n\r\nx"),
    "negative length": (400, POST + b"Content-Length: -1\r\n\r\n"),
    "hexadecimal length": (400, POST + b"Content-Length: 0x1\r\n\r\nx"),
    "empty length": (400, POST + b"Content-Length:\r\n\r\n"),
    "length beyond 64 bits": (400, POST + b"Content-Length: 99999999999999999999\r\n\r\n"),
    "length beyond the limit": (413, POST + b"Content-Length: 4194305\r\n\r\n"),
    "unknown transfer coding": (501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "chunked twice": (400, POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    "two transfer codings": (400, POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "almost chunked": (400, POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "chunked in HTTP/1.0": (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "size that is no number": (400, CHUNKED + b"x\r\n\r\n"),
    "negative size": (400, CHUNKED + b"-1\r\n\r\n"),
    "size with a prefix": (400, CHUNKED + b"0x1\r\nx\r\n0\r\n\r\n"),
    "size after a blank": (400, CHUNKED + b" 1\r\nx\r\n0\r\n\r\n"),
    "size before a blank": (400, CHUNKED + b"1 \r\nx\r\n0\r\n\r\n"),
    "size of too many digits": (400, CHUNKED + b"0000000000001\r\nx\r\n0\r\n\r\n"),
    "size beyond the limit": (413, CHUNKED + b"400001\r\n"),
    "bare LF after the size": (400, CHUNKED + b"1\nx\r\n0\r\n\r\n"),
    "bare LF in the extension": (400, CHUNKED + b"1;a\nx\r\n0\r\n\r\n"),
    "endless extension": (400, CHUNKED + b"1;" + b"a" * 300),
    "piece longer than its size": (400, CHUNKED + b"1\r\nxy\r\n0\r\n\r\n"),
    "more pieces than are worth it": (400, CHUNKED + b"1\r\nx\r\n" * 16385),
    "trailer without a colon": (400, CHUNKED + b"0\r\nnothing\r\n\r\n"),
    "bare LF in the trailer": (400, CHUNKED + b"0\r\nX: a\n\r\n"),
    "unknown expectation": (417, POST + b"Expect: a-miracle\r\nContent-Length: 1\r\n\r\n"),
    "head beyond the limit": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 65536 + b"\r\n\r\n"),
    "endless request line": (431, b"GET /" + b"a" * 70000),
}


@pytest.mark.parametrize("name", CORPUS)
async def test_a_malformed_request_is_answered_closed_and_never_served(
    name: str, serve: Serve, connect: Connect
) -> None:
    served: list[str] = []

    def handler(exchange: Exchange) -> None:
        served.append(exchange.request.path)
        exchange.respond(200)

    status, data = CORPUS[name]
    server = await serve(handler)
    peer = await connect(server.port)
    peer.send(b"GET /before HTTP/1.1\r\n" + HOST + b"\r\n" + data)
    assert (await peer.answer())[0] == 200
    answered, reason = await peer.answer()
    assert answered == status, reason
    assert await peer.rest() == b""
    assert served == ["/before"]


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", b""),
        (b"GET http://a/ HTTP/1.1\r\n" + HOST + b"\r\n", b""),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Upgrade: h2c\r\nConnection: upgrade\r\n\r\n", b""),
        (b"GET / HTTP/1.0\r\n\r\n", b""),
        (POST + b"Content-Length: 3\r\n\r\nabc", b"abc"),
        (POST + b"Transfer-Encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nX-Sum: 4\r\n\r\n", b"abcd"),
    ],
)
async def test_unusual_but_valid_requests_are_served(data: bytes, body: bytes, serve: Serve, connect: Connect) -> None:
    server = await serve(lambda exchange: exchange.respond(200, [], exchange.request.body))
    peer = await connect(server.port)
    peer.send(data)
    assert await peer.answer() == (200, body)


async def test_a_head_of_exactly_the_limit_is_served(serve: Serve, connect: Connect) -> None:
    server = await serve(lambda exchange: exchange.respond(200), limits=Limits(head_bytes=100))
    frame = b"GET / HTTP/1.1\r\n" + HOST + b"X: %b\r\n\r\n"
    room = 100 - len(frame % b"")
    peer = await connect(server.port)
    peer.send(frame % (b"a" * room))
    assert (await peer.answer())[0] == 200
    peer.send(frame % (b"a" * (room + 1)))
    assert (await peer.answer())[0] == 431
