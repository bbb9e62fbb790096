"""The access log: one line for each request, never a prompt and never a key.

Lines are made and written together, a tenth of a second at the latest after the first of them: a system call for each
would cost as much as all the rest of them, and what makes them stays in the processor's caches. The journal, and not
this, is what a death of the process must not lose.
"""

from __future__ import annotations

import asyncio
import os
import time

import msgspec

from headrace.gateway.access_line import AccessLine

FLUSH_S = 0.1
FLUSH_LINES = 256

NO_LOG = -1


class AccessLog:
    """Of one gateway; in the form of its other logs (``headrace.logs``)."""

    def __init__(self, descriptor: int, process: str = "gateway") -> None:
        """``descriptor``: where the lines are written; ``NO_LOG`` for nowhere."""
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._encode = msgspec.json.Encoder().encode
        self._constant = (
            b'+00:00","level":"info","process":%b,"logger":"headrace.access","message":"request",'
            % msgspec.json.encode(process)
        )
        self._second = -1
        self._at = b""
        self._held: list[tuple[float, AccessLine]] = []

    def write(self, line: AccessLine) -> None:
        """The line is the log's from here on."""
        held = self._held
        if not held:
            self._loop.call_later(FLUSH_S, self.flush)
        held.append((time.time(), line))
        if len(held) >= FLUSH_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what is held. A log that cannot be written stops nothing."""
        held, self._held = self._held, []
        if not held or self._descriptor == NO_LOG:
            return
        data = b"".join([self._line(at, line) for at, line in held])
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            pass

    def _line(self, at: float, line: AccessLine) -> bytes:
        second = int(at)
        if second != self._second:
            self._second = second
            self._at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        fields = self._encode(line)[1:]
        return b'{"at":"%b.%03d%b%b\n' % (self._at, (at - second) * 1000, self._constant, fields)
