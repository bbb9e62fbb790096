"""The gateway's handler: which path is whose, and the frame around every request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from time import monotonic
from typing import Any
from urllib.parse import unquote

import msgspec

from headrace.gateway.access import AccessLog
from headrace.gateway.access_line import AccessLine
from headrace.gateway.account import CLIENT_CLOSED, STREAM_S, Account
from headrace.gateway.auth import not_permitted
from headrace.gateway.body import Shape
from headrace.gateway.call import Route, understand
from headrace.gateway.content_type import JSON
from headrace.gateway.cors import Cors
from headrace.gateway.errors import ApiError
from headrace.gateway.flight import Flight
from headrace.gateway.live import Live
from headrace.gateway.outbox import Outbox
from headrace.gateway.proxy import Proxy
from headrace.gateway.request_ids import RequestIds
from headrace.gateway.time_limits import TimeLimits
from headrace.gateway.usage import UsageShown
from headrace.wire.exchange import ClientGone, Exchange
from headrace.wire.message import Header, field_lines


def _openai(shape: Shape, usage: UsageShown = UsageShown.NO) -> Route:
    return Route(shape, None, usage, comments=True)


ROUTES = {
    "/v1/chat/completions": _openai(Shape.CHAT),
    "/v1/completions": _openai(Shape.COMPLETION),
    "/v1/embeddings": _openai(Shape.EMBEDDING),
    "/serving-endpoints/chat/completions": _openai(Shape.CHAT, UsageShown.IN_A_CHOICE),  # LangChain reads it
    "/serving-endpoints/completions": _openai(Shape.COMPLETION),
    "/serving-endpoints/embeddings": _openai(Shape.EMBEDDING),
}
NOT_SERVED = frozenset(("/v1/responses", "/serving-endpoints/responses"))
HEALTHZ = "/healthz"
"""What it should serve was tried; whether it does is for the other one to say."""
HEALTH = frozenset((HEALTHZ, "/readyz"))
INVOCATIONS = re.compile(r"/serving-endpoints/([^/]+)/invocations")
MODELS = re.compile(r"/v1/models(?:/([^/]+))?")
ALL_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
SHARPEST_SWEEP_S = 0.01


class App:
    """``handle`` is the wire server's handler."""

    def __init__(
        self, live: Live, outbox: Outbox, proxy: Proxy, limits: TimeLimits, access: AccessLog, cors: Cors
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._live = live
        self._outbox = outbox
        self._proxy = proxy
        self._limits = limits
        self._access = access
        self._cors = cors
        self._ids = RequestIds()
        self._flights: dict[Flight, AccessLine] = {}
        # One timer for all: a timer for each would cost more than the request.
        shortest = min(limits.total_s, limits.first_byte_floor_s, limits.comment_s or limits.total_s)
        self._sweep_s = max(SHARPEST_SWEEP_S, min(STREAM_S, shortest / 10))
        self._sweeper = self._loop.call_later(self._sweep_s, self._sweep)

    def handle(self, exchange: Exchange) -> Coroutine[Any, Any, None] | None:
        """See ``wire.server.Handler``."""
        request = exchange.request
        path = request.path
        line = AccessLine(self._ids.next(), request.method, path)
        if path in HEALTH:
            self._health(exchange, line)
            return None
        route = ROUTES.get(path)
        if route is None and (match := INVOCATIONS.fullmatch(path)):
            route = Route(None, unquote(match[1]), UsageShown.AS_IT_COMES, comments=False)
        if route is not None:
            if not self._met(exchange, line, b"POST, OPTIONS"):
                self._query(exchange, line, route)
            return None
        if path in NOT_SERVED:
            if not self._met(exchange, line, b"OPTIONS"):
                self._not_served(exchange, line)
            return None
        if path == "*":
            self._met(exchange, line, ALL_METHODS)
            return None
        if match := MODELS.fullmatch(path):
            if self._met(exchange, line, b"GET, HEAD, OPTIONS"):
                return None
            return self._framed(exchange, line, self._models(exchange, line, match[1]))
        return self._framed(exchange, line, self._control(exchange, line))

    def refusal(self, exchange: Exchange | None, status: int, reason: str) -> tuple[list[Header], bytes]:
        """For what the wire server answers itself; see ``wire.server.OnError``."""
        error = ApiError(status, reason)
        headers = [(b"x-request-id", self._ids.next().encode()), JSON]
        if exchange is None and self._cors.on:
            headers += self._cors.fields(None)  # bytes that are no request have no origin either
        return headers, error.body()

    def cut(self) -> int:
        """End every request to an endpoint that is still in flight; returns how many there were."""
        flights = list(self._flights)
        for flight in flights:
            flight.cut(ApiError(503, "the server is stopping", code="stopping", retry_after_s=1.0))
        return len(flights)

    def close(self) -> None:
        """The end: every request has landed or was cut."""
        self._sweeper.cancel()
        self._access.flush()

    def _met(self, exchange: Exchange, line: AccessLine, allow: bytes) -> bool:
        """Prepare the answer for a page of another origin; True where the request was OPTIONS and is answered.

        That needs no key: a browser asks without one, and learns what the documentation tells everybody.
        """
        request = exchange.request
        if self._cors.on:
            exchange.extra_fields = field_lines(self._cors.fields(request.header(b"origin")))
        if request.method != "OPTIONS":
            return False
        line.status = 204
        headers = [(b"x-request-id", line.id.encode()), (b"allow", allow), *self._cors.preflight(request)]
        exchange.respond(204, headers)
        self._access.write(line)
        return True

    def _query(self, exchange: Exchange, line: AccessLine, route: Route) -> None:
        """A request to an endpoint."""
        arrived = monotonic()
        request = exchange.request
        try:
            key = self._live.authenticate(request.header(b"authorization"))
            line.key = key.id
            if request.method != "POST":
                raise ApiError(405, f"{request.path} takes POST, not {request.method}", allow="POST")
            call = understand(request, route, key, self._live.endpoints)
        except ApiError as error:
            self._refuse(exchange, line, error)
            return
        line.endpoint = call.endpoint.view.name
        flight = Flight(exchange, Account(line, self._outbox, call, arrived), call, self._limits, self._landed)
        self._flights[flight] = line
        flight.begin()

    def _landed(self, flight: Flight) -> None:
        self._access.write(self._flights.pop(flight))

    def _sweep(self) -> None:
        now = monotonic()
        for flight in list(self._flights):
            flight.check(now)
        self._sweeper = self._loop.call_later(self._sweep_s, self._sweep)

    def _refuse(self, exchange: Exchange, line: AccessLine, error: ApiError) -> None:
        """An error is the answer."""
        _answer(exchange, line, error)
        self._access.write(line)

    def _not_served(self, exchange: Exchange, line: AccessLine) -> None:
        reason = f"{line.path}: the Responses API is not served here; use /v1/chat/completions"
        self._refuse(exchange, line, ApiError(404, reason, code="not_supported"))

    async def _framed(self, exchange: Exchange, line: AccessLine, handler: Coroutine[Any, Any, None]) -> None:
        """Errors become answers, and every request its access line."""
        try:
            await handler
        except ApiError as error:
            _answer(exchange, line, error)
        except ClientGone:
            line.status = CLIENT_CLOSED
        finally:
            self._access.write(line)

    def _health(self, exchange: Exchange, line: AccessLine) -> None:
        """Not in the access log: it is asked every second, by nobody in particular."""
        waits_for = self._live.waits_for() if line.path == HEALTHZ else self._live.lacks()
        state = {"status": "ok"} if waits_for is None else {"status": "unavailable", "waits_for": waits_for}
        headers = [(b"x-request-id", line.id.encode()), JSON, (b"cache-control", b"no-store")]
        exchange.respond(200 if waits_for is None else 503, headers, msgspec.json.encode(state))

    async def _models(self, exchange: Exchange, line: AccessLine, name: str | None) -> None:
        key = self._live.authenticate(exchange.request.header(b"authorization"))
        line.key = key.id
        if exchange.request.method not in ("GET", "HEAD"):
            raise ApiError(405, f"{line.path} takes GET, not {line.method}", allow="GET")
        endpoints = self._live.endpoints
        names = sorted(name for name, endpoint in endpoints.items() if endpoint.may_query(key))
        answer: dict[str, Any] = {"object": "list", "data": [_model(name) for name in names]}
        if name is not None:
            name = unquote(name)
            if name not in endpoints:
                raise ApiError(404, f"no endpoint is named {name!r}", code="model_not_found", param="model")
            if name not in names:
                raise not_permitted(key, name)
            answer = _model(name)
        line.status = 200
        exchange.respond(200, [(b"x-request-id", line.id.encode()), JSON], msgspec.json.encode(answer))

    async def _control(self, exchange: Exchange, line: AccessLine) -> None:
        line.status = await self._proxy.handle(exchange, line.id)


def _answer(exchange: Exchange, line: AccessLine, error: ApiError) -> None:
    line.status = error.status
    line.outcome = line.outcome or error.code
    exchange.respond(error.status, [(b"x-request-id", line.id.encode()), *error.headers(), JSON], error.body())


def _model(name: str) -> dict[str, Any]:
    """An endpoint as OpenAI's clients know models. ``created`` is a part of that shape; a snapshot does not say it."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "headrace"}
