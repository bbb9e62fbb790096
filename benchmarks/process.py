"""Children of the benchmark, and what the kernel says of them: processor time, memory, start-up.

Every child dies with the benchmark (``fleet.process.spawn``), and is ended by its pid with all that it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from headrace.fleet.process import kill_group, spawn

GRACE_S = 5.0
PR_SET_CHILD_SUBREAPER = 36


class Failed(Exception):
    """A child did not start, or ended by itself; the message says why."""


class Child:
    """One process, with all its descendants."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cores: Sequence[int] = (),
        talks: bool = True,
    ) -> None:
        """``talks``: what it prints is for ``line``, and else for its log too. Raises Failed where there is no such
        program."""
        self._log = log
        self._began = time.perf_counter()
        full = ["env", *(f"{name}={value}" for name, value in env.items()), *argv] if env else argv
        try:
            with log.open("ab") as stderr:
                stdout = subprocess.PIPE if talks else stderr
                self._popen = spawn(full, stdin=stdin, stdout=stdout, stderr=stderr)
        except OSError as error:
            raise Failed(f"{argv[0]}: {error}") from None
        self.pid = self._popen.pid
        if cores:
            os.sched_setaffinity(self.pid, cores)  # before it has started a thread

    async def line(self, timeout_s: float) -> str:
        """The next line on its standard output. Raises Failed where none comes."""
        assert self._popen.stdout is not None
        reading = asyncio.get_running_loop().run_in_executor(None, self._popen.stdout.readline)
        try:
            found = (await asyncio.wait_for(asyncio.shield(reading), timeout_s)).decode().strip()
        except TimeoutError:
            self.kill()  # ends the pipe, and so the thread that reads it
            raise Failed(f"said nothing in {timeout_s:g} s; {self.last_words()}") from None
        if not found:
            raise Failed(f"ended at its start; {self.last_words()}")
        return found

    def last_words(self) -> str:
        """The end of its log."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f"its log ends with {lines[-1][:300]!r}" if lines else "its log is empty"

    @property
    def age_s(self) -> float:
        return time.perf_counter() - self._began

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def tree(self) -> list[psutil.Process]:
        """It and its descendants of this moment."""
        try:
            process = psutil.Process(self.pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_s(self) -> float:
        return cpu_s([process.pid for process in self.tree()])

    def rss_mb(self) -> float:
        return rss_mb([process.pid for process in self.tree()])

    def kill(self) -> None:
        """At once, with all that it started."""
        tree = self.tree()
        kill_group(self.pid)
        for process in tree[1:]:  # those that left the group
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._popen.wait(GRACE_S)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for what is left after ``GRACE_S``."""
        tree = self.tree()
        if self.alive:
            self._popen.terminate()
        await asyncio.to_thread(psutil.wait_procs, tree, GRACE_S)
        for process in tree[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.alive:
            self.kill()


def cpu_s(pids: Sequence[int]) -> float:
    """Processor time of these processes so far, all threads, also those that have ended; good to nanoseconds.

    By the process's CPU clock (clock_getcpuclockid(3)): /proc/PID/stat counts in ticks of 10 ms, and schedstat forgets
    threads that have ended.
    """
    total = 0.0
    for pid in pids:
        try:
            total += time.clock_gettime((~pid << 3) | 2)
        except OSError:
            continue  # it has just ended
    return total


def rss_mb(pids: Sequence[int]) -> float:
    """Resident memory, shared pages counted in each process that maps them."""
    total = 0
    for pid in pids:
        try:
            total += psutil.Process(pid).memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """What outlives the child that started it becomes a child of this process, and is ended at the end."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        left = psutil.Process().children(recursive=True)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, GRACE_S)
