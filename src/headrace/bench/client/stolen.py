"""CPU time that the hypervisor took from this machine: nothing measured meanwhile is to be trusted blindly."""

from __future__ import annotations

from pathlib import Path

_STAT = Path("/proc/stat")
_STEAL = 7
"""Its column among the ticks of all cores; the two after it (guests) are in others already."""


class Stolen:
    """From when it was made."""

    def __init__(self) -> None:
        self._began = _ticks()

    def share(self) -> float:
        """Of all CPU time, idle time included."""
        passed = [now - then for now, then in zip(_ticks(), self._began, strict=True)]
        return passed[_STEAL] / max(1, sum(passed))


def _ticks() -> list[int]:
    line = _STAT.read_text().partition("\n")[0]
    return [int(field) for field in line.split()[1 : _STEAL + 2]]
