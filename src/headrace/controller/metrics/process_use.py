"""What replicas use of this machine: processor time and memory, with all that they have started."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

TICKS_S = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
OVER_S = 60.0
"""Processor use is a mean over so long, or since the process was first looked at."""


@dataclass(frozen=True, slots=True)
class Use:
    """Of one process group: a replica leads one of its own."""

    cpu_s: float
    """Processor seconds of those of its processes that live."""
    resident_bytes: int
    """Physical memory; what they share counts for each."""


def read_groups(leaders: Iterable[int], proc: Path = Path("/proc")) -> dict[int, Use]:
    """The groups of these leaders; those that are gone are left out."""
    wanted, found = set(leaders), dict[int, Use]()
    if not wanted:
        return found
    for entry in os.scandir(proc):
        if not entry.name.isdigit():
            continue
        try:
            stat = (proc / entry.name / "stat").read_text()
        except OSError:
            continue  # it has ended meanwhile
        # Behind the name, which may hold anything: state, parent, group, ... (man 5 proc).
        fields = stat[stat.rindex(")") + 2 :].split()
        group = int(fields[2])
        if group in wanted:
            before = found.get(group, Use(0.0, 0))
            cpu_s = (int(fields[11]) + int(fields[12])) / TICKS_S
            found[group] = Use(before.cpu_s + cpu_s, before.resident_bytes + int(fields[21]) * PAGE)
    return found


class ProcessorUse:
    """Means over the last minute, made of the samples that came with each look."""

    def __init__(self) -> None:
        self._samples: dict[int, deque[tuple[float, float]]] = {}
        """By leader: (time, processor seconds)."""

    def cores(self, uses: Mapping[int, Use], now: float) -> dict[int, float]:
        """Cores' worth of time that each group used; of those looked at for the first time nothing is known yet.

        ``now``: seconds, monotonic.
        """
        for gone in self._samples.keys() - uses.keys():
            del self._samples[gone]
        found = {}
        for leader, use in uses.items():
            samples = self._samples.setdefault(leader, deque())
            samples.append((now, use.cpu_s))
            while len(samples) > 2 and samples[1][0] <= now - OVER_S:
                samples.popleft()
            then, cpu_then = samples[0]
            if now > then:
                found[leader] = max(0.0, use.cpu_s - cpu_then) / (now - then)
        return found
