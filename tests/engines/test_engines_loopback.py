"""The one request that a replica process sends to the server that it has started."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from headrace.engines.loopback import ask

WITHIN_S = 10.0


class OneAnswer:
    """A server for one connection: it takes a request, writes these bytes, and closes."""

    def __init__(self, answer: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._answer = answer
        self.port: int = self._listener.getsockname()[1]
        self.asked = b""
        self.thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        with self._listener, self._listener.accept()[0] as connection:
            while not self._whole():
                self.asked += connection.recv(4096)
            connection.sendall(self._answer)

    def _whole(self) -> bool:
        head, ended, body = self.asked.partition(b"\r\n\r\n")
        return bool(ended) and f"content-length: {len(body)}".encode() in head


@contextmanager
def answering(answer: bytes) -> Iterator[OneAnswer]:
    server = OneAnswer(answer)
    server.thread.start()
    yield server
    server.thread.join(WITHIN_S)
    assert not server.thread.is_alive()


def test_it_asks_with_the_secret_and_a_body_of_json_and_takes_status_and_body() -> None:
    with answering(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"a":\r\n\r\n1}') as server:
        assert ask(server.port, "POST", "/v1/x", "s3cret", {"n": 4}, timeout_s=WITHIN_S) == (200, b'{"a":\r\n\r\n1}')
    head, _, body = server.asked.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/x HTTP/1.0\r\n") and b"authorization: Bearer s3cret\r\n" in head
    assert body == b'{"n":4}'


def test_an_error_is_an_answer() -> None:
    with answering(b"HTTP/1.0 503 Service Unavailable\r\n\r\nloading") as server:
        assert ask(server.port, "GET", "/health", "s", timeout_s=WITHIN_S) == (503, b"loading")


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 oh no\r\n\r\n", b"220 smtp.example ESMTP\r\n\r\n"]
)
def test_what_is_no_answer_in_http_is_an_error(answer: bytes) -> None:
    with answering(answer) as server, pytest.raises(OSError, match="without an answer in HTTP"):
        ask(server.port, "GET", "/health", "s", timeout_s=WITHIN_S)


def test_a_server_that_says_nothing_is_not_waited_for_longer_than_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        ask(silent.getsockname()[1], "GET", "/health", "s", timeout_s=0.05)


def test_where_nobody_listens_is_an_error() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            ask(deaf.getsockname()[1], "GET", "/health", "s", timeout_s=WITHIN_S)
