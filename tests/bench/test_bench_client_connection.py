"""An answer is the same however the network cuts it into reads, and its end is seen with its last byte."""

from __future__ import annotations

import asyncio
import itertools
import socket
from itertools import pairwise
from time import monotonic
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from misbehaving import DONE, END, FINISH, STREAM, chunk, token, usage, whole

from headrace.bench.client import connection as timed
from headrace.bench.client.connection import Connection
from headrace.bench.client.flight import Flight
from headrace.bench.client.sender import Sender

EVENTS = [token(" a"), token("b" * 40), b": wait\n\n", token(" 0"), FINISH + usage(3), DONE]
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
JSON = b'{"choices":[{"text":"0\\r\\n\\r\\n","finish_reason":"stop"}]}\r\n\r\n'


def crlf(events: list[bytes]) -> list[bytes]:
    return [event.replace(b"\n\n", b"\r\n\r\n") for event in events]


ANSWERS = {
    "a chunk an event": (STREAM + b"".join(map(chunk, EVENTS)) + END, 3),
    "all in one chunk": (STREAM + chunk(b"".join(EVENTS)) + END, 3),
    "events that end with CR LF": (STREAM + b"".join(map(chunk, crlf(EVENTS))) + END, 3),
    "an event that ends as a body does": (STREAM + chunk(b": 0\r\n\r\n") + b"".join(map(chunk, EVENTS)) + END, 3),
    "chunks across events": (STREAM + chunk(b"".join(EVENTS)[:150]) + chunk(b"".join(EVENTS)[150:]) + END, 3),
    "a trailer": (STREAM + chunk(b"".join(EVENTS)) + b"0\r\nx-took: 5\r\n\r\n", 3),
    "another answer first": (CONTINUE + STREAM + chunk(b"".join(EVENTS)) + END, 3),
    "a length": (whole("200 OK", b"".join(EVENTS)).replace(b"application/json", b"text/event-stream"), 3),
    "no stream": (whole("200 OK", JSON), 1),
    "no stream, in chunks": (
        STREAM.replace(b"text/event-stream", b"application/json") + chunk(JSON[:-2]) + chunk(JSON[-2:]) + END,
        1,
    ),
}


class Line:
    """In place of the sender and of the transport."""

    def __init__(self, *, at_once: bool = True) -> None:
        """``at_once``: a connection is given its turn as soon as it asks for it, else when ``look`` is called."""
        self.kept = 0
        self.settled: list[Flight] = []
        self.aborted = False
        self._at_once = at_once
        self._to_look: list[Connection] = []
        self._socket = socket.socket()

    def look_soon(self, connection: Connection) -> None:
        self._to_look.append(connection)
        if self._at_once:
            self.look()

    def look(self) -> None:
        """Every connection's turn has come."""
        while self._to_look:
            self._to_look.pop().look()

    def keep(self, connection: Connection) -> None:
        self.kept += 1

    def forget(self, connection: Connection) -> None:
        pass

    def settle(self, flight: Flight) -> None:
        self.settled.append(flight)

    def get_extra_info(self, name: str) -> Any:
        return self._socket  # also for TLS, so that nothing is written past the transport

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self._socket.close()


def flown(data: bytes, cuts: list[int], *, ends: bool = False, at_once: bool = True) -> tuple[Flight, Line, Connection]:
    """A request whose answer comes in reads that end at the cuts; ``ends``: the server closes after it."""
    line = Line(at_once=at_once)
    try:
        connection = Connection(cast(Sender, line))
        connection.connection_made(cast(asyncio.BaseTransport, line))
        flight = Flight(number=0, payload=b"POST", asked_stream=True, asked_input=-1, asked_output=-1)
        connection.send(flight)
        edges = sorted({0, len(data), *[cut % max(1, len(data)) for cut in cuts]})
        for begin, end in pairwise(edges):
            assert not line.settled, "nothing ends before its last byte"
            connection.data_received(data[begin:end])
        if ends:
            assert not line.settled
            connection.eof_received()
        return flight, line, connection
    finally:
        line.close()


@pytest.mark.parametrize("name", ANSWERS)
@settings(max_examples=60)
@given(cuts=st.lists(st.integers(0, 2000), max_size=60))
@example(cuts=list(range(2000)))
@example(cuts=[])
def test_an_answer_is_the_same_however_it_is_cut_into_reads(name: str, cuts: list[int]) -> None:
    data, events = ANSWERS[name]
    flight, line, _ = flown(data, cuts)
    assert line.settled == [flight] and flight.fault is None
    assert line.kept == 1 and not line.aborted, "the connection can carry the next request"
    answer = flight.answer
    assert answer is not None and answer.error is None and answer.finished
    assert len(answer.times) == events
    assert answer.done == (events == 3)
    assert flight.sent <= flight.first_byte <= answer.times[0] <= answer.times[-1] <= flight.end


@pytest.mark.parametrize("name", ANSWERS)
@settings(max_examples=40)
@given(cuts=st.lists(st.integers(0, 2000), max_size=60))
def test_an_answer_that_is_looked_at_late_is_the_same_with_the_times_of_its_reads(name: str, cuts: list[int]) -> None:
    data, events = ANSWERS[name]
    flight, line, _ = flown(data, cuts, at_once=False)
    assert not line.settled
    looked_at = monotonic()
    line.look()
    assert line.settled == [flight] and flight.fault is None and line.kept == 1
    assert flight.answer is not None and len(flight.answer.times) == events
    assert flight.end < looked_at, "by when it came, not by when it was looked at"


def test_each_read_keeps_its_own_time_however_late_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed, "monotonic", map(float, itertools.count()).__next__)
    reads = [STREAM[:30], STREAM[30:] + chunk(EVENTS[0]), chunk(EVENTS[1]), b"".join(map(chunk, EVENTS[2:])) + END]
    edges = list(itertools.accumulate(map(len, reads)))
    flight, line, _ = flown(b"".join(reads), edges[:-1], at_once=False)
    line.look()
    assert flight.answer is not None and flight.answer.times == [2.0, 3.0, 4.0]
    assert (flight.sent, flight.first_byte, flight.end) == (0.0, 2.0, 4.0)


def test_a_connection_whose_turn_comes_after_it_is_cut_off_reads_nothing() -> None:
    flight, line, connection = flown(STREAM + chunk(token()), [], at_once=False)
    connection.abandon(flight)
    assert line.aborted and flight.answer is not None and len(flight.answer.times) == 1
    line.look()
    assert not line.settled, "the sender says what became of it"


@given(cuts=st.lists(st.integers(0, 2000), max_size=60), at_once=st.booleans())
def test_an_answer_may_end_with_its_connection(cuts: list[int], at_once: bool) -> None:
    flight, line, _ = flown(UNTIL_CLOSE + b"".join(EVENTS), cuts, ends=True, at_once=at_once)
    assert line.settled == [flight] and flight.fault is None and line.kept == 0
    assert flight.answer is not None and flight.answer.done and len(flight.answer.times) == 3


@pytest.mark.parametrize("name", ANSWERS)
@settings(max_examples=40)
@given(cut=st.integers(1, 2000), cuts=st.lists(st.integers(0, 2000), max_size=20), at_once=st.booleans())
def test_an_answer_whose_connection_breaks_is_never_complete(
    name: str, cut: int, cuts: list[int], at_once: bool
) -> None:
    data, _ = ANSWERS[name]
    flight, line, connection = flown(data[: 1 + cut % (len(data) - 1)], cuts, at_once=at_once)
    assert not line.settled
    connection.connection_lost(None)
    assert line.settled == [flight]
    assert flight.fault is not None and flight.fault.startswith("the server closed the connection before")


@given(data=st.binary(max_size=300), begin=st.sampled_from([b"", STREAM, STREAM + chunk(token()), UNTIL_CLOSE]))
def test_garbage_ends_a_request_once_and_raises_nothing(data: bytes, begin: bytes) -> None:
    flight, line, connection = flown(begin + data, [len(begin)] if begin else [])
    connection.connection_lost(None)
    assert line.settled == [flight]
