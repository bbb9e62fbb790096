"""Rate limits of an endpoint as the snapshot has them, and the answers to requests that they hold back."""

from __future__ import annotations

from collections.abc import Iterable

from headrace.gateway.errors import ApiError
from headrace.gateway.snapshot import RateLimitView
from headrace.policy.endpoint import Ask, Refuse
from headrace.policy.rate_limits import Exceeded, RateLimit

WHOSE = {"endpoint": "endpoint", "user": "user", "service_principal": "service principal"}


def limits_of(views: Iterable[RateLimitView]) -> list[RateLimit]:
    return [RateLimit(view.key, view.principal, view.calls, view.tokens) for view in views]


def closed(exceeded: Exceeded, endpoint: str) -> ApiError:
    """For a limit of 0: coming back is of no use. The words are those of Databricks, with whose limit it is."""
    name = repr(endpoint)
    whom = f"Endpoint {name}" if exceeded.whose == "endpoint" else f"For this {WHOSE[exceeded.whose]}, {name}"
    message = f"{whom} is disabled due to a rate limit set to 0 ({exceeded.measure} per minute).{_borrowed(exceeded)}"
    return ApiError(403, message)


def refusal(exceeded: Exceeded, ask: Ask, work: float, endpoint: str) -> Refuse:
    """For a limit that is used up for now. The message begins as Databricks' does: clients look for that."""
    if exceeded.measure == "calls":
        used = f"{exceeded.used:,} calls were made"
        wants = ""
    else:
        used = f"{exceeded.used:,} tokens were used, or are reserved for requests in flight"
        wants = f", and this request asks for about {exceeded.asked:,}"
    message = (
        f"REQUEST_LIMIT_EXCEEDED: Exceeded {WHOSE[exceeded.key]} {exceeded.measure} per minute rate limit for "
        f"{endpoint}. The limit is {exceeded.limit:,}; in the last minute {used}{wants}. "
        f"Try again in {exceeded.retry_after_s:.1f} s.{_borrowed(exceeded)}"
    )
    return Refuse(ask.rid, 429, "rate_limit", message, exceeded.retry_after_s, work, 0.0)


def _borrowed(exceeded: Exceeded) -> str:
    """A sentence on a limit of another kind of caller, which nobody set for this one."""
    if exceeded.key == exceeded.whose:
        return ""
    return (
        f" The limit is that of each {WHOSE[exceeded.key]}; it holds for this {WHOSE[exceeded.whose]} too, which has "
        f"none of its own."
    )
