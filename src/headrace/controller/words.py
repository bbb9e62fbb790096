"""Words that several messages share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from headrace.controller.endpoint import Config, Entity


def counted(count: int, noun: str) -> str:
    """``1 chunk``, ``2 chunks``, ``2 served entities``."""
    if count == 1:
        return f"{count} {noun}"
    return f"{count} {noun.removesuffix('y')}ies" if noun.endswith("y") else f"{count} {noun}s"


def utc(at_ms: int) -> str:
    """``2026-01-31 12:00:00 UTC``: messages are read by people elsewhere too."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


MOST_LISTED = 20
"""A server may have thousands of something, and a message is for reading."""


def listed(names: Sequence[str]) -> str:
    """``a, b``; ``none``; of many the first ones, and how many more there are."""
    told = ", ".join(names[:MOST_LISTED]) or "none"
    return told if len(names) <= MOST_LISTED else f"{told} and {len(names) - MOST_LISTED} more"


def profiled(status: str, engine: str) -> str:
    """Where a chunk's figures come from; those of a simulated engine say nothing of a model."""
    return f"{status} profile, simulated engine" if engine == "simulated" else f"{status} profile"


def named(endpoint: str, config: Config, entity: Entity) -> str:
    """``assistant``, and ``assistant/big`` where the endpoint serves others too."""
    return endpoint if len(config.entities) == 1 else f"{endpoint}/{entity.name}"


LOG_LINES = 8
LOG_CHARACTERS = 2000
LOG_FOLLOWS = "; its log ended:\n"


def with_log(message: str, tail: str) -> str:
    """A message with the last lines of a replica's log, each on a line of its own."""
    lines = [line.replace("\0", "") for line in tail.splitlines() if line.strip()][-LOG_LINES:]
    return message if not lines else message + LOG_FOLLOWS + "\n".join(lines)[-LOG_CHARACTERS:]


def about(config: Config, entity: Entity, message: str) -> str:
    """A message on a served entity, which names it where its endpoint has several."""
    return message if len(config.entities) == 1 else f"{entity.name}: {message}"
