"""The access log: one line for each request, never a prompt and never a key.

Lines are written together, a tenth of a second at the latest after the first of them: a system call for each would cost
as much as all the rest of them. The journal, and not this, is what a death of the process must not lose.
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
        self._lines: list[bytes] = []

    def write(self, line: AccessLine) -> None:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        lines = self._lines
        if not lines:
            self._loop.call_later(FLUSH_S, self.flush)
        fields = self._encode(line)[1:]
        lines.append(b'{"at":"%b.%03d%b%b\n' % (self._at, (now - second) * 1000, self._constant, fields))
        if len(lines) >= FLUSH_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what is held. A log that cannot be written stops nothing."""
        lines, self._lines = self._lines, []
        if not lines or self._descriptor == NO_LOG:
            return
        data = b"".join(lines)
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            pass
