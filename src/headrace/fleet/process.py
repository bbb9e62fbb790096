"""Start one child process that cannot outlive its parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import IO

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)  # loaded before any fork


def spawn(
    argv: Sequence[str],
    *,
    stdin: str,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    cpus: Sequence[int] = (),
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in a process group of its own, pinned to ``cpus``, with ``stdin`` to read and then its end.

    The child gets SIGKILL when this process ends, however it ends. Linux ties that to the *thread* that forked, so this
    must be called from the main thread. Raises OSError (no such program) and ValueError (no such core).
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("spawn() must be called from the main thread: children die with the thread that forked them")
    unknown = set(cpus) - os.sched_getaffinity(0)
    if unknown:
        raise ValueError(f"this process may not use the cores {sorted(unknown)}")
    # A file in memory instead of a pipe: written whole before the start, nobody has to wait for a slow reader, and a
    # secret in it touches neither disk nor argv.
    with os.fdopen(os.memfd_create("stdin"), "w+b") as given:
        given.write(stdin.encode())
        given.seek(0)
        return subprocess.Popen(
            argv,
            stdin=given,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            process_group=0,  # Ctrl-C in a terminal is the parent's to handle; and children of it can be ended with it
            preexec_fn=_tie_to(os.getpid(), frozenset(cpus)),  # noqa: PLW1509  (two system calls, no locks)
        )


def _tie_to(parent: int, cpus: frozenset[int]) -> Callable[[], None]:
    def in_child() -> None:
        if _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != parent:
            os._exit(1)  # the parent ended before it could be tied to
        if cpus:
            os.sched_setaffinity(0, cpus)

    return in_child


def kill_group(pid: int) -> None:
    """SIGKILL everything in the process group that ``pid`` leads.

    Safe until the leader was waited for: its zombie holds the number.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
