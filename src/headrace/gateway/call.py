"""A request understood: from bytes to what admission and the engine need, or the error that says what is wrong."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from msgspec import UNSET, Raw, UnsetType

from headrace.gateway.auth import band_of, not_permitted
from headrace.gateway.body import Body, Shape
from headrace.gateway.endpoint import LiveEndpoint
from headrace.gateway.entity import LiveEntity
from headrace.gateway.errors import ApiError
from headrace.gateway.prompt import Limits, Prompt, limits, measure
from headrace.gateway.request import check, parse, shape_of, streams, too_deep, wants_usage
from headrace.gateway.snapshot import KeyView
from headrace.gateway.usage import UsageShown
from headrace.policy.endpoint import Band
from headrace.wire.message import Request

PREFIX_BYTES = 1024
"""Of a prompt: requests that begin alike are worth sending to the replica that has this much of them cached. Two or
three hundred tokens; what is shorter is processed again in less time than a slot is waited for."""


@dataclass(frozen=True, slots=True)
class Route:
    """What the path says."""

    shape: Shape | None
    """None: the body tells."""
    endpoint: str | None
    """None: the body's ``model``."""
    usage: UsageShown
    """What a client gets of a stream's usage that did not ask for it."""
    comments: bool
    """Clients of this path take SSE comments."""


class Call:
    """A valid request of a known key to a known endpoint."""

    __slots__ = (
        "band",
        "body",
        "comments",
        "endpoint",
        "explain",
        "key",
        "prefix",
        "prompt",
        "raw",
        "retry",
        "shape",
        "streams",
        "usage",
    )

    def __init__(
        self,
        raw: bytes,
        body: Body,
        shape: Shape,
        endpoint: LiveEndpoint,
        key: KeyView,
        band: Band,
        prompt: Prompt,
        prefix: int | None,
        route: Route,
    ) -> None:
        self.raw = raw
        self.body = body
        self.shape = shape
        self.endpoint = endpoint
        self.key = key
        self.band: Band = band
        self.prompt = prompt
        self.prefix = prefix
        """Hash of the prompt's beginning."""
        self.streams = streams(body) and shape is not Shape.EMBEDDING
        """The answer goes to the client as events."""
        self.usage = UsageShown.AS_IT_COMES if wants_usage(body) else route.usage
        self.comments = route.comments
        self.retry = False
        """The client says that it asks again for what was refused before."""
        self.explain = False
        """The answer's headers tell how the request was weighed and where it went."""

    def limits(self, entity: LiveEntity) -> Limits:
        """What this entity is asked for. Raises ApiError 400 for what can never fit there."""
        terms = entity.core.terms
        return limits(
            self.body,
            self.prompt,
            entity.bytes_per_token[self.shape].estimate(self.prompt),
            context=terms.context,
            default_max_tokens=terms.default_max_tokens,
        )


def understand(request: Request, route: Route, key: KeyView, endpoints: Mapping[str, LiveEndpoint]) -> Call:
    """Raises ApiError 400, 403 or 404."""
    body = parse(request.body)
    check(body)
    band = band_of(body.service_tier, key)
    name = route.endpoint or body.model
    if not isinstance(name, str) or not name:
        raise ApiError(400, "'model' is missing; expected the name of an endpoint", param="model")
    endpoint = endpoints.get(name)
    if endpoint is None:
        raise ApiError(404, f"no endpoint is named {name!r}", code="model_not_found", param="model")
    if endpoint.queriers is not None and not endpoint.may_query(key):
        raise not_permitted(key, name)
    shape = route.shape or shape_of(body)
    try:
        prompt = measure(body, shape)
    except RecursionError:
        raise too_deep() from None
    prefix = _prefix(body.messages if shape is Shape.CHAT else body.prompt)
    call = Call(request.body, body, shape, endpoint, key, band, prompt, prefix, route)
    for field, value in request.headers:
        if field == b"x-stainless-retry-count":  # set by the OpenAI client from its second try on
            call.retry = value != b"0"
        elif field == b"x-headrace-explain":
            call.explain = value == b"1" and key.role == "admin"
    return call


def _prefix(prompt: Raw | UnsetType) -> int | None:
    if prompt is UNSET:
        return None
    beginning = memoryview(prompt)[:PREFIX_BYTES]
    return zlib.crc32(beginning) if len(beginning) == PREFIX_BYTES else None
