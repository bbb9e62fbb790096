"""Words that several messages share."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """``1 chunk``, ``2 chunks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def profiled(status: str, engine: str) -> str:
    """Where a chunk's figures come from; those of a simulated engine say nothing of a model."""
    return f"{status} profile, simulated engine" if engine == "simulated" else f"{status} profile"
