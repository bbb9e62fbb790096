"""One line of the access log."""

from __future__ import annotations

import msgspec


class AccessLine(msgspec.Struct, omit_defaults=True, gc=False):
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
