"""One running child of the supervisor: its pipes, its reports, its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

import msgspec

from headrace.fleet.log_file import LogFile, Tail
from headrace.fleet.process import kill_group, spawn
from headrace.fleet.protocol import Child, ChildSpec

READ_BYTES = 1 << 16
LONGEST_REPORT = 1 << 20
"""Bytes of one line on standard output; a longer one is dropped."""


class RunningChild:
    """A child process, watched by its pidfd. ``state`` is what the supervisor tells of it; each change is announced."""

    def __init__(
        self, spec: ChildSpec, log: LogFile, announce: Callable[[Child], None], pass_fds: Sequence[int] = ()
    ) -> None:
        """Starts it. Raises OSError and ValueError as ``spawn`` does."""
        self._loop = asyncio.get_running_loop()
        self._announce = announce
        self._log = log
        self._tail = Tail()
        self._line = b""
        self.exited = asyncio.Event()
        self._process = spawn(
            spec.argv,
            stdin=spec.stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cpus=spec.cpus,
            pass_fds=pass_fds,
        )
        self._pidfd = os.pidfd_open(self._process.pid)
        assert self._process.stdout is not None and self._process.stderr is not None
        self._readers = {
            self._process.stdout.fileno(): self._on_stdout,
            self._process.stderr.fileno(): self._on_stderr,
        }
        for fd in self._readers:
            os.set_blocking(fd, False)
            self._loop.add_reader(fd, self._read, fd)
        self._loop.add_reader(self._pidfd, self._on_exit)
        self.state = Child(
            token=spec.token,
            kind=spec.kind,
            name=spec.name,
            pid=self._process.pid,
            cpus=spec.cpus,
            started_ms=now_ms(),
            labels=spec.labels,
        )
        announce(self.state)

    def send(self, signum: signal.Signals) -> None:
        """By pidfd, so never to a stranger that got the same number."""
        if not self.exited.is_set():
            signal.pidfd_send_signal(self._pidfd, signum)

    def tail(self) -> str:
        """The last lines of its log until now."""
        return self._tail.text()

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL when that did not end it in time. Returns when it has ended."""
        self.send(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.exited.wait(), grace_s)
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self.exited.wait()

    def _read(self, fd: int) -> bool:
        """One piece of output; False when there is none left for now, or for good."""
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._readers[fd](data)
        else:
            self._loop.remove_reader(fd)
        return bool(data)

    def _on_stderr(self, data: bytes) -> None:
        self._log.write(data)
        self._tail.write(data)

    def _on_stdout(self, data: bytes) -> None:
        *lines, rest = (self._line + data).split(b"\n")
        for line in lines:
            self._on_line(line)
        self._line = rest if len(rest) <= LONGEST_REPORT else b""

    def _on_line(self, line: bytes) -> None:
        try:
            report = json.loads(line)
        except ValueError:
            report = None
        if isinstance(report, dict) and isinstance(report.get("state"), str):
            self._change(report=report, reported_ms=now_ms())
        elif line.strip():
            self._on_stderr(line + b"\n")  # a library that prints; not a report, but worth keeping

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        # What it forked must not survive it. First, so that nobody writes to the pipes any more.
        kill_group(self._process.pid)
        for fd in self._readers:
            while self._read(fd):
                pass
            self._loop.remove_reader(fd)
        code = self._process.wait()
        assert self._process.stdout is not None and self._process.stderr is not None
        self._process.stdout.close()
        self._process.stderr.close()
        self.exited.set()  # before the pidfd goes: send() looks at it
        os.close(self._pidfd)
        self._change(exited_ms=now_ms(), exit_code=code, tail=self.tail())

    def _change(self, **changes: object) -> None:
        self.state = msgspec.structs.replace(self.state, **changes)
        self._announce(self.state)


def now_ms() -> int:
    """Unix time."""
    return time.time_ns() // 1_000_000
