"""The load: HTTP/1.1 requests on kept connections, with as little of its own as will do.

It knows what the upstream answers and checks no more than that all of it came: the status, the number of events, the
end of the body. The product's load generator (``headrace.bench``) checks more, and costs more than the relay it would
measure.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import cast

END = b"0\r\n\r\n"
EVENT = b"data: {"
MARK = len(EVENT) - 1
IDLE_S = 10.0
"""After that a connection may be about to be closed by the other side, and is not used again."""


@dataclass(frozen=True)
class Target:
    """Where requests go."""

    port: int
    key: str
    model: str
    path: str = "/v1/chat/completions"


@dataclass(frozen=True)
class Shape:
    """What is asked for."""

    events: int = 0
    """0: an answer that is no stream, of 16 tokens."""
    prompt_bytes: int = 1024
    """Of the whole request body."""

    @property
    def stream(self) -> bool:
        return self.events > 0

    def payload(self, target: Target) -> bytes:
        """The request."""
        members = {"model": target.model, "max_tokens": self.events or 16, "stream": self.stream}
        frame = json.dumps({**members, "messages": [{"role": "user", "content": ""}]})
        words = "The mill takes what the headrace brings. " * (self.prompt_bytes // 40 + 1)
        content = words[: max(0, self.prompt_bytes - len(frame))]
        body = json.dumps({**members, "messages": [{"role": "user", "content": content}]}).encode()
        head = (
            f"POST {target.path} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\nAuthorization: Bearer {target.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass
class Outcome:
    """Of one run. Times are seconds."""

    requests: int = 0
    """Complete and as they should be."""
    wall_s: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """From the request's first byte out to the answer's last byte in."""
    ttfbs: list[float] = field(default_factory=list)
    """To the first byte of the body."""
    events: int = 0
    reads: int = 0
    """That brought events: fewer than events where some arrived together."""
    wrong: Counter[str] = field(default_factory=Counter)
    """What went wrong, and how often."""

    @property
    def requests_per_s(self) -> float:
        return self.requests / self.wall_s if self.requests else 0.0


class Run:
    """One run's instructions to its connections, and what came of them."""

    def __init__(self, payload: bytes, events: int, requests: int, until: float) -> None:
        self.payload = payload
        self.events = events
        self.left = requests
        self.until = until
        """By ``perf_counter``: nothing is sent after it."""
        self.active = 0
        self.outcome = Outcome()
        self.done = asyncio.get_running_loop().create_future()

    def next(self) -> bool:
        """Whether one more is to be sent; counts it."""
        if not self.left or time.perf_counter() >= self.until:
            return False
        self.left -= 1
        self.active += 1
        return True

    def over(self) -> None:
        """A connection has got its answer, or will not."""
        self.active -= 1
        if not self.active and not self.done.done():
            self.done.set_result(None)


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._run: Run | None = None
        self._head = b""
        self._left: int | None = None
        self._tail = b""
        self._in_body = False
        self._sent = 0.0
        self.events = 0
        """Of the answer that is being read."""
        self.read_at = self.longest_gap_s = 0.0
        """When an event came last, and the longest time between two of them."""

    async def open(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._port)

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def busy(self) -> bool:
        return self._run is not None

    def close(self) -> None:
        self._run = None
        if self._transport is not None:
            self._transport.abort()

    def send(self, run: Run) -> None:
        assert self._transport is not None
        self._run = run
        self._head, self._tail, self._left = b"", b"", None
        self._in_body = False
        self.events = 0
        self._sent = self.read_at = time.perf_counter()
        self._transport.write(run.payload)

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._run is not None:
            self._failed("connection lost")

    def data_received(self, data: bytes) -> None:
        run = self._run
        if run is None:
            return
        if not self._in_body:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = self._head[:end].lower(), self._head[end + 4 :]
            if not head.startswith((b"http/1.1 200", b"http/1.0 200")):
                self._failed(head.split(b"\r\n", 1)[0].decode(errors="replace"))
                self.close()
                return
            found = head.find(b"\r\ncontent-length:")
            self._left = int(head[found + 17 :].split(b"\r\n", 1)[0]) if found >= 0 else None
            self._in_body = True
            if not data:
                return
        now = time.perf_counter()
        if not self.events and not self._tail:
            run.outcome.ttfbs.append(now - self._sent)
        if run.events:
            count = (self._tail[-MARK:] + data).count(EVENT)
            if count:
                self.events += count
                run.outcome.events += count
                run.outcome.reads += 1
                self.longest_gap_s = max(self.longest_gap_s, now - self.read_at)
                self.read_at = now
        if self._left is None:
            tail = data if len(data) > MARK else self._tail + data
            self._tail = tail[-MARK:]
            over = tail.endswith(END)
        else:
            self._left -= len(data)
            self._tail = b"."
            over = self._left <= 0
        if over:
            self._complete(run, now)

    def _complete(self, run: Run, now: float) -> None:
        if self.events < run.events:  # some proxies make one more of the last
            self._failed(f"{self.events} events for {run.events}")
            self.close()
            return
        run.outcome.requests += 1
        run.outcome.latencies.append(now - self._sent)
        if self.usable and run.next():
            self.send(run)
        else:
            self._run = None
        run.over()

    def _failed(self, what: str) -> None:
        run, self._run = self._run, None
        assert run is not None
        run.outcome.wrong[what] += 1
        run.over()


class Load:
    """A user of one target, with connections that it keeps from run to run."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._connections: list[Connection] = []
        self._used = 0.0

    async def run(
        self, shape: Shape, *, users: int, requests: int = 10**9, seconds: float = 3600.0, timeout_s: float = 120.0
    ) -> Outcome:
        """A closed loop: each user sends its next request when the answer is there, until so many or so long.

        What has not ended after ``timeout_s`` more counts as wrong.
        """
        if time.perf_counter() - self._used > IDLE_S:
            self.close()
        run = Run(shape.payload(self.target), shape.events, requests, time.perf_counter() + seconds)
        try:
            connections = await self._open(min(users, requests))
        except OSError as error:
            run.outcome.wrong[f"no connection: {error.strerror or error}"] += 1
            return run.outcome
        began = time.perf_counter()
        for connection in connections:
            if run.next():
                connection.send(run)
        try:
            await asyncio.wait_for(run.done, min(seconds, 3600.0) + timeout_s)
        except TimeoutError:
            run.outcome.wrong["not over in time"] += run.active
            for connection in connections:
                if connection.busy:
                    connection.close()
        self._used = time.perf_counter()
        run.outcome.wall_s = self._used - began
        return run.outcome

    async def hold(self, streams: int, events: int, *, within_s: float) -> None:
        """Open so many streams of so many events, beside those that are open; fewer where time is up, or where a
        connection is refused. They run until ``close``.
        """
        run = Run(Shape(events).payload(self.target), events, streams, float("inf"))
        with contextlib.suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(within_s):
                while run.left:
                    connection = await self._connect()
                    run.next()
                    connection.send(run)

    @property
    def streaming(self) -> int:
        """Streams that are open and have brought an event."""
        return sum(connection.busy and connection.events > 0 for connection in self._connections)

    async def longest_gap_s(self, watch_s: float) -> float:
        """Without an event on any one of the streams, over this time from now."""
        watched = [connection for connection in self._connections if connection.busy and connection.events]
        for connection in watched:
            connection.longest_gap_s = 0.0
        await asyncio.sleep(watch_s)
        now = time.perf_counter()
        return max(max(connection.longest_gap_s, now - connection.read_at) for connection in watched)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    async def _open(self, count: int) -> list[Connection]:
        self._connections = [connection for connection in self._connections if connection.usable]
        while len(self._connections) < count:
            await self._connect()
        return self._connections[:count]

    async def _connect(self) -> Connection:
        connection = Connection(self.target.port)
        await connection.open()
        self._connections.append(connection)
        return connection
