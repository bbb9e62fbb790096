"""The floor of a client: a bare uvloop receive loop, with a timer of the kernel where it has to keep a rate.

It knows what the server answers, looks at each read's last bytes and takes the time of a stream's first event; nothing
else. ``python bare.py`` reads a ``Plan`` and writes what it saw as arrays.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import sys
import time
from typing import cast

import msgspec
import numpy as np
import uvloop
from plan import Plan

END = b"0\r\n\r\n"
EVENT = b"data: {"
GRACE_S = 3.0
"""For answers that are on their way when the time is up."""

monotonic_ns = time.monotonic_ns


class Timer:
    """timerfd_create(2): exact to some 50 µs, where an event loop's own timers have whole milliseconds."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def at(self, due_ns: int) -> None:
        """Make the descriptor readable then."""
        seconds, nanoseconds = divmod(due_ns, 1_000_000_000)
        self._libc.timerfd_settime(self.descriptor, 1, struct.pack("qqqq", 0, 0, seconds, nanoseconds), None)


class Run:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        body = plan.body()
        self.payload = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{plan.port}\r\nX-Request-ID: %08d\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self.sent = 0
        self.until_ns = 0
        self.reads = 0
        self.idle: list[Connection] = []
        self.open = 0
        self.done: list[tuple[int, int, int, int]] = []
        """Number, due, sent and first event in nanoseconds."""
        self.loop = asyncio.get_running_loop()
        self.over = asyncio.Event()

    async def run(self) -> None:
        load = self.plan.load
        began_ns = monotonic_ns()
        self.until_ns = began_ns + int(load.seconds * 1e9)
        if load.users is not None:
            for connection in [await self._connect() for _ in range(load.users)]:
                connection.begin(monotonic_ns())
        else:
            assert load.rate is not None
            self._pace(began_ns, load.rate, int(load.rate * load.seconds))
        await asyncio.sleep(load.seconds)
        try:
            async with asyncio.timeout(GRACE_S):
                await self.over.wait()
        except TimeoutError:
            pass
        done = np.array(self.done, np.int64).reshape(-1, 4)
        np.savez(self.plan.file, done=done, reads=self.reads)

    async def _connect(self) -> Connection:
        _, connection = await self.loop.create_connection(lambda: Connection(self), "127.0.0.1", self.plan.port)
        return connection

    def _pace(self, began_ns: int, rate: float, count: int) -> None:
        timer, index = Timer(), 0
        due_ns = began_ns

        def fire() -> None:
            nonlocal index, due_ns
            os.read(timer.descriptor, 8)
            while index < count and due_ns <= monotonic_ns():
                if self.idle:
                    self.idle.pop().begin(due_ns)
                else:
                    self.loop.create_task(self._connect_and_begin(due_ns))
                index += 1
                due_ns = began_ns + int(index / rate * 1e9)
            if index < count:
                timer.at(due_ns)

        self.loop.add_reader(timer.descriptor, fire)
        timer.at(due_ns)

    async def _connect_and_begin(self, due_ns: int) -> None:
        (await self._connect()).begin(due_ns)


class Connection(asyncio.Protocol):
    def __init__(self, run: Run) -> None:
        self._run = run
        self._first_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def begin(self, due_ns: int) -> None:
        run = self._run
        self._number, self._due_ns, self._first_ns = run.sent, due_ns, 0
        run.sent += 1
        run.open += 1
        self._sent_ns = monotonic_ns()
        self._transport.write(run.payload % self._number)

    def data_received(self, data: bytes) -> None:
        now_ns, run = monotonic_ns(), self._run
        run.reads += 1
        if not self._first_ns and EVENT in data:
            self._first_ns = now_ns
        if data.endswith(END):
            run.done.append((self._number, self._due_ns, self._sent_ns, self._first_ns))
            run.open -= 1
            if run.plan.load.users is not None and now_ns < run.until_ns:
                self.begin(now_ns)
                return
            run.idle.append(self)
            if not run.open and now_ns >= run.until_ns:
                run.over.set()


async def main() -> None:
    await Run(msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)).run()


if __name__ == "__main__":
    uvloop.run(main())
