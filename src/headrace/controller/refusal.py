"""What a caller asked for and cannot have."""

from __future__ import annotations

from typing import Literal

Code = Literal[
    "INVALID_PARAMETER_VALUE",
    "MALFORMED_REQUEST",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_CONFLICT",
    "FEATURE_DISABLED",
]
"""Names of Databricks' REST API, by which its SDK picks the exception."""


class Refusal(Exception):
    """The message says what was wrong, what was expected and what to do."""

    def __init__(self, code: Code, message: str, *, param: str | None = None, reason: str | None = None) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message
        self.param = param
        """The field of the request, such as ``max_provisioned_throughput``."""
        self.reason = reason or code.lower()
        """What OpenAI's clients read as ``code``."""
