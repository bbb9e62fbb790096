"""The one error body, flat, that every client library reads: OpenAI's ``code``/``type``/``param`` and Databricks'
``error_code`` side by side."""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


class _Names(NamedTuple):
    error_code: str
    """What ``databricks-sdk`` picks its exception by."""
    type: str
    code: str
    """OpenAI's, where the thrower names no better one."""


_BY_STATUS = {
    400: _Names("INVALID_PARAMETER_VALUE", "invalid_request_error", "invalid_value"),
    401: _Names("UNAUTHENTICATED", "authentication_error", "invalid_api_key"),
    403: _Names("PERMISSION_DENIED", "permission_error", "permission_denied"),
    404: _Names("RESOURCE_DOES_NOT_EXIST", "invalid_request_error", "not_found"),
    405: _Names("BAD_REQUEST", "invalid_request_error", "method_not_allowed"),
    408: _Names("BAD_REQUEST", "invalid_request_error", "request_timeout"),
    413: _Names("BAD_REQUEST", "invalid_request_error", "request_too_large"),
    429: _Names("REQUEST_LIMIT_EXCEEDED", "rate_limit_error", "rate_limit_exceeded"),
    500: _Names("INTERNAL_ERROR", "server_error", "internal_error"),
    502: _Names("INTERNAL_ERROR", "server_error", "engine_failed"),
    503: _Names("TEMPORARILY_UNAVAILABLE", "server_error", "unavailable"),
    504: _Names("DEADLINE_EXCEEDED", "server_error", "engine_timeout"),
}
_OTHER_BAD_REQUEST = _Names("BAD_REQUEST", "invalid_request_error", "bad_request")
_OTHER_FAILURE = _Names("INTERNAL_ERROR", "server_error", "not_supported")


def _names(status: int) -> _Names:
    return _BY_STATUS.get(status) or (_OTHER_BAD_REQUEST if status < 500 else _OTHER_FAILURE)


class ApiError(Exception):
    """An answer other than the one that was asked for. The message is for people: what was wrong, what was expected."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        allow: str | None = None,
        retry: bool = True,
    ) -> None:
        """``allow``: the method that a 405 says is the right one. ``retry`` False: asking again would do harm."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or _names(status).code
        self.param = param
        self.retry_after_s = retry_after_s
        self.allow = allow
        self.retry = retry

    def fields(self) -> dict[str, object]:
        names = _names(self.status)
        # google.rpc.ErrorInfo: where ``databricks-sdk`` looks for what OpenAI's clients find in ``code``.
        info = {"@type": ERROR_INFO, "reason": self.code, "domain": "headrace", "metadata": {}}
        return {
            "error_code": names.error_code,
            "message": self.message,
            "type": names.type,
            "code": self.code,
            "param": self.param,
            "details": [info],
        }

    def body(self) -> bytes:
        return msgspec.json.encode(self.fields())

    def event(self) -> bytes:
        """The error inside a stream that has begun; the OpenAI client raises it."""
        return b'data: {"error":%b}\n\n' % msgspec.json.encode(self.fields())

    def headers(self) -> list[tuple[bytes, bytes]]:
        """``Retry-After`` in whole seconds, rounded up, and the exact ``retry-after-ms``, where that is known."""
        if self.allow is not None:
            return [(b"allow", self.allow.encode())]
        if not self.retry:
            return [(b"x-should-retry", b"false")]  # OpenAI's client would, for any 5xx
        if self.retry_after_s is None:
            return []
        milliseconds = max(1, math.ceil(self.retry_after_s * 1000))
        return [
            (b"retry-after", b"%d" % max(1, math.ceil(self.retry_after_s))),
            (b"retry-after-ms", b"%d" % milliseconds),
        ]
