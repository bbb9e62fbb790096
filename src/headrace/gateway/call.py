"""A request understood: from bytes to what admission and the engine need, or the error that says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.gateway.auth import band_of
from headrace.gateway.endpoint import LiveEndpoint
from headrace.gateway.errors import ApiError
from headrace.gateway.prompt import Limits, Prompt, limits, measure
from headrace.gateway.request import Body, Shape, check, parse, shape_of
from headrace.gateway.snapshot import KeyView
from headrace.policy.endpoint import Band
from headrace.wire.message import Request


@dataclass(frozen=True, slots=True)
class Route:
    """What the path says."""

    shape: Shape | None
    """None: the body tells."""
    endpoint: str | None
    """None: the body's ``model``."""
    keep_usage: bool
    """A stream keeps the usage that the client did not ask for, as Databricks' invocations do."""


@dataclass(frozen=True, slots=True)
class Call:
    """A valid request of a known key to a known endpoint."""

    raw: bytes
    body: Body
    shape: Shape
    endpoint: LiveEndpoint
    key: KeyView
    band: Band
    prompt: Prompt
    limits: Limits
    keep_usage: bool
    retry: bool
    """The client says that it asks again for what was refused before."""


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
    shape = route.shape or shape_of(body)
    prompt = measure(body, shape)
    terms = endpoint.core.terms
    found = limits(
        body,
        prompt,
        endpoint.bytes_per_token[shape].estimate(prompt),
        context=terms.context,
        default_max_tokens=terms.default_max_tokens,
    )
    # Set by the OpenAI client from its second try on.
    retry = request.header(b"x-stainless-retry-count") not in (None, b"0")
    keep_usage = route.keep_usage or body.wants_usage
    return Call(request.body, body, shape, endpoint, key, band, prompt, found, keep_usage, retry)
