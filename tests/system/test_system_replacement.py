"""The gateway of a busy server is replaced, and nobody notices."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from system_server import Server, until
from system_simulated import register_simulated

from headrace.profiles.profile import IterationTime

pytestmark = pytest.mark.system

FAST = IterationTime(base_s=0.002, prefill_s=0.0, decode_s=0.0005, context_s=0.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """With an endpoint ``sim`` that has room for all that the tests ask."""
    register_simulated(tmp_path / "data", "sim", FAST, slots=16)
    with Server(tmp_path / "data") as server:
        server.cli("endpoints", "create", "sim", "--model", "sim", "--min-chunks", "1", "--max-chunks", "1", "--wait")
        yield server


class Clients:
    """Threads that ask again and again until told to stop; each answer that is not the right one is kept."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.address = urlsplit(server.url).netloc
        self.wrong: list[str] = []
        self.answered = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self, count: int, *, keep: bool) -> None:
        """``keep``: as long as the server lets them, on one connection; else on a new one for each request."""
        for _ in range(count):
            thread = threading.Thread(target=self._ask_again_and_again, args=(keep,))
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _ask_again_and_again(self, keep: bool) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            if connection is None:
                connection = http.client.HTTPConnection(self.address, timeout=30)
            try:
                connection.request("POST", "/v1/completions", ask(1), self.headers)
                response = connection.getresponse()
                body = response.read()
                good = response.status == 200 and json.loads(body)["usage"]["completion_tokens"] == 1
                problem = "" if good else f"{response.status} {body[:200]!r}"
                closing = response.getheader("connection") == "close" or not keep
            except (OSError, http.client.HTTPException) as error:
                problem, closing = repr(error), True
            with self._lock:
                self.answered += not problem
                self.wrong += [problem] if problem else []
            if closing:
                connection.close()
                connection = None

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.server.key}", "Content-Type": "application/json"}

    def more(self, count: int = 50) -> None:
        """Until so many more were answered."""
        enough = self.answered + count
        until(lambda: self.answered >= enough or None, within_s=60, what=f"{count} more answers; wrong: {self.wrong}")


def ask(max_tokens: int, **more: Any) -> bytes:
    return json.dumps({"model": "sim", "prompt": [7] * 8, "max_tokens": max_tokens, **more}).encode()


def gateways(server: Server) -> set[int]:
    return {child.pid for child in server.family() if any("gateway.main" in word for word in child.cmdline())}


def test_no_request_fails_while_the_gateway_is_replaced(server: Server) -> None:
    clients = Clients(server)
    clients.start(4, keep=False)
    clients.start(4, keep=True)
    try:
        clients.more()
        seen = gateways(server)
        for _ in range(3):
            told = json.loads(server.cli("gateway", "restart", "--data-dir", str(server.data_dir), "--json").stdout)
            assert told["pid"] not in seen
            seen.add(told["pid"])
            clients.more()
        until(lambda: gateways(server) == {told["pid"]} or None, within_s=30, what="the gateways before have ended")
    finally:
        clients.stop()
    assert clients.wrong == []
    # Each was recorded once, whichever gateway it came to.
    until(
        lambda: usage(server)["requests"] == clients.answered or None,
        within_s=20,
        what=f"{clients.answered} requests in the ledger, now {usage(server)}",
    )


def usage(server: Server) -> Any:
    (row,) = server.get("/api/headrace/v1/usage?endpoint=sim&group=endpoint")["rows"]
    return row


def test_what_was_begun_on_the_gateway_before_is_finished_there(server: Server) -> None:
    clients = Clients(server)
    address = urlsplit(server.url)
    (before,) = gateways(server)

    stream = http.client.HTTPConnection(clients.address, timeout=60)
    stream.request("POST", "/v1/completions", ask(1000, stream=True, ignore_eos=True), clients.headers)
    answer = stream.getresponse()
    first = answer.readline()

    silent = socket.create_connection((address.hostname or "", address.port or 0))  # accepted, and no byte sent yet
    body = ask(1)
    half = socket.create_connection((address.hostname or "", address.port or 0))
    fields = "".join(f"{name}: {value}\r\n" for name, value in clients.headers.items())
    head = f"POST /v1/completions HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode()
    half.sendall(head + body[:10])
    server.get("/healthz")  # later than those: they have been accepted

    server.cli("gateway", "restart", "--data-dir", str(server.data_dir))
    half.sendall(body[10:])
    silent.sendall(head + body)
    for waiting in (half, silent):
        received = http.client.HTTPResponse(waiting)
        received.begin()
        assert (received.status, received.getheader("connection")) == (200, "close")
        assert json.loads(received.read())["usage"]["completion_tokens"] == 1
        waiting.close()
    assert before in gateways(server)  # it has a stream to finish
    rest = answer.read()
    assert (first + rest).count(b"data: ") > 900 and rest.endswith(b"data: [DONE]\n\n")
    until(lambda: before not in gateways(server) or None, within_s=20, what="the gateway before has ended")


def test_where_the_controller_is_gone_the_gateway_that_knows_something_stays(server: Server) -> None:
    (before,) = gateways(server)
    stopped = freeze(server, "controller.main")
    try:
        refused = server.cli("gateway", "restart", "--data-dir", str(server.data_dir), check=False)
        assert refused.returncode == 1
        assert "no snapshot came from the controller" in refused.stderr
        assert gateways(server) == {before}
        served = server.call("POST", "/v1/completions", json.loads(ask(1)))
        assert served["usage"]["completion_tokens"] == 1
    finally:
        stopped()


def freeze(server: Server, word: str) -> Callable[[], None]:
    """Hold the child with this word in its command line; returns what lets it go on."""
    (child,) = (child for child in server.family() if any(word in part for part in child.cmdline()))
    child.suspend()
    return child.resume


def test_a_server_that_does_not_run_has_no_gateway_to_replace(tmp_path: Path, server: Server) -> None:
    began = time.monotonic()
    refused = server.cli("gateway", "restart", "--data-dir", str(tmp_path / "other"), check=False)
    assert refused.returncode == 1
    assert "is the server running?" in refused.stderr
    assert time.monotonic() - began < 10
