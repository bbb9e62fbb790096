"""Answers of servers in bytes that nobody thought of: however they arrive they are the same, and what is taken for a
whole answer a strict parser reads in the same way."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from typing import Any, cast

import h11
import pytest
from wire_mutations import FUZZ_S, FUZZ_SEED, change, cut

from headrace.wire.client import Client
from headrace.wire.client_connection import ClientConnection
from headrace.wire.errors import WireError
from headrace.wire.message import Header
from headrace.wire.transfer import Transfer

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ANSWERS = [
    OK + b"Content-Length: 0\r\n\r\n",
    OK + b"Content-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
    OK + b"content-length: 5\r\nConnection: close\r\n\r\nhello",
    OK + b"\r\nuntil the end of the connection",
    CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    CHUNKED + b"00a\r\ndata: {}\n\n\r\nA\r\ndata: {}\n\n\r\n0\r\n\r\n",
    CHUNKED + b"5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    CHUNKED + b"0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + CHUNKED + b"1\r\nx\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nold",
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}",
]
PHRASE = re.compile(rb"(HTTP/1\.[01] [0-9]{3} )[^\r\n]*\r\n")


class Transport:
    """As much of one as a connection uses."""

    def __init__(self) -> None:
        self.closed = False

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        pass


class Answer:
    """What a reader was told."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[Header] = []
        self.content = b""
        self.end = "waits"

    def head(self, status: int, headers: list[Header]) -> None:
        assert not self.status and self.end == "waits"
        self.status, self.headers = status, headers

    def body(self, data: bytes, framed: bytes | None, last: bool) -> None:
        assert self.status and self.end == "waits" and (data or last)
        if framed is not None:
            assert decoded(framed) == data
        self.content += data
        self.end = "complete" if last else "waits"

    def failed(self, error: WireError) -> None:
        assert self.end == "waits"
        self.end = "failed"


def decoded(framed: bytes) -> bytes:
    """Whole chunks, and nothing else, may be passed on as they are."""
    content = b""
    while framed:
        line, framed = framed.split(b"\r\n", 1)
        size = int(line, 16)
        content += framed[:size]
        assert framed[size : size + 2] == b"\r\n"
        framed = framed[size + 2 :]
    return content


def read(pieces: list[bytes], method: str = "GET") -> Answer:
    """The answer to one request; the connection ends after these reads."""
    client = Client("http://127.0.0.1:1")
    connection = ClientConnection(client)
    transport = Transport()
    connection.connection_made(cast(Any, transport))
    answer = Answer()
    connection.send(Transfer(client, method, b"", answer, reuse=True), b"")
    for piece in pieces:
        if not transport.closed:
            connection.data_received(piece)
    if not transport.closed:
        connection.eof_received()
    connection.connection_lost(None)
    return answer


def without_phrases(data: bytes) -> bytes:
    """The reason phrase is neither read nor passed on."""
    return PHRASE.sub(rb"\1OK\r\n", data)


def by_h11(data: bytes, method: str) -> tuple[int, bytes]:
    """Status and body. Raises h11.RemoteProtocolError."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(without_phrases(data))
    connection.receive_data(b"")
    status, content = 0, b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            content += bytes(event.data)
        else:
            assert isinstance(event, h11.InformationalResponse), event
    return status, content


def answers(salt: str) -> Iterator[tuple[random.Random, bytes, str]]:
    rng = random.Random(f"{salt} {FUZZ_SEED}")
    until = time.monotonic() + FUZZ_S
    while time.monotonic() < until:
        data = rng.choice(ANSWERS)
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            data = change(rng, data)
        yield rng, data, rng.choice(("GET", "GET", "POST", "HEAD"))


def test_an_answer_is_the_same_however_it_is_cut() -> None:
    complete = 0
    for rng, data, method in answers("cuts of answers"):
        whole, pieces = read([data], method), cut(rng, data)
        parts = read(pieces, method)
        assert (parts.end, parts.status, parts.headers) == (whole.end, whole.status, whole.headers), (data, pieces)
        if whole.end == "complete":
            assert parts.content == whole.content, (data, pieces)
            complete += 1
        else:  # what came before the fault may have been passed on, or not yet
            longer, shorter = sorted((whole.content, parts.content), key=len, reverse=True)
            assert longer.startswith(shorter), (data, pieces)
    assert complete > 50


def test_what_is_taken_for_a_whole_answer_a_strict_parser_reads_alike() -> None:
    agreed = 0
    for _, data, method in answers("references of answers"):
        answer = read([data], method)
        if answer.end == "complete":
            assert by_h11(data, method) == (answer.status, without_phrases(answer.content)), (data, method)
            agreed += 1
    assert agreed > 50


@pytest.mark.parametrize("data", ANSWERS)
def test_a_valid_answer_is_complete_at_its_last_byte_and_not_before(data: bytes) -> None:
    whole = read([data])
    assert whole.end == "complete"
    for end in range(len(data)):
        begun = read([data[:end]])
        if begun.end == "complete":  # cut short it can only look whole where the connection's end is the body's
            assert b"Length" not in data[:end] and b"length" not in data[:end] and b"chunked" not in data[:end]
