"""``Client.send`` with a reader that is called: what it hears, and what cancelling and pausing do at every point."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from wire_scripted import OK, ClientOf, Script, ScriptedOf, Wire

from headrace.wire.client import Client, ConnectFailed, ConnectionLost, ProtocolError, Transfer, WireError
from headrace.wire.message import Header

WITHIN_S = 10.0
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Listener:
    """Notes what it is told, and does what it was asked to do then."""

    def __init__(self, client: Client, method: str = "GET", *, reuse: bool = True) -> None:
        self.heard: list[str] = []
        self.status = 0
        self.headers: list[Header] = []
        self.pieces: list[bytes] = []
        self.framed: list[bytes | None] = []
        self.error: WireError | None = None
        self.over = asyncio.Event()
        self.at: dict[str, Callable[[], object]] = {}
        """What to do when this is heard."""
        payload = client.payload(method, "/", [], b"", reuse=reuse)
        self.transfer: Transfer = client.send(method, payload, self, reuse=reuse)

    def head(self, status: int, headers: list[Header]) -> None:
        self.status, self.headers = status, headers
        self._note("head")

    def body(self, data: bytes, framed: bytes | None, last: bool) -> None:
        self.pieces.append(data)
        self.framed.append(framed)
        self._note("last" if last else "piece")

    def failed(self, error: WireError) -> None:
        self.error = error
        self._note("failed")

    def _note(self, what: str) -> None:
        self.heard.append(what)
        self.at.get(what, lambda: None)()
        if what in ("last", "failed"):
            self.over.set()

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces)

    async def end(self) -> Listener:
        async with asyncio.timeout(WITHIN_S):
            await self.over.wait()
        return self


async def until(condition: Callable[[], bool]) -> None:
    """Until turns of the loop have made it so."""
    loop = asyncio.get_running_loop()
    late = loop.time() + WITHIN_S
    while not condition():
        assert loop.time() < late
        await turns(1)


async def turns(count: int) -> None:
    """Of the loop."""
    for _ in range(count):
        await asyncio.sleep(0)


async def closed(queue: asyncio.Queue[int]) -> int:
    """The number of the next connection that the client has closed."""
    async with asyncio.timeout(WITHIN_S):
        return await queue.get()


def answers(*parts: bytes) -> Script:
    """Each request gets these bytes; one write each."""

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            for part in parts:
                await wire.send(part)

    return script


# What it hears.


async def test_a_head_then_pieces_then_the_last_one(scripted: ScriptedOf, client_of: ClientOf) -> None:
    peer = await scripted(Wire.answer_all)
    listener = await Listener(client_of(peer.port)).end()
    assert listener.heard == ["head", "last"]
    assert (listener.status, listener.headers, listener.content) == (200, [(b"content-length", b"2")], b"ok")


async def test_whole_chunks_come_with_their_framing_and_others_without(
    scripted: ScriptedOf, client_of: ClientOf
) -> None:
    go_on = asyncio.Event()
    parts = [b"3\r\nabc\r\n", b"00002\r\nde\r\n1\r\nf\r\n", b"3;x=y\r\nghi\r\n", b"4\r\njk", b"lm\r\n", b"0\r\n\r\n"]

    async def in_parts(wire: Wire) -> None:
        await wire.request()
        await wire.send(CHUNKED)
        for part in parts:
            await go_on.wait()
            go_on.clear()
            await wire.send(part)

    peer = await scripted(in_parts)
    listener = Listener(client_of(peer.port))
    await until(lambda: listener.heard == ["head"])
    for count in range(1, len(parts) + 1):
        go_on.set()
        await until(lambda count=count: len(listener.pieces) == count)
    assert listener.pieces == [b"abc", b"def", b"ghi", b"jk", b"lm", b""]
    assert listener.framed == [parts[0], parts[1], None, None, None, None]
    assert listener.heard == ["head", *["piece"] * 5, "last"]


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", CHUNKED),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
    ],
)
async def test_an_answer_without_a_body_ends_with_an_empty_piece(
    method: str, head: bytes, scripted: ScriptedOf, client_of: ClientOf
) -> None:
    peer = await scripted(answers(head))
    client = client_of(peer.port)
    for _ in range(3):
        listener = await Listener(client, method).end()
        assert listener.heard == ["head", "last"]
        assert listener.content == b""
    assert peer.connections == 1


async def test_interim_answers_are_not_heard_of_in_whatever_reads_they_come(
    scripted: ScriptedOf, client_of: ClientOf
) -> None:
    async def bytewise(wire: Wire) -> None:
        await wire.request()
        for byte in b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK:
            await wire.send(bytes([byte]))
            await asyncio.sleep(0)

    peer = await scripted(bytewise)
    listener = await Listener(client_of(peer.port)).end()
    assert (listener.heard[0], listener.heard[-1], listener.heard.count("head")) == ("head", "last", 1)
    assert (listener.status, listener.content) == (200, b"ok")


@pytest.mark.parametrize(
    "parts", [(b"HTTP/1.1 200 OK\r\n\r\nabc",), (b"HTTP/1.1 200 OK\r\n\r\n", b"abc"), (b"HTTP/1.0 200 OK\r\n\r\nabc",)]
)
async def test_a_body_without_a_length_ends_with_its_connection(
    parts: tuple[bytes, ...], scripted: ScriptedOf, client_of: ClientOf
) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        for part in parts:
            await wire.send(part)

    peer = await scripted(script)
    client = client_of(peer.port)
    for connections in (1, 2):
        listener = await Listener(client).end()
        assert (listener.heard[-1], listener.content) == ("last", b"abc")
        assert peer.connections == connections


@pytest.mark.parametrize(
    ("parts", "heard"),
    [
        ((), ["failed"]),
        ((b"HTTP/1.1 200",), ["failed"]),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",), ["head", "failed"]),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",), ["head", "piece", "failed"]),
        ((CHUNKED, b"3\r\nabc\r\n"), ["head", "piece", "failed"]),
        ((CHUNKED, b"3\r\nabc\r\n0\r\n"), ["head", "piece", "failed"]),
    ],
)
async def test_an_answer_that_breaks_off_fails_once_after_what_came_of_it(
    parts: tuple[bytes, ...], heard: list[str], scripted: ScriptedOf, client_of: ClientOf
) -> None:
    async def breaks_off(wire: Wire) -> None:
        await wire.request()
        for part in parts:
            await wire.send(part)

    peer = await scripted(breaks_off)
    listener = await Listener(client_of(peer.port)).end()
    assert listener.heard == heard
    assert isinstance(listener.error, ConnectionLost)


@pytest.mark.parametrize("nonsense", [b"SSH-2.0\r\n", CHUNKED + b"zz\r\n", CHUNKED + b"1\r\nab\r\n"])
async def test_what_is_not_http_fails_and_closes(nonsense: bytes, scripted: ScriptedOf, client_of: ClientOf) -> None:
    async def talks(wire: Wire) -> None:
        await wire.request()
        await wire.send(nonsense)
        await wire.request()

    peer = await scripted(talks)
    listener = await Listener(client_of(peer.port)).end()
    assert isinstance(listener.error, ProtocolError)
    assert await closed(peer.closed) == 1


async def test_nobody_there_is_a_failure_to_connect_and_not_an_exception(client_of: ClientOf) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    listener = await Listener(client_of(port)).end()
    assert listener.heard == ["failed"]
    assert isinstance(listener.error, ConnectFailed)


# Cancelling.


@pytest.mark.parametrize("count", range(8))
async def test_cancelled_while_it_connects_nothing_is_heard_and_no_connection_stays(
    count: int, scripted: ScriptedOf, client_of: ClientOf
) -> None:
    """At every turn of the loop on the way to a connection."""
    peer = await scripted(Wire.answer_all)
    client = client_of(peer.port)
    cancelled = Listener(client)
    await turns(count)
    heard = list(cancelled.heard)
    cancelled.transfer.cancel()
    other = await Listener(client).end()
    assert other.content == b"ok"
    assert cancelled.heard == heard
    if "last" not in heard:
        assert peer.connections - peer.closed.qsize() <= 2
        await until(lambda: len(client._open) == 1)


async def test_cancelled_before_the_head_the_connection_closes_at_once(
    scripted: ScriptedOf, client_of: ClientOf
) -> None:
    asked = asyncio.Event()

    async def silent(wire: Wire) -> None:
        await wire.request()
        asked.set()
        await wire.request()

    peer = await scripted(silent)
    listener = Listener(client_of(peer.port))
    await asyncio.wait_for(asked.wait(), WITHIN_S)
    listener.transfer.cancel()
    assert await closed(peer.closed) == 1
    assert listener.heard == []


@pytest.mark.parametrize(
    ("at", "answer"),
    [
        ("head", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd"),
        ("head", CHUNKED + b"4\r\nabcd\r\n0\r\n\r\n"),
        ("head", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("head", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("head", b"HTTP/1.1 200 OK\r\n\r\nabcd"),
        ("piece", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabcd"),
        ("piece", CHUNKED + b"4\r\nabcd\r\n4\r\nef"),
        ("piece", b"HTTP/1.1 200 OK\r\n\r\nabcd"),
    ],
)
async def test_cancelled_by_its_reader_nothing_more_is_heard(
    at: str, answer: bytes, scripted: ScriptedOf, client_of: ClientOf
) -> None:
    async def goes_on(wire: Wire) -> None:
        await wire.request()
        await wire.send(answer)
        await wire.request()

    peer = await scripted(goes_on)
    client = client_of(peer.port)
    listener = Listener(client)
    listener.at[at] = listener.transfer.cancel
    assert await closed(peer.closed) == 1
    assert listener.heard == {"head": ["head"], "piece": ["head", "piece"]}[at]
    assert not client._open


@pytest.mark.parametrize("twice", [False, True])
async def test_cancelled_after_its_end_the_connection_stays(
    twice: bool, scripted: ScriptedOf, client_of: ClientOf
) -> None:
    peer = await scripted(Wire.answer_all)
    client = client_of(peer.port)
    first = Listener(client)
    if twice:
        first.at["last"] = first.transfer.cancel
    await first.end()
    second = Listener(client)
    first.transfer.cancel()  # the connection is another one's now
    assert (await second.end()).content == b"ok"
    assert peer.connections == 1


async def test_cancelled_while_a_stale_connection_is_replaced_nothing_is_heard(
    scripted: ScriptedOf, client_of: ClientOf
) -> None:
    async def once(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK)
        if wire.number == 1:
            await wire.request()  # and close

    peer = await scripted(once)
    client = client_of(peer.port)
    await Listener(client).end()
    stale = Listener(client)
    await until(lambda: stale.transfer._connecting is not None)
    stale.transfer.cancel()
    assert (await Listener(client).end()).content == b"ok"
    assert stale.heard == []


# Pausing.


async def test_a_paused_transfer_hears_nothing_until_it_is_resumed(scripted: ScriptedOf, client_of: ClientOf) -> None:
    size, count = 64 * 1024, 400
    sent = 0

    async def floods(wire: Wire) -> None:
        nonlocal sent
        while True:
            await wire.request()
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (size * count))
            for _ in range(count):
                await wire.send(b"x" * size)
                sent += 1

    peer = await scripted(floods)
    client = client_of(peer.port)
    listener = Listener(client)
    await until(lambda: bool(listener.pieces))
    listener.transfer.pause()
    listener.transfer.pause()
    before, still = -1, len(listener.pieces)
    while before != sent:
        before = sent
        await turns(200)
    assert sent < count
    assert len(listener.pieces) == still
    listener.transfer.resume()
    await listener.end()
    assert len(listener.content) == size * count
    assert (await Listener(client).end()).heard[-1] == "last"
    assert peer.connections == 1


async def test_a_reader_that_pauses_at_each_piece_gets_all_of_them_and_the_connection_is_good_after_it(
    scripted: ScriptedOf, client_of: ClientOf
) -> None:
    parts = [b"%x\r\n%b\r\n" % (100, b"y" * 100) for _ in range(20)]
    peer = await scripted(answers(CHUNKED, *parts, b"0\r\n\r\n"))
    client = client_of(peer.port)
    loop = asyncio.get_running_loop()
    for _ in range(2):
        listener = Listener(client)

        def stop_and_go(transfer: Transfer = listener.transfer) -> None:
            transfer.pause()
            loop.call_soon(transfer.resume)

        listener.at["head"] = listener.at["piece"] = stop_and_go
        await listener.end()
        assert listener.content == b"y" * 2000
    assert peer.connections == 1


async def test_a_paused_transfer_can_be_cancelled(scripted: ScriptedOf, client_of: ClientOf) -> None:
    async def endless(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")
        await wire.request()

    peer = await scripted(endless)
    listener = Listener(client_of(peer.port))
    listener.at["piece"] = listener.transfer.pause
    await until(lambda: listener.heard == ["head", "piece"])
    listener.transfer.cancel()
    assert await closed(peer.closed) == 1
    listener.transfer.resume()
    assert listener.heard == ["head", "piece"]


# Connections.


async def test_a_reader_that_asks_again_at_the_end_of_an_answer_gets_the_same_connection(
    scripted: ScriptedOf, client_of: ClientOf
) -> None:
    for answer in (OK, CHUNKED + b"2\r\nok\r\n0\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"):
        peer = await scripted(answers(answer))
        client = client_of(peer.port)
        chain: list[Listener] = []

        def ask(client: Client = client, chain: list[Listener] = chain) -> None:
            if len(chain) < 20:
                chain.append(Listener(client))
                chain[-1].at["last"] = ask

        ask()
        await until(lambda chain=chain: len(chain) == 20 and chain[-1].over.is_set())
        assert [listener.heard[-1] for listener in chain] == ["last"] * 20
        assert peer.connections == 1


async def test_a_reader_that_asks_again_when_it_has_failed_gets_another_connection(
    scripted: ScriptedOf, client_of: ClientOf
) -> None:
    async def first_dies(wire: Wire) -> None:
        await wire.request()
        if wire.number > 1:
            await wire.send(OK)
            await wire.request()

    peer = await scripted(first_dies)
    client = client_of(peer.port)
    again: list[Listener] = []
    first = Listener(client)
    first.at["failed"] = lambda: again.append(Listener(client))
    await first.end()
    assert (await again[0].end()).content == b"ok"


async def test_a_stale_connection_is_retried_once_and_nobody_hears_of_it(
    scripted: ScriptedOf, client_of: ClientOf
) -> None:
    asked = 0

    async def close_on_second(wire: Wire) -> None:
        nonlocal asked
        await wire.request()
        asked += 1
        if wire.number == 3:
            return  # a new connection that dies is no stale one
        await wire.send(OK)
        await wire.request()
        asked += 1

    peer = await scripted(close_on_second)
    client = client_of(peer.port)
    assert (await Listener(client).end()).heard == ["head", "last"]
    assert (await Listener(client).end()).heard == ["head", "last"]
    assert (peer.connections, asked) == (2, 3)
    third = await Listener(client).end()
    assert third.heard == ["failed"]
    assert isinstance(third.error, ConnectionLost)
    assert (peer.connections, asked) == (3, 5)


async def test_what_must_not_be_reused_neither_takes_a_kept_connection_nor_leaves_one(
    scripted: ScriptedOf, client_of: ClientOf
) -> None:
    peer = await scripted(Wire.answer_all)
    client = client_of(peer.port)
    await Listener(client).end()
    await Listener(client, reuse=False).end()
    assert await closed(peer.closed) == 2
    await Listener(client).end()
    assert peer.connections == 2


async def test_two_at_once_have_a_connection_each(scripted: ScriptedOf, client_of: ClientOf) -> None:
    peer = await scripted(Wire.answer_all)
    client = client_of(peer.port)
    both = [Listener(client), Listener(client)]
    for listener in both:
        assert (await listener.end()).content == b"ok"
    assert peer.connections == 2
