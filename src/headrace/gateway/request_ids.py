"""Ids of requests."""

from __future__ import annotations

import os

RANDOM_BYTES = 12
"""Of one id: no two of any gateway are the same."""
AHEAD = 128
"""Drawn together, as each draw is a system call."""


class RequestIds:
    """``req-`` and hexadecimal digits of the system's randomness. For one process: a fork would give the same again."""

    __slots__ = ("_ahead",)

    def __init__(self) -> None:
        self._ahead: list[str] = []

    def next(self) -> str:
        if not self._ahead:
            drawn, digits = os.urandom(AHEAD * RANDOM_BYTES).hex(), 2 * RANDOM_BYTES
            self._ahead = [f"req-{drawn[at : at + digits]}" for at in range(0, len(drawn), digits)]
        return self._ahead.pop()
