"""Embeddings of the simulated engine: vectors that mean nothing, the same for the same tokens, of length 1.

A request takes the time of its inputs' prefill, as if they were one prompt.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
import struct
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import msgspec

from headrace.engines.base import ReplicaSpec
from headrace.engines.simulated import answers
from headrace.engines.simulated.api import JSON, refuse
from headrace.engines.simulated.arguments import Arguments
from headrace.engines.simulated.batching import BatchRequest
from headrace.engines.simulated.live import LiveBatch
from headrace.engines.simulated.prompt import Rejected, prompt_tokens
from headrace.wire.server import Exchange

DIMENSIONS = 64
"""Of a vector, where the request does not ask for another size."""
MOST_DIMENSIONS = 4096


class _Body(msgspec.Struct):
    """The fields that this engine follows; others are ignored."""

    input: Any = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


class Inputs(msgspec.Struct, frozen=True):
    """A request that will be served."""

    tokens: Sequence[Sequence[Hashable]]
    """Of each input."""
    dimensions: int
    base64: bool

    @property
    def count(self) -> int:
        """Tokens in all."""
        return sum(map(len, self.tokens))


def read(raw: bytes, *, context: int, vocabulary: int) -> Inputs:
    """Raises Rejected."""
    try:
        body = msgspec.json.decode(raw, type=_Body)
    except msgspec.DecodeError as error:  # its messages name types and places, never values
        raise Rejected(f"the body is not a valid request: {error}", code="invalid_json") from None
    given = body.input
    one = isinstance(given, str) or (isinstance(given, list) and bool(given) and isinstance(given[0], int))
    inputs = [given] if one else given
    if not isinstance(inputs, list) or not inputs:
        raise Rejected("input must be a text, a list of token ids, or a list of either, not empty", "input")
    tokens = [prompt_tokens(_checked(found), vocabulary, "input") for found in inputs]
    longest = max(map(len, tokens))
    if longest > context:
        raise Rejected(
            f"an input has {longest} tokens: each must fit the context of {context} tokens",
            "input",
            "context_length_exceeded",
        )
    dimensions = DIMENSIONS if body.dimensions is None else body.dimensions
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise Rejected(f"dimensions is {dimensions}; expected 1 to {MOST_DIMENSIONS}", "dimensions")
    return Inputs(tokens, dimensions, body.encoding_format == "base64")


def _checked(found: Any) -> str | list[int]:
    try:
        return msgspec.convert(found, str | list[int])
    except msgspec.ValidationError as error:
        raise Rejected(f"an input must be a text or a list of token ids: {error}", "input") from None


def vector(tokens: Sequence[Hashable], dimensions: int) -> list[float]:
    """Of length 1. Text and token ids that are written alike are different inputs, and have different vectors."""
    digest = hashlib.shake_256(repr(list(tokens)).encode()).digest(2 * dimensions)
    raw = [number / 32768 - 1 + 1 / 65536 for number in struct.unpack(f"<{dimensions}H", digest)]  # none is zero
    length = math.sqrt(sum(number * number for number in raw))
    return [number / length for number in raw]


def answer(model: str, inputs: Inputs) -> bytes:
    """In OpenAI's shape."""
    data = []
    for index, tokens in enumerate(inputs.tokens):
        numbers = vector(tokens, inputs.dimensions)
        packed = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode() if inputs.base64 else None
        data.append({"object": "embedding", "index": index, "embedding": packed or numbers})
    counts = {"prompt_tokens": inputs.count, "total_tokens": inputs.count}
    return msgspec.json.encode({"object": "list", "model": answers.model_name(model), "data": data, "usage": counts})


class Embeddings:
    """Answers requests for embeddings; without a ``batch`` at once."""

    def __init__(self, spec: ReplicaSpec, args: Arguments, batch: LiveBatch | None = None) -> None:
        self._spec = spec
        self._args = args
        self._batch = batch
        self._numbers = itertools.count(1)

    def embed(self, exchange: Exchange) -> None:
        model, batch = self._spec.model, self._batch
        try:
            inputs = read(exchange.request.body, context=model.context, vocabulary=self._args.vocabulary)
        except Rejected as rejected:
            refuse(exchange, rejected)
            return
        body = answer(model.name, inputs)
        if batch is None:
            exchange.respond(200, JSON, body)
            return
        id = f"sim-embedding-{self._spec.replica}-{next(self._numbers)}"
        # Its one token is the end of the prefill.
        batch.submit(BatchRequest(id, inputs.count, 1), lambda token: exchange.respond(200, JSON, body))
        exchange.on_client_gone(lambda: batch.cancel(id))
