"""How much somebody else used the cores during a measurement: a busy neighbour can make it wrong by a factor."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence

DISTURBED = 0.1
"""Part of the cores' time that others may use before a measurement counts as disturbed."""

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class CoreWatch:
    """From its making until ``others``: who used the cores that this process may run on."""

    def __init__(self, pids: Sequence[int]) -> None:
        """``pids``: the measurement's own processes, beside this one."""
        self._pids = pids
        self._cores = os.sched_getaffinity(0)
        self._began = time.monotonic()
        self._busy_s = _busy_seconds(self._cores)
        self._own_s = self._own_seconds()

    def others(self) -> float | None:
        """Part of the cores' time that went to others, 0 to 1; None where the system does not tell."""
        elapsed_s = (time.monotonic() - self._began) * len(self._cores)
        busy_s = _busy_seconds(self._cores)
        if busy_s is None or self._busy_s is None or elapsed_s <= 0:
            return None
        foreign_s = (busy_s - self._busy_s) - (self._own_seconds() - self._own_s)
        return min(1.0, max(0.0, foreign_s / elapsed_s))

    def _own_seconds(self) -> float:
        mine = os.times()
        return mine.user + mine.system + sum(_process_seconds(pid) for pid in self._pids)


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
