"""What an engine says when it does not answer, and what the client is told of it.

An engine may quote the prompt in its reason: the client gets it, no log does.
"""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.gateway.body import Shape
from headrace.gateway.errors import ApiError

LONGEST_REASON = 500
"""Characters."""

ERROR = 500
"""Speaks of the request as often as of the replica."""

REPLICA_DOWN = (502, 503, 504)
"""Statuses that speak of the replica and not of the request: another one may do better."""


class EngineError(Exception):
    """The engine answered, with an error instead of tokens."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"the engine answered {status}")
        self.status = status
        self.reason = reason

    def for_client(self, context: int, shape: Shape) -> ApiError:
        """Only what the request can mend is a 400. An engine's own 401 or 404 is our mistake and not the client's."""
        if self.status in (400, 413, 422):
            return ApiError(
                400,
                f"the engine refused the request: {self.reason} (the context of this endpoint is {context} tokens, "
                "input and output together)",
                code="engine_refused",
            )
        if shape is Shape.EMBEDDING and self.status in (404, 405, 501):
            return ApiError(
                400, f"the engine of this endpoint makes no embeddings: {self.reason}", code="embeddings_not_supported"
            )
        if self.status == 429:
            return ApiError(503, f"the engine takes no more requests now: {self.reason}", retry_after_s=1.0)
        return ApiError(
            502, f"the engine failed on this request with {self.status}: {self.reason}", code="engine_error"
        )


class _Inner(msgspec.Struct):
    message: str = ""
    code: int | str | None = None


class _Body(msgspec.Struct):
    error: _Inner | str | None = None
    message: str | None = None
    detail: Any = None


def engine_error(status: int, body: bytes) -> EngineError:
    """From an error body in any of the forms that engines have, or in none."""
    try:
        found = msgspec.json.decode(body, type=_Body)
    except msgspec.DecodeError:
        return EngineError(status, "it gave no reason that can be read")
    reason = found.error.message if isinstance(found.error, _Inner) else found.error or found.message
    if not reason and found.detail is not None:
        reason = found.detail if isinstance(found.detail, str) else msgspec.json.encode(found.detail).decode()
    return EngineError(status, (reason or "it gave no reason")[:LONGEST_REASON])


def error_in_event(event: bytes) -> EngineError | None:
    """The error that an engine sends inside a stream whose status was 200."""
    data = event.strip().removeprefix(b"data:").lstrip()
    if not data.startswith(b'{"error"'):
        return None
    try:
        found = msgspec.json.decode(data, type=_Body).error
    except msgspec.DecodeError:
        return EngineError(500, "it gave no reason that can be read")
    code = found.code if isinstance(found, _Inner) and isinstance(found.code, int) else 500
    return EngineError(code, engine_error(code, data).reason)
