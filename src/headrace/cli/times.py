"""Times on the command line."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime

from headrace.cli.errors import UsageError

SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)?")
UNIT_S = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
LONGEST_S = 30 * 24 * 3600.0
"""Of any span on the command line; above it stands a slip of the finger."""


def seconds(option: str, words: str, *, least: float | None = None) -> float:
    """``90``, ``90s``, ``20m`` or ``1h``; above 0, or from ``least`` on. Raises UsageError."""
    match = SPAN.fullmatch(words.strip())
    value = float(match[1]) * UNIT_S[match[2] or "s"] if match else -1.0
    if value < 0 or (value == 0 and least != 0) or value > LONGEST_S:
        raise UsageError(f"{option} is {words!r}; expected a time such as 90s or 20m")
    return value


def time_parser(option: str, *, least: float | None = None) -> Callable[[object], float]:
    """For an option that is in seconds where it has no unit."""
    return lambda given: seconds(option, str(given), least=least)


def span(value_s: float) -> str:
    """A span as people say it: ``5.2 s``, ``28 s``, ``1.2 min``, ``5 min``, ``1.5 h``."""
    for most, unit_s, unit in ((60, 1, "s"), (3600, 60, "min")):
        if value_s <= most:
            return f"{_rounded(value_s / unit_s)} {unit}"
    return f"{_rounded(value_s / 3600)} h"


def _rounded(value: float) -> str:
    return f"{round(value, 1):g}" if value < 10 else f"{value:.0f}"


def unix_ms(text: str | None, option: str) -> int | None:
    """Unix milliseconds of ``2026-11-22``, ``2026-11-22T14:00``, themselves, or ``90s``, ``5m``, ``2h``, ``1d`` ago.

    A time without a zone is local. Raises UsageError.
    """
    if text is None:
        return None
    if text.isdigit():
        return int(text)
    ago = SPAN.fullmatch(text)
    if ago and ago[2]:
        return int((time.time() - float(ago[1]) * UNIT_S[ago[2]]) * 1000)
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except ValueError:
        raise UsageError(
            f"{option} is {text!r}; expected a time such as 2026-11-22T14:00, Unix milliseconds, or 2h for two hours "
            "ago"
        ) from None
