"""The access log: one line for each request, never a prompt and never a key."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

log = logging.getLogger("headrace.access")


class AccessLine(msgspec.Struct, omit_defaults=True):
    """Filled in on the way. Times are milliseconds from the arrival."""

    id: str
    method: str
    path: str
    status: int = 0
    """What the client got; 499 where it left first."""
    endpoint: str | None = None
    key: str | None = None
    """Its id."""
    replica: str | None = None
    outcome: str | None = None
    """As in the journal; for a refusal its reason."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    queue_ms: float | None = None
    ttft_ms: float | None = None
    e2e_ms: float | None = None

    def write(self) -> None:
        fields: dict[str, Any] = msgspec.to_builtins(self)
        log.info("request", extra={"fields": fields})
