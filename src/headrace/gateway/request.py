"""What a request asks for: one parse of the body, of only the fields that matter here. The engine judges the rest."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from headrace.gateway.body import Body, Shape, StreamOptions, body_of
from headrace.gateway.errors import ApiError

__all__ = ["Body", "Shape", "check", "parse", "shape_of", "streams", "too_deep", "wants_usage"]

SERVICE_TIERS = ("auto", "priority", "default", "flex")

LONGEST_ID = 256
"""Characters of ``user`` and ``client_request_id``: they are journaled with every request."""
LARGEST_USAGE_CONTEXT = 4096
"""Bytes of keys and values of ``usage_context``, for the same reason."""


def parse(body: bytes) -> Body:
    """Raises ApiError 400 for a body that is not JSON, or where a field that matters has the wrong type."""
    try:
        if not body.isascii():
            body.decode()  # what the decoder skips it does not check
        return body_of.decode(body)
    except msgspec.ValidationError as error:
        raise ApiError(400, f"invalid body: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, f"the body is not valid JSON: {error}", code="malformed_json") from None
    except RecursionError:
        raise too_deep() from None


def too_deep() -> ApiError:
    """For a body that the decoder cannot follow to its innermost value: about a thousand levels, by what calls it."""
    return ApiError(400, "the body is nested too deeply", code="malformed_json")


def check(body: Body) -> None:
    """What can be said without knowing the endpoint. Raises ApiError 400."""
    if body.n_predict is not UNSET:
        # An engine that knows it would follow it rather than the max_tokens that the request is admitted with.
        raise ApiError(400, "n_predict is not taken here; expected max_tokens", param="n_predict")
    if body.n is not None and body.n != 1:
        raise ApiError(400, f"n is {body.n}; expected 1: a request has one slot, and so one choice", param="n")
    if body.best_of is not None and body.best_of != 1:
        raise ApiError(400, f"best_of is {body.best_of}; expected 1: a request has one slot", param="best_of")
    if body.service_tier is not None and body.service_tier not in SERVICE_TIERS:
        raise ApiError(
            400,
            f"service_tier is {body.service_tier!r}; expected one of {', '.join(SERVICE_TIERS)}",
            param="service_tier",
        )
    _check_id("user", body.user)
    _check_id("client_request_id", body.client_request_id)
    if isinstance(body.usage_context, dict):
        size = sum(len(key) + len(value) for key, value in body.usage_context.items())
        if size > LARGEST_USAGE_CONTEXT:
            raise ApiError(
                400,
                f"usage_context has {size} characters; expected at most {LARGEST_USAGE_CONTEXT}",
                param="usage_context",
            )


def _check_id(name: str, value: object) -> None:
    if isinstance(value, str) and len(value) > LONGEST_ID:
        raise ApiError(400, f"{name} has {len(value)} characters; expected at most {LONGEST_ID}", param=name)


def shape_of(body: Body) -> Shape:
    """Chat, completion or embedding, where the path does not say. Raises ApiError 400."""
    if body.messages is not UNSET:
        return Shape.CHAT
    if body.prompt is not UNSET:
        return Shape.COMPLETION
    if body.input is not UNSET:
        return Shape.EMBEDDING
    raise ApiError(
        400,
        "the body has neither 'messages' (chat) nor 'prompt' (completion) nor 'input' (embedding)",
        code="missing_input",
    )


def streams(body: Body) -> bool:
    return body.stream is True


def wants_usage(body: Body) -> bool:
    """The client wants the event with the usage at the end of a stream."""
    return isinstance(body.stream_options, StreamOptions) and body.stream_options.include_usage is True
