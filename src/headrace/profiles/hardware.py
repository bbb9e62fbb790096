"""What this machine is, as far as a profile depends on it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from headrace.profiles.profile import Hardware

SAME_MEMORY = 0.1
"""Two machines of one kind differ by what their kernels keep for themselves."""


def this_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> Hardware:
    """The hardware that this process runs on."""
    return Hardware(
        cpu=_cpu_name(cpuinfo),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        machine=platform.machine(),
    )


def differences(measured_on: Hardware, here: Hardware) -> list[str]:
    """In words, in what ``here`` is not what a profile was measured on."""
    found = []
    if measured_on.machine != here.machine:
        found.append(f"architecture {measured_on.machine}, here {here.machine}")
    if measured_on.cpu != here.cpu:
        found.append(f"processor {measured_on.cpu}, here {here.cpu}")
    if measured_on.cores != here.cores:
        found.append(f"{measured_on.cores} cores, here {here.cores}")
    if abs(measured_on.memory_bytes - here.memory_bytes) > SAME_MEMORY * measured_on.memory_bytes:
        found.append(f"{measured_on.memory_bytes / 2**30:.0f} GiB of memory, here {here.memory_bytes / 2**30:.0f} GiB")
    return found


def _cpu_name(cpuinfo: Path) -> str:
    """The model name of the first core; where the kernel gives none (some ARM), what the platform says."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return platform.processor() or "unknown"
