"""Times on the command line."""

from __future__ import annotations

import re
import time
from datetime import datetime

from headrace.cli.errors import UsageError

AGO = re.compile(r"(\d+(?:\.\d+)?)(s|min|h|d)")
SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def unix_ms(text: str | None, option: str) -> int | None:
    """Unix milliseconds of ``2026-11-22``, ``2026-11-22T14:00``, themselves, or ``90s``, ``5min``, ``2h``, ``1d`` ago.

    A time without a zone is local. Raises UsageError.
    """
    if text is None:
        return None
    if text.isdigit():
        return int(text)
    ago = AGO.fullmatch(text)
    if ago:
        return int((time.time() - float(ago[1]) * SECONDS[ago[2]]) * 1000)
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except ValueError:
        raise UsageError(
            f"{option} is {text!r}; expected a time such as 2026-11-22T14:00, Unix milliseconds, or 2h for two hours "
            "ago"
        ) from None
