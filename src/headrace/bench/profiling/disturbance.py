"""How much somebody else used the cores during a block: a busy neighbour can make a measurement wrong by a factor."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

MOST = 0.05
"""Part of the cores' time that others may use before a block counts as disturbed: what they take, an engine that keeps
its cores busy loses, and the shapes are to be known to a few percent."""

LEAST_S = 0.25
"""Below this a window has too few clock ticks to tell."""

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Look:
    """The counters at one time."""

    at_s: float
    busy_s: float | None
    own_s: float


class CoreWatch:
    """Who uses the cores that this process may run on."""

    def __init__(self, pids: Sequence[int], most: float = MOST) -> None:
        """``pids``: the measurement's own processes, beside this one. ``most``: part of the cores' time."""
        self.most = most
        self._pids = pids
        self._cores = os.sched_getaffinity(0)

    def look(self) -> Look:
        mine = os.times()
        own_s = mine.user + mine.system + sum(_process_seconds(pid) for pid in self._pids)
        return Look(time.monotonic(), _busy_seconds(self._cores), own_s)

    def others(self, since: Look) -> float | None:
        """Part of the cores' time that went to others, 0 to 1; None where the system or so short a time does not
        tell."""
        now = self.look()
        elapsed_s = now.at_s - since.at_s
        if now.busy_s is None or since.busy_s is None or elapsed_s < LEAST_S:
            return None
        foreign_s = (now.busy_s - since.busy_s) - (now.own_s - since.own_s)
        return min(1.0, max(0.0, foreign_s / (elapsed_s * len(self._cores))))


def _busy_seconds(cores: Collection[int]) -> float | None:
    """Seconds that these cores were not idle since the system's start, time stolen by a hypervisor included."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            lines = [line.split() for line in file if line.startswith("cpu")]
    except OSError:
        return None
    wanted = {f"cpu{core}" for core in cores}
    # Fields: user nice system idle iowait irq softirq steal; guest time is part of user time.
    ticks = [
        sum(int(field) for place, field in enumerate(line[1:9]) if place not in (3, 4))
        for line in lines
        if line[0] in wanted
    ]
    return sum(ticks) / TICKS_PER_S if len(ticks) == len(wanted) else None


def _process_seconds(pid: int) -> float:
    """User and system time of a process with all its threads; 0 where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
