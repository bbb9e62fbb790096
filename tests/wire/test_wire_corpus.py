"""The corpus against a server: what is refused never reaches the handler; after what is served comes what was meant."""

from __future__ import annotations

import pytest
from wire_corpus import Site, refused, served
from wire_peer import Connect, Serve

from headrace.wire.exchange import Exchange
from headrace.wire.request_parser import Limits

REFUSED = refused(Site())
SERVED = served(Site())


class Handler:
    """Answers all; remembers what."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []

    def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        self.requests.append((request.method, request.path, request.body))
        exchange.respond(200, [], b"served")


@pytest.mark.parametrize("name", REFUSED)
async def test_a_malformed_request_is_answered_closed_and_never_served(
    name: str, serve: Serve, connect: Connect
) -> None:
    status, data = REFUSED[name]
    handler = Handler()
    peer = await connect((await serve(handler)).port)
    peer.send(Site(b"/before").get() + data + Site(b"/smuggled").get())
    assert await peer.answer() == (200, b"served")
    answered, reason = await peer.answer()
    assert answered == status, reason
    assert await peer.rest() == b""
    assert handler.requests == [("GET", "/before", b"")]


@pytest.mark.parametrize("name", SERVED)
async def test_after_an_unusual_request_the_next_one_is_what_was_meant(
    name: str, serve: Serve, connect: Connect
) -> None:
    wanted = SERVED[name]
    handler = Handler()
    peer = await connect((await serve(handler)).port)
    peer.send(wanted.data + Site(b"/next").whole(b"next"))
    head = await peer.head()
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    if wanted.method != "HEAD":
        assert await peer.reader.readexactly(6) == b"served"
    expected = [(wanted.method, "*" if b"OPTIONS *" in wanted.data else "/", wanted.body)]
    if wanted.keeps:
        assert await peer.answer() == (200, b"served")
        expected.append(("POST", "/next", b"next"))
    else:
        assert b"\r\nconnection: close\r\n" in head
        assert await peer.rest() == b""
    assert handler.requests == expected


async def test_a_client_that_expects_100_is_not_told_to_send_what_will_be_refused(
    serve: Serve, connect: Connect
) -> None:
    peer = await connect((await serve(Handler())).port)
    peer.send(Site().post(b"Expect: 100-continue", b"Content-Length: 5000000"))
    assert (await peer.head()).startswith(b"HTTP/1.1 413 ")


async def test_the_absolute_form_names_the_host(serve: Serve, connect: Connect) -> None:
    hosts: list[bytes | None] = []

    def handler(exchange: Exchange) -> None:
        hosts.append(exchange.request.header(b"host"))
        exchange.respond(200)

    peer = await connect((await serve(handler)).port)
    peer.send(b"GET http://b:1?x=1 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await peer.answer())[0] == 200
    assert hosts == [b"b:1"]


async def test_a_head_of_exactly_the_limit_is_served(serve: Serve, connect: Connect) -> None:
    server = await serve(lambda exchange: exchange.respond(200), limits=Limits(head_bytes=100))
    frame = b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n"
    room = 100 - len(frame % b"")
    peer = await connect(server.port)
    peer.send(frame % (b"a" * room))
    assert (await peer.answer())[0] == 200
    peer.send(frame % (b"a" * (room + 1)))
    assert (await peer.answer())[0] == 431


async def test_a_body_of_exactly_the_limit_is_served_in_both_framings(serve: Serve, connect: Connect) -> None:
    handler = Handler()
    server = await serve(handler, limits=Limits(body_bytes=10))
    for size, status in ((10, 200), (11, 413)):
        site = Site(body=b"x" * size)
        for data in (site.whole(), site.post(b"Transfer-Encoding: chunked") + site.chunked()):
            peer = await connect(server.port)
            peer.send(data)
            assert (await peer.answer())[0] == status
    assert [len(body) for _, _, body in handler.requests] == [10, 10]
