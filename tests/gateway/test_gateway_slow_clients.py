"""Clients that are slow, silent or too many, against a whole gateway process: it tells them, drops them or waits for
them, and all others are served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from gateway_rig import QUERY_KEY, RAW, SSE, WITHIN_S, FakeEngine, RawClient, chat_body
from test_gateway_process import CHAT, Started, started

from headrace.gateway.config import LimitsConfig
from headrace.journal.records import Settled
from headrace.wire.server import Exchange

SILENT = 2000
BETWEEN_S = 0.05
"""A slow client's pause, so that a test of what takes a second a byte does not take minutes."""
MIB = 1024 * 1024
CONNECTION_BYTES = 16 * 1024
"""That an open connection without a request may take of the gateway's memory."""
STREAM_MIB = 16
"""That a stream which is not read may take: the buffers of the gateway and some of the kernel's, never the stream."""


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process holds the other ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * SILENT:
        pytest.skip(f"this machine allows {hard} open files; the test needs {2 * SILENT}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def memory(gateway: Started) -> int:
    return int(psutil.Process(gateway.process.pid).memory_info().rss)


async def ask(gateway: Started) -> int:
    """Status of a plain request on a connection of its own, which must not take long."""
    client = await gateway.connect()
    try:
        async with asyncio.timeout(5):
            await client.send("POST", CHAT, chat_body())
            return (await client.answer()).status
    finally:
        client.close()


async def drip(client: RawClient, data: bytes) -> tuple[int, dict[str, Any]]:
    """Send byte by byte until there is an answer: its status and body."""
    answer = asyncio.create_task(client.answer())
    for byte in itertools.chain(data, itertools.repeat(0x61)):
        with contextlib.suppress(ConnectionError):
            client.writer.write(bytes([byte]))
            await client.writer.drain()
        await asyncio.wait((answer,), timeout=BETWEEN_S)
        if answer.done():
            found = answer.result()
            return found.status, found.json
    raise AssertionError("unreachable")


async def torrent(engine: FakeEngine, exchange: Exchange, body: dict[str, Any]) -> None:
    """Stream without end, as fast as it is taken."""
    exchange.start(200, [SSE])
    piece = b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "x" * 4000}}]}).encode() + b"\n\n"
    written = 0
    while not exchange.client_gone:
        exchange.write(piece)
        written += len(piece)
        if exchange.congested:
            # Held up for good once so much stays unread; until then the kernel still makes room now and then.
            engine.headers[-1]["written"] = str(written)
            await exchange.drain()


async def test_two_thousand_clients_that_say_nothing_hold_nobody_up(tmp_path: Path, many_files: None) -> None:
    engine = FakeEngine("replica-0", RAW)
    limits = LimitsConfig(idle_timeout_s=3.0)
    async with started(tmp_path, engine, limits=limits) as gateway:
        assert await ask(gateway) == 200
        before = memory(gateway)
        address = ("127.0.0.1", gateway.port)
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(socket.create_connection(address, timeout=WITHIN_S)) for _ in range(SILENT)]
            assert [await ask(gateway) for _ in range(5)] == [200] * 5
            assert memory(gateway) - before < SILENT * CONNECTION_BYTES
            # All of them are closed at the idle limit, without a word.
            for sock in silent:
                assert await asyncio.to_thread(sock.recv, 1) == b""
        assert await ask(gateway) == 200


async def test_connections_beyond_the_limit_are_told_so(tmp_path: Path) -> None:
    engine = FakeEngine("replica-0", RAW)
    async with started(tmp_path, engine, limits=LimitsConfig(connections=2)) as gateway:
        kept = [await gateway.connect() for _ in range(2)]
        for client in kept:
            await client.send("POST", CHAT, chat_body())
            assert (await client.answer()).status == 200
        refused = await gateway.connect()
        told = await refused.answer()
        assert (told.status, told.json["message"]) == (503, "more than 2 connections are open")
        kept[0].close()  # its place is free, although the one that was refused is still there
        async with asyncio.timeout(2):
            while await ask(gateway) != 200:
                pass


@pytest.mark.parametrize(
    ("limits", "sent", "says"),
    [
        (LimitsConfig(head_timeout_s=0.5), b"POST / HTTP/1.1\r\nHost: a\r\nX: ", "the request head was not complete"),
        (
            LimitsConfig(body_timeout_s=0.5),
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n",
            "the request body was not complete",
        ),
    ],
)
async def test_a_client_that_sends_byte_by_byte_is_told_that_it_is_late(
    tmp_path: Path, limits: LimitsConfig, sent: bytes, says: str
) -> None:
    engine = FakeEngine("replica-0", RAW)
    async with started(tmp_path, engine, limits=limits) as gateway:
        client = await gateway.connect()
        at_once, slowly = sent[:-4], sent[-4:]
        client.writer.write(at_once)
        status, body = await drip(client, slowly)
        assert status == 408
        assert body["message"].startswith(says)
        assert engine.bodies == []
        assert await ask(gateway) == 200


async def test_a_stream_waits_for_a_client_that_reads_byte_by_byte(tmp_path: Path) -> None:
    engine = FakeEngine("replica-0", RAW)
    async with started(tmp_path, engine) as gateway:
        assert await ask(gateway) == 200
        before = memory(gateway)
        engine.behave = torrent
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, ("127.0.0.1", gateway.port))
        await loop.sock_sendall(slow, request(chat_body(stream=True)))
        await engine.asked(2)
        for _ in range(40):
            assert len(await loop.sock_recv(slow, 1)) == 1
            await asyncio.wait((asyncio.create_task(engine.cancelled.wait()),), timeout=BETWEEN_S)
        assert not engine.cancelled.is_set()  # it reads, if slowly
        held_up_at = int(engine.headers[-1]["written"])
        assert held_up_at < STREAM_MIB * MIB
        assert memory(gateway) - before < STREAM_MIB * MIB
        engine.behave = FakeEngine("other", RAW).behave
        assert await ask(gateway) == 200
        slow.close()
        async with asyncio.timeout(WITHIN_S):
            await engine.cancelled.wait()


async def test_a_connection_takes_no_more_memory_than_the_reference_says(tmp_path: Path) -> None:
    engine = FakeEngine("replica-0", RAW)
    async with started(tmp_path, engine) as gateway:
        large = request(chat_body(messages=[{"role": "user", "content": "x"}], grammar="g" * 4_100_000))
        with socket.create_connection(("127.0.0.1", gateway.port)) as first:
            first.sendall(large)
            await engine.asked(1)
        assert await ask(gateway) == 200
        before = memory(gateway)
        engine.behave = torrent
        with contextlib.ExitStack() as stack:
            for number in range(2):
                deaf = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
                await asyncio.to_thread(deaf.sendall, large)
                await engine.asked(3 + number)
            async with asyncio.timeout(WITHIN_S):
                await asyncio.gather(*(held_up(engine, number) for number in (2, 3)))
            assert memory(gateway) - before < 2 * 10 * MIB


async def held_up(engine: FakeEngine, number: int) -> None:
    """Until the stream that answers this request has been stopped by its reader."""
    while "written" not in engine.headers[number]:
        await asyncio.wait((asyncio.create_task(engine.cancelled.wait()),), timeout=BETWEEN_S)


async def test_a_client_that_reads_nothing_is_taken_as_gone(tmp_path: Path) -> None:
    engine = FakeEngine("replica-0", RAW)
    engine.behave = torrent
    async with started(tmp_path, engine, limits=LimitsConfig(stall_timeout_s=0.5)) as gateway:
        with socket.create_connection(("127.0.0.1", gateway.port)) as deaf:
            deaf.sendall(request(chat_body(stream=True)))
            async with asyncio.timeout(WITHIN_S):
                await engine.cancelled.wait()
        gateway.process.terminate()
        await gateway.ended()
        (settled,) = (record for record in gateway.records() if isinstance(record, Settled))
        assert settled.outcome == "client_gone"


def request(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {QUERY_KEY}\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


@pytest.mark.parametrize(
    ("limits", "sent", "status"),
    [
        (LimitsConfig(head_bytes=1024), b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 1024 + b"\r\n\r\n", 431),
        (LimitsConfig(body_bytes=1024), b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n", 413),
        (LimitsConfig(total_timeout_s=0.3), request(chat_body()), 504),
    ],
)
async def test_each_limit_of_the_configuration_has_its_answer(
    tmp_path: Path, limits: LimitsConfig, sent: bytes, status: int
) -> None:
    engine = FakeEngine("replica-0", RAW)

    async def hold(engine: FakeEngine, exchange: Exchange, body: dict[str, Any]) -> None:
        await engine.release.wait()

    engine.behave = hold
    async with started(tmp_path, engine, limits=limits) as gateway:
        client = await gateway.connect()
        client.writer.write(sent)
        answer = await client.answer()
        assert answer.status == status
        assert answer.json["message"]
        client.close()
