"""Which connection a request goes out on, and what becomes of it where there is none."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import pytest
from misbehaving import GOOD, always, serving

from headrace.bench.client import sender as sending
from headrace.bench.client.flight import Flight
from headrace.bench.client.sender import Sender
from headrace.bench.client.spec import origin

PAYLOAD = b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"


def flights(count: int) -> list[Flight]:
    return [
        Flight(number=number, payload=PAYLOAD, asked_stream=True, asked_input=1, asked_output=-1)
        for number in range(count)
    ]


class Sent:
    """A sender, and the requests that it is through with."""

    def __init__(self, url: str, connect_timeout_s: float = 10.0) -> None:
        self.landed: list[Flight] = []
        self._changed = asyncio.Event()
        where = origin(url)
        self.sender = Sender(where, [where.host], self._land, timeout_s=10.0, connect_timeout_s=connect_timeout_s)

    def _land(self, flight: Flight) -> None:
        self.landed.append(flight)
        self._changed.set()

    async def number(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.landed) < count:
                self._changed.clear()
                await self._changed.wait()


class Door:
    """Connections that are made only when it is open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self._connect = loop.create_connection
        self.open = asyncio.Event()
        self.knocked = asyncio.Event()
        self.waiting = 0
        self.most_waiting = 0
        monkeypatch.setattr(loop, "create_connection", self._create_connection)

    async def _create_connection(self, *args: Any, **named: Any) -> Any:
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        self.knocked.set()
        try:
            await self.open.wait()
            return await self._connect(*args, **named)
        finally:
            self.waiting -= 1


@contextlib.asynccontextmanager
async def sent_to_a_good_server(connect_timeout_s: float = 10.0) -> AsyncIterator[Sent]:
    async with serving(always(GOOD)) as url:
        sent = Sent(url, connect_timeout_s)
        try:
            yield sent
        finally:
            sent.sender.cut_off()


async def test_only_so_many_connections_are_made_at_a_time_and_every_request_gets_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sending, "MOST_OPENING", 3)
    door = Door(monkeypatch)
    async with sent_to_a_good_server() as sent:
        for flight in flights(20):
            sent.sender.send(flight)
        await door.knocked.wait()
        door.open.set()
        await sent.number(20)
        assert door.most_waiting == 3
        assert all(flight.fault is None and flight.answer is not None for flight in sent.landed)


async def test_a_request_without_a_connection_takes_the_first_that_is_free_and_its_wait_is_before_its_sending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sending, "MOST_OPENING", 1)
    door = Door(monkeypatch)
    async with sent_to_a_good_server() as sent:
        first, second, third = flights(3)
        door.open.set()
        sent.sender.send(first)
        await sent.number(1)
        door.open.clear()
        # The one connection is taken by the first of these, the second has one made for it, and the third waits.
        again = flights(1)[0]
        for flight in (again, second, third):
            sent.sender.send(flight)
        waited = monotonic()
        await sent.number(3)
        assert sent.landed == [first, again, third]
        assert first.new_connection and not third.new_connection
        assert second.sent < waited < third.sent
        door.open.set()
        await sent.number(4)
        assert second.new_connection


async def test_a_request_that_finds_no_connection_is_given_up_in_time_and_was_never_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sending, "MOST_OPENING", 1)
    Door(monkeypatch)
    async with sent_to_a_good_server(connect_timeout_s=0.02) as sent:
        first, second = flights(2)
        sent.sender.send(first)
        sent.sender.send(second)
        # In one turn of the event loop, so that no connection is given up in between.
        while monotonic() < first.sent + 0.03:
            pass
        sent.sender.sweep()
        assert sent.landed == [second] and not second.connected and second.sent != second.sent
        assert second.fault is not None and second.fault.endswith("none was free within 0.02 s, with 1 being made")
        await sent.number(2)
        assert first.fault is not None and first.fault.endswith("it took longer than 0.02 s")


async def test_requests_that_wait_for_a_connection_end_with_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "MOST_OPENING", 1)
    door = Door(monkeypatch)
    async with sent_to_a_good_server() as sent:
        for flight in flights(3):
            sent.sender.send(flight)
        await door.knocked.wait()
        sent.sender.cut_off()
        assert len(sent.landed) == 3 and all(flight.cut_off for flight in sent.landed)


async def test_a_connection_that_was_open_before_is_not_new_to_the_request_that_goes_out_on_it() -> None:
    async with sent_to_a_good_server() as sent:
        await sent.sender.open_ahead(2)
        for flight in flights(3):
            sent.sender.send(flight)
        await sent.number(3)
        assert [flight.new_connection for flight in sorted(sent.landed, key=lambda each: each.number)] == [
            False,
            False,
            True,
        ]


async def test_a_server_that_is_not_there_is_told_by_the_requests_and_not_by_what_was_to_be_open_before() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    sent = Sent(url)
    await sent.sender.open_ahead(2)
    (flight,) = flights(1)
    sent.sender.send(flight)
    await sent.number(1)
    assert not flight.connected
    assert flight.fault is not None and flight.fault.startswith(f"no connection to {urlsplit(url).netloc}: Connect")
