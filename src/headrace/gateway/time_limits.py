"""How long a request may take."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_BYTE_FACTOR = 4.0
"""Times the predicted time: a slow prefill must not eject a healthy replica."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    total_s: float
    """Of a request, from its arrival."""
    first_byte_floor_s: float
    """Of the time until the first byte of an answer, where ``FIRST_BYTE_FACTOR`` allows less."""
    comment_s: float | None = None
    """How long a stream says nothing before a comment is sent; None for never."""
