"""Watches from outside which replica processes live and which of them are ready, to check bills against."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import psutil
from system_server import Server

EVERY_S = 0.05


class ReplicaSampler:
    """Samples the processes below a supervisor. Knows nothing of the controller's records: only the process table."""

    def __init__(self, server: Server) -> None:
        self._supervisor = psutil.Process(server.process.pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples: list[tuple[float, frozenset[int]]] = []
        """(Unix time, pids of live replica processes)"""

    def __enter__(self) -> ReplicaSampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            alive = set()
            for child in self._supervisor.children():
                try:
                    if any("headrace.engines" in word for word in child.cmdline()):
                        alive.add(child.pid)
                except psutil.Error:
                    continue  # it ended while it was looked at
            self.samples.append((time.time(), frozenset(alive)))

    def count(self) -> int:
        """Live replica processes at the last sample."""
        return len(self.samples[-1][1]) if self.samples else 0

    def pids(self) -> frozenset[int]:
        """Every replica process that was seen."""
        return frozenset().union(*(alive for _, alive in self.samples))

    def process_seconds(self, since: float, until: float) -> float:
        """Replica processes times seconds that they lived, within [since, until]."""
        total = 0.0
        for (start, alive), (end, _) in pairwise(self.samples):
            total += len(alive) * max(0.0, min(end, until) - max(start, since))
        return total
