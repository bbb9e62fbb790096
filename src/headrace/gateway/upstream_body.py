"""The body that goes to the engine: the client's own, with what the engine must be told and without what is ours."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from headrace.gateway.body import Body, Shape
from headrace.gateway.prompt import Limits
from headrace.gateway.request import streams, too_deep, wants_usage
from headrace.gateway.snapshot import Traits
from headrace.gateway.splice import append, rewrite

OURS = ("client_request_id", "usage_context")
"""Fields for the journal, which engines do not know."""


def upstream_body(raw: bytes, body: Body, shape: Shape, limits: Limits, traits: Traits, endpoint: str) -> bytes:
    """``raw`` for an engine with these traits. Raises ApiError 400 where it cannot be taken apart."""
    members: dict[str, Any] = {}
    model = traits.upstream_model or endpoint
    if body.model != model:
        members["model"] = model
    if shape is not Shape.EMBEDDING:
        members.update(_generation(body, limits, traits))
    ours = body.client_request_id is not UNSET or body.usage_context is not UNSET
    if ours or (members and any(getattr(body, name) is not UNSET for name in members)):
        try:
            return rewrite(raw, members, OURS)
        except RecursionError:
            raise too_deep() from None
    return append(raw, members)


def _generation(body: Body, limits: Limits, traits: Traits) -> dict[str, Any]:
    """What an engine that generates must be told."""
    members: dict[str, Any] = {}
    # max_completion_tokens is not known to every engine; max_tokens is.
    if body.max_tokens != limits.max_tokens:
        members["max_tokens"] = limits.max_tokens
    if traits.stream_upstream:
        if not streams(body):
            members["stream"] = True
        if body.return_progress is not True:
            members["return_progress"] = True
        if body.timings_per_token is not True:
            members["timings_per_token"] = True
    if (streams(body) or traits.stream_upstream) and not wants_usage(body):
        members["stream_options"] = {"include_usage": True}
    return members
