"""What one journal record does to the row of its request: pure, so that replays can be tested in any order.

Of each kind the newest record counts. The same record again changes nothing; another one under the same key is a
conflict and changes nothing either. What ends a request ends it once.
"""

from __future__ import annotations

import hashlib
from enum import Enum

import msgspec

from headrace.journal.records import Progress, Record, Rejected, Reserved, Settled
from headrace.ledger.schema import Usage
from headrace.policy.work import Weights


class Effect(Enum):
    APPLIED = "applied"
    KNOWN = "known"
    """Read before, or overtaken by a newer record."""
    CONFLICT = "conflict"


def digest(record: Record) -> str:
    """Names the payload of a record."""
    return hashlib.sha256(msgspec.json.encode(record)).hexdigest()[:32]


def fold(row: Usage, record: Record) -> Effect:
    """Apply one record to the row of its request."""
    match record:
        case Reserved():
            return _reserve(row, record)
        case Progress():
            return _progress(row, record)
        case Settled() | Rejected():
            return _end(row, record)


def recover(row: Usage, weights: Weights | None) -> None:
    """End a request whose gateway died, with the last that is known of it. Raises ValueError if it has ended.

    The same rows give the same result whenever it is done. Without weights the reserved work stands.
    """
    if row.ended is not None:
        raise ValueError(f"request {row.rid} has ended already")
    row.ended, row.outcome, row.status, row.exact = "recovered", "recovered", None, False
    row.input_tokens = row.progress_input if row.progress_input is not None else (row.input_estimate or 0)
    row.output_tokens = row.progress_output or 0
    row.cached_tokens = 0
    row.work = weights.work(row.input_tokens, 0, row.output_tokens) if weights else (row.work_reserved or 0.0)
    row.settled_ms = max((at for at in (row.progress_ms, row.dispatched_ms) if at is not None), default=0)
    if row.arrived_ms is not None and row.dispatched_ms is not None:
        row.queue_ms = float(row.dispatched_ms - row.arrived_ms)
        row.e2e_ms = float(row.settled_ms - row.arrived_ms)


def _seen(newest: int | None, known: str | None, record: Record) -> Effect | None:
    if newest is None or record.seq > newest:
        return None
    if record.seq == newest and digest(record) != known:
        return Effect.CONFLICT
    return Effect.KNOWN


def _reserve(row: Usage, record: Reserved) -> Effect:
    seen = _seen(row.reserved_seq, row.reserved_digest, record)
    if seen is not None:
        return seen
    if row.ended is not None and row.reserved_seq is not None:
        # After its end a request is not dispatched again. Without a reservation so far, the end was ingested first.
        return Effect.CONFLICT
    row.reserved_seq, row.reserved_digest = record.seq, digest(record)
    row.endpoint, row.endpoint_name = record.endpoint, record.endpoint_name
    row.entity, row.config_version = record.entity, record.config_version
    row.key, row.replica, row.band, row.stream = record.key, record.replica, record.band, record.stream
    row.client_request_id, row.user = _storable(record.client_request_id), _storable(record.user)
    row.usage_context = record.usage_context
    row.arrived_ms, row.dispatched_ms = record.arrived_ms, record.at_ms
    row.input_estimate, row.max_output, row.work_reserved = (
        record.input_estimate,
        record.max_output,
        record.work_reserved,
    )
    return Effect.APPLIED


def _storable(told: str | None) -> str | None:
    """What a client says of itself may hold anything; PostgreSQL's text takes no NUL."""
    return None if told is None else told.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _progress(row: Usage, record: Progress) -> Effect:
    seen = _seen(row.progress_seq, row.progress_digest, record)
    if seen is not None:
        return seen
    if row.ended == "recovered":
        return Effect.CONFLICT
    row.progress_seq, row.progress_digest = record.seq, digest(record)
    row.progress_ms, row.progress_input, row.progress_output = record.at_ms, record.input_tokens, record.output_tokens
    return Effect.APPLIED


def _end(row: Usage, record: Settled | Rejected) -> Effect:
    if row.ended is not None:
        same = row.end_seq == record.seq and row.end_digest == digest(record)
        return Effect.KNOWN if same else Effect.CONFLICT
    row.end_seq, row.end_digest, row.settled_ms, row.status = record.seq, digest(record), record.at_ms, record.status
    if isinstance(record, Rejected):
        row.ended, row.outcome, row.exact = "rejected", record.reason, True
        row.endpoint, row.endpoint_name, row.key = record.endpoint, record.endpoint_name, record.key
        row.arrived_ms, row.work_reserved = record.arrived_ms, record.work
        row.queue_ms = row.e2e_ms = float(record.at_ms - record.arrived_ms)
        return Effect.APPLIED
    row.ended, row.outcome, row.exact = "settled", record.outcome, record.exact
    row.input_tokens, row.cached_tokens, row.output_tokens = (
        record.input_tokens,
        record.cached_tokens,
        record.output_tokens,
    )
    row.work, row.queue_ms, row.ttft_ms, row.e2e_ms = record.work, record.queue_ms, record.ttft_ms, record.e2e_ms
    return Effect.APPLIED
