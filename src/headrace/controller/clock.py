"""Time, as the controller takes it: given from outside, so that tests turn it by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Time for decisions (seconds, monotonic) and for records (Unix milliseconds)."""

    now: Callable[[], float]
    now_ms: Callable[[], int]
