"""The records of the journal: what happened to each request, in the order in which it happened.

Keyed by (request id, kind, sequence). The same key with another payload is a conflict and raises an alarm at ingest.
"""

from __future__ import annotations

import msgspec


class Reserved(msgspec.Struct, frozen=True, tag="reserved", tag_field="kind"):
    """Written before the first byte goes upstream."""

    rid: str
    seq: int
    at_ms: int
    """Unix time of the dispatch."""
    arrived_ms: int
    endpoint: str
    """Endpoint id."""
    endpoint_name: str
    entity: str
    config_version: int
    key: str
    """Key id."""
    replica: str
    band: str
    stream: bool
    input_estimate: int
    max_output: int
    work_reserved: float
    client_request_id: str | None = None
    usage_context: dict[str, str] | None = None
    user: str | None = None


class Progress(msgspec.Struct, frozen=True, tag="progress", tag_field="kind"):
    """Written at a bounded interval while an answer streams; a lost settlement is made from the last of these."""

    rid: str
    seq: int
    at_ms: int
    output_tokens: int
    """Streamed so far, counted by events."""
    input_tokens: int | None = None
    """Where the engine has told it."""


class Settled(msgspec.Struct, frozen=True, tag="settled", tag_field="kind"):
    """The end of a request that was reserved. Exactly one."""

    rid: str
    seq: int
    at_ms: int
    status: int
    """HTTP status that the client got, 499 where the client left first."""
    outcome: str
    """``ok``, ``client_gone``, ``engine_failed``, ``engine_error``, ``timeout``, ``refused`` (an engine's 400)."""
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    exact: bool
    """From the engine's own usage; otherwise counted from events and estimates."""
    work: float
    """Reference tokens."""
    queue_ms: float
    ttft_ms: float | None
    """From arrival to the first byte of content; None where there was none."""
    e2e_ms: float


class Rejected(msgspec.Struct, frozen=True, tag="rejected", tag_field="kind"):
    """A request with a valid key that was answered 429 or 503 without being dispatched."""

    rid: str
    seq: int
    at_ms: int
    arrived_ms: int
    endpoint: str
    endpoint_name: str
    key: str
    status: int
    reason: str
    work: float
    """Reference tokens, estimated."""


Record = Reserved | Progress | Settled | Rejected
