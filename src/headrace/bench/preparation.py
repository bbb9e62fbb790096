"""What must be known before a load can be made to length: how many tokens prose comes to on this server."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from typing import Any

import msgspec

from headrace.bench.client.spec import ClientSpec, origin
from headrace.bench.errors import BenchError
from headrace.bench.workload.envelope import Request
from headrace.bench.workload.fit import calibrated, fitted, makes_prose, yardsticks
from headrace.bench.workload.spec import LoadSpec, Prose
from headrace.bench.workload.tokens import TokenizerFile, server_tokens
from headrace.wire.client import Client, WireError

ANSWER_WITHIN_S = 120.0


async def prepare(spec: ClientSpec, tls: ssl.SSLContext | None, say: Callable[[str], None]) -> ClientSpec:
    """The specification with what a tokenizer, the server's tokenize route or its usage says of prose.

    ``say`` is told what is asked. Raises BenchError where a tokenizer cannot be used; a server that tells nothing is
    left
    to the run itself, whose findings say what came of it.
    """
    load = spec.load
    if makes_prose(load):
        if load.content.tokenizer is not None:
            load = fitted(load, TokenizerFile(load.content.tokenizer))
        else:
            tokens = await asyncio.to_thread(server_tokens, _base(spec), load.model, spec.key, tls=tls)
            if tokens is not None:
                say("asking the server's tokenizer")
                load = await asyncio.to_thread(fitted, load, tokens)
    sticks = await asyncio.to_thread(yardsticks, load)
    if sticks:
        say("asking the server how many tokens its prompts have")
        load = await _counted(spec, load, tls)
    return msgspec.structs.replace(spec, load=load)


def with_prose(spec: ClientSpec, prose: Prose | None) -> ClientSpec:
    """The specification with what was found of it before: the same requests are made again."""
    load = spec.load
    content = msgspec.structs.replace(load.content, prose=prose)
    return msgspec.structs.replace(spec, load=msgspec.structs.replace(load, content=content))


async def _counted(spec: ClientSpec, load: LoadSpec, tls: ssl.SSLContext | None) -> LoadSpec:
    client = Client(_base(spec).removesuffix(origin(spec.url).base), tls=tls)
    counted = []
    async with client:
        for stick in yardsticks(load):
            tokens = await _input_tokens(client, spec, stick.request)
            if tokens is None:
                return load
            counted.append((stick, tokens))
    return calibrated(load, counted)


async def _input_tokens(client: Client, spec: ClientSpec, request: Request) -> int | None:
    """By the usage of the answer; None where there is none."""
    fields = [(b"content-type", b"application/json")]
    if spec.key:
        fields.append((b"authorization", b"Bearer " + spec.key.encode()))
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            response = await client.request("POST", origin(spec.url).base + request.path, fields, request.body)
            async with response:
                body = b"".join([piece async for piece in response])
    except (TimeoutError, WireError):
        return None
    return usage_in(body)


def usage_in(body: bytes) -> int | None:
    """``prompt_tokens`` of an answer, whether it is one document or a stream of events."""
    found = None
    for line in body.splitlines() if body.startswith((b"data:", b":", b"event:")) else [body]:
        try:
            document: Any = json.loads(line.removeprefix(b"data:"))
            found = int(document["usage"]["prompt_tokens"])
        except (ValueError, TypeError, LookupError):
            continue
    return found


def _base(spec: ClientSpec) -> str:
    """Up to and without ``/v1``. Raises BenchError for what is no URL of a server."""
    base = origin(spec.url).base
    whole = spec.url.rstrip("/").removesuffix("/v1")
    if not whole.endswith(base):
        raise BenchError(f"cannot put load on {spec.url!r}; expected http://HOST:PORT or https://HOST:PORT")
    return whole
