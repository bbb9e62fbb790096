"""The HTTP side of a simulated replica."""

from __future__ import annotations

import hmac
import itertools
from collections.abc import Callable

import msgspec

from headrace.engines.base import ReplicaSpec
from headrace.engines.simulated import answers
from headrace.engines.simulated.answers import Answer
from headrace.engines.simulated.arguments import Arguments
from headrace.engines.simulated.batching import BatchRequest, Token
from headrace.engines.simulated.live import LiveBatch
from headrace.engines.simulated.prompt import Generation, Rejected, read
from headrace.wire.message import Header
from headrace.wire.server import Exchange

JSON: list[Header] = [(b"content-type", b"application/json")]
STREAM: list[Header] = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]

Generate = Callable[[Exchange, bool], None]
"""Answers a request of (exchange, chat)."""
Embed = Callable[[Exchange], None]


class Api:
    """Routes and the secret; ``handle`` is a ``wire`` handler that answers at once or by callbacks."""

    def __init__(self, spec: ReplicaSpec, args: Arguments, generate: Generate, embed: Embed) -> None:
        self._authorization = f"Bearer {spec.secret}".encode()
        self._generate = generate
        self._embed = embed
        model = {
            "id": answers.model_name(spec.model.name),
            "object": "model",
            "created": 0,
            "owned_by": "headrace",
            "max_model_len": spec.model.context,
            "meta": {"n_vocab": args.vocabulary, "simulated": True},
        }
        self._models = msgspec.json.encode({"object": "list", "data": [model]})

    def handle(self, exchange: Exchange) -> None:
        method, path = exchange.request.method, exchange.request.path
        if (method, path) == ("GET", "/health"):
            exchange.respond(200, JSON, b'{"status":"ok","engine":"simulated"}')
        elif not hmac.compare_digest(exchange.request.header(b"authorization") or b"", self._authorization):
            message = "the bearer token is missing or is not this replica's secret"
            exchange.respond(401, JSON, answers.error(message, "authentication_error", code="invalid_api_key"))
        elif (method, path) == ("GET", "/v1/models"):
            exchange.respond(200, JSON, self._models)
        elif method == "POST" and path in ("/v1/chat/completions", "/v1/completions"):
            self._generate(exchange, path == "/v1/chat/completions")
        elif (method, path) == ("POST", "/v1/embeddings"):
            self._embed(exchange)
        else:
            message = f"the simulated engine does not serve {method} {path}"
            exchange.respond(404, JSON, answers.error(message, "not_found_error", code="not_found"))


def refuse(exchange: Exchange, rejected: Rejected) -> None:
    body = answers.error(str(rejected), "invalid_request_error", rejected.param, rejected.code)
    exchange.respond(400, JSON, body)


def error_body(exchange: Exchange | None, status: int, reason: str) -> tuple[list[Header], bytes]:
    """For ``wire.Server``."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return JSON, answers.error(reason, kind)


class Simulation:
    """Generations timed by a batch."""

    def __init__(self, spec: ReplicaSpec, args: Arguments, batch: LiveBatch) -> None:
        self._spec = spec
        self._args = args
        self._batch = batch
        self._numbers = itertools.count(1)

    def generate(self, exchange: Exchange, chat: bool) -> None:
        model = self._spec.model
        try:
            generation = read(
                exchange.request.body,
                chat=chat,
                context=model.context,
                default_max_tokens=model.default_max_tokens,
                vocabulary=self._args.vocabulary,
            )
        except Rejected as rejected:
            refuse(exchange, rejected)
            return
        id = f"sim-{self._spec.replica}-{next(self._numbers)}"
        answer = Answer(id, model.name, chat=chat)
        on_token = _stream(exchange, answer, generation) if generation.stream else _whole(exchange, answer, generation)
        request = BatchRequest(id, len(generation.prompt), generation.max_tokens, generation.prompt)
        self._batch.submit(request, on_token)
        exchange.on_client_gone(lambda: self._batch.cancel(id))


def _whole(exchange: Exchange, answer: Answer, generation: Generation) -> Callable[[Token], None]:
    def on_token(token: Token) -> None:
        if token.last:
            counts = answers.usage(len(generation.prompt), token.index, token.cached_tokens)
            exchange.respond(200, JSON, answer.whole(token.index, counts))

    return on_token


def _stream(exchange: Exchange, answer: Answer, generation: Generation) -> Callable[[Token], None]:
    """Each token is written as it comes. Without waiting for the client: the context bounds what can pile up."""
    middle = answer.event()

    def on_token(token: Token) -> None:
        first = token.index == 1
        if first:
            exchange.start(200, STREAM)
        if not token.last:
            exchange.write(answer.event(first=True) if first else middle)
            return
        end = [answer.event(first=first, last=True)]
        if generation.include_usage:
            counts = answers.usage(len(generation.prompt), token.index, token.cached_tokens)
            end.append(answer.usage_event(counts))
        exchange.write(b"".join((*end, answers.DONE)))
        exchange.finish()

    return on_token
