"""Time of a measurement."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds since the start of the measurement; monotonic."""

    def now(self) -> float: ...


class WallClock:
    """Real time; zero when it is made."""

    def __init__(self) -> None:
        self._zero = time.perf_counter()

    def now(self) -> float:
        return time.perf_counter() - self._zero
