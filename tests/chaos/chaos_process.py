"""A process of the server under the knife: held still with SIGSTOP, looked into, and killed or let go.

What happens to it is what a kill -9 does in the instant of the SIGSTOP, except that its peers go on until it is dead:
what they send meanwhile lies unread in its sockets, as it does in a process that the machine does not get round to.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Child:
    name: str
    """``gateway``, ``controller`` or ``replica``."""
    token: str
    """A gateway's id, a replica's id."""
    pid: int


class Children:
    """Every process that a supervisor has started, by its own log: it needs neither gateway nor controller."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def all(self) -> list[Child]:
        return [child for what, child in self._told() if what == "started"]

    def running(self, name: str) -> list[Child]:
        living: dict[str, Child] = {}
        for what, child in self._told():
            if what == "exited":
                living.pop(child.token, None)
            elif what == "started" and child.name == name:
                living[child.token] = child
        return list(living.values())

    def _told(self) -> Iterator[tuple[str, Child]]:
        for line in self._log.read_text().splitlines():
            told = json.loads(line)
            if told["message"] in ("started", "exited"):
                yield told["message"], Child(told["child"], told["token"], told["pid"])


_PIDFD_GETFD = 438
"""The number of the system call, the same on all machines since Linux 5.6; Python has no name for it."""
_UNREAD_BYTES = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)


class Victim:
    """By its pidfd, so never a stranger that got the same number."""

    def __init__(self, pid: int) -> None:
        """Raises ProcessLookupError."""
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)

    def close(self) -> None:
        os.close(self._pidfd)

    def stop(self) -> None:
        """Hold it; returns when no thread of it runs. Raises ProcessLookupError."""
        signal.pidfd_send_signal(self._pidfd, signal.SIGSTOP)
        deadline = time.monotonic() + 5
        while not all(state in "TtZX" for state in self._thread_states()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} does not stop")
            time.sleep(0.0005)

    def go_on(self) -> None:
        signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)

    def kill(self) -> None:
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def unread(self) -> list[bytes]:
        """What its TCP connections hold that it has not read, for a process that is stopped.

        Raises PermissionError where this machine does not let us look.
        """
        return [data for connection in self._connections() if (data := _peek(connection))]

    def writes_to(self, inode: int) -> bool:
        """It holds a lock for writing on this file: for SQLite's shared memory, a transaction that writes."""
        lock = re.compile(rf"POSIX +ADVISORY +WRITE +{self.pid} +\S+:{inode} 120 120")
        return lock.search(Path("/proc/locks").read_text()) is not None

    def _thread_states(self) -> list[str]:
        states = []
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                # The name before it, in parentheses, may hold anything.
                states.append((task / "stat").read_text().rpartition(")")[2].split()[0])
        return states

    def _connections(self) -> Iterator[socket.socket]:
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            if not os.readlink(entry).startswith("socket:"):
                continue
            fd = _libc.syscall(_PIDFD_GETFD, self._pidfd, int(entry.name), 0)
            if fd < 0:
                raise PermissionError(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
            # Ours is a second name of its socket, and would keep the connection open after its death.
            with socket.socket(fileno=fd) as connection:
                if connection.family in (socket.AF_INET, socket.AF_INET6):
                    yield connection


def _peek(connection: socket.socket) -> bytes:
    try:
        return connection.recv(_UNREAD_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return b""  # not connected, or nothing there
