"""Tables of the ledger. Times are Unix milliseconds; money is integer micro-units; work is in reference tokens."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Float, Index, Integer, MetaData, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraints get the same names on every database, so that a later migration can name them."""

Row = BigInteger().with_variant(Integer, "sqlite")
"""A row number that the database counts; SQLite does that for INTEGER alone."""


class LedgerBase(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {dict[str, Any]: JSON, dict[str, str]: JSON}  # noqa: RUF012


class Usage(LedgerBase):
    """One request. ``ended`` is None while it is in flight."""

    __tablename__ = "usage"
    __table_args__ = (
        Index("ix_usage_endpoint_settled", "endpoint", "settled_ms"),
        Index("ix_usage_open", "ended", "writer"),
    )

    rid: Mapped[str] = mapped_column(String(128), primary_key=True)
    writer: Mapped[str] = mapped_column(String(100))
    """Journal that it came from."""

    endpoint: Mapped[str | None] = mapped_column(String(64))
    """Endpoint id. None where the reservation was in a damaged part of the journal; so with the other nullable ones."""
    endpoint_name: Mapped[str | None] = mapped_column(String(63))
    entity: Mapped[str | None] = mapped_column(String(64))
    config_version: Mapped[int | None]
    key: Mapped[str | None] = mapped_column(String(64), index=True)
    replica: Mapped[str | None] = mapped_column(String(64))
    band: Mapped[str | None] = mapped_column(String(16))
    stream: Mapped[bool | None]
    client_request_id: Mapped[str | None] = mapped_column(Text)
    usage_context: Mapped[dict[str, str] | None]
    user: Mapped[str | None] = mapped_column(Text)

    arrived_ms: Mapped[int | None] = mapped_column(BigInteger)
    dispatched_ms: Mapped[int | None] = mapped_column(BigInteger)
    settled_ms: Mapped[int | None] = mapped_column(BigInteger, index=True)
    """The instant that usage is counted at."""

    input_estimate: Mapped[int | None]
    max_output: Mapped[int | None]
    work_reserved: Mapped[float | None] = mapped_column(Float)

    ended: Mapped[str | None] = mapped_column(String(16))
    """``settled``, ``rejected`` or ``recovered``."""
    status: Mapped[int | None]
    """HTTP status; None where the gateway died under the request."""
    outcome: Mapped[str | None] = mapped_column(String(32))
    """As in ``journal.records.Settled``; for a rejected request the reason."""
    input_tokens: Mapped[int] = mapped_column(default=0)
    """New and cached."""
    cached_tokens: Mapped[int] = mapped_column(default=0)
    output_tokens: Mapped[int] = mapped_column(default=0)
    exact: Mapped[bool] = mapped_column(default=False)
    work: Mapped[float] = mapped_column(Float, default=0.0)
    """Served; 0 for a rejected request."""
    queue_ms: Mapped[float | None] = mapped_column(Float)
    ttft_ms: Mapped[float | None] = mapped_column(Float)
    e2e_ms: Mapped[float | None] = mapped_column(Float)

    progress_ms: Mapped[int | None] = mapped_column(BigInteger)
    progress_input: Mapped[int | None]
    progress_output: Mapped[int | None]

    # The newest record of each kind, by which a second reading of it is recognised.
    reserved_seq: Mapped[int | None]
    reserved_digest: Mapped[str | None] = mapped_column(String(32))
    progress_seq: Mapped[int | None]
    progress_digest: Mapped[str | None] = mapped_column(String(32))
    end_seq: Mapped[int | None]
    end_digest: Mapped[str | None] = mapped_column(String(32))


class JournalPosition(LedgerBase):
    """How far a journal was ingested. Written in the transaction of the rows that came of it."""

    __tablename__ = "journal_positions"

    writer: Mapped[str] = mapped_column(String(100), primary_key=True)
    sequence: Mapped[int]
    offset: Mapped[int] = mapped_column(BigInteger)
    finished: Mapped[bool]
    """The writer is dead, all of it was read, and what it left open was recovered."""


class Conflict(LedgerBase):
    """A record that says something else than one that was ingested before with the same key: never applied."""

    __tablename__ = "journal_conflicts"
    __table_args__ = (UniqueConstraint("rid", "kind", "seq", "digest"),)

    id: Mapped[int] = mapped_column(Row, primary_key=True)
    found_ms: Mapped[int] = mapped_column(BigInteger)
    writer: Mapped[str] = mapped_column(String(100))
    rid: Mapped[str] = mapped_column(String(128))
    kind: Mapped[str] = mapped_column(String(16))
    seq: Mapped[int]
    digest: Mapped[str] = mapped_column(String(32))
    refused: Mapped[dict[str, Any]]
    """The record."""
    reason: Mapped[str] = mapped_column(Text)


class Capacity(LedgerBase):
    """Of a served entity, from ``at_ms`` on until its next row. Append-only."""

    __tablename__ = "capacity_points"
    __table_args__ = (Index("ix_capacity_points_endpoint_at", "endpoint", "at_ms"),)

    id: Mapped[int] = mapped_column(Row, primary_key=True)
    endpoint: Mapped[str] = mapped_column(String(64))
    entity: Mapped[str] = mapped_column(String(64))
    at_ms: Mapped[int] = mapped_column(BigInteger)
    ready: Mapped[int]
    draining_own: Mapped[int]
    """Chunks that drain after a scale-down of ours."""
    min_chunks: Mapped[int]
    endpoint_ready: Mapped[bool]
    price_micro_per_chunk_hour: Mapped[int] = mapped_column(BigInteger)
    config_version: Mapped[int]
    exists: Mapped[bool]


class Heartbeat(LedgerBase):
    """One row: the last instant at which the controller was known to run."""

    __tablename__ = "heartbeat"

    id: Mapped[int] = mapped_column(primary_key=True)
    at_ms: Mapped[int] = mapped_column(BigInteger)
