"""One request of a profile: what is read of a stream, and what is said of an answer that is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from headrace.bench.profiling.asking import Asked, Server, ask
from headrace.bench.profiling.clock import WallClock
from headrace.bench.profiling.shapes import Shape
from headrace.wire.client import Client
from headrace.wire.server import Exchange
from headrace.wire.server import Server as HttpServer

SHAPE = Shape(700, 3)


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def token(text: str, finish: str | None = None) -> bytes:
    return event(choices=[{"text": text, "finish_reason": finish}])


def progress(processed: int) -> bytes:
    return event(prompt_progress={"total": 700, "processed": processed})


USAGE = event(
    choices=[], usage={"prompt_tokens": 700, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 100}}
)
WHOLE = b"".join([*(progress(at) for at in (100, 356, 612, 700)), token("a"), token(""), token("c", "length"), USAGE])


async def asked(answer: Callable[[Exchange], None], *, shows_progress: bool = True) -> tuple[Asked, dict[str, Any]]:
    """What was made of the answer, and the body that was sent."""
    bodies: list[dict[str, Any]] = []

    def handle(exchange: Exchange) -> None:
        bodies.append(json.loads(exchange.request.body))
        answer(exchange)

    server = HttpServer(handle)
    await server.listen(port=0)
    client = Client(f"http://127.0.0.1:{server.port}")
    try:
        target = Server(client, "toy", "secret", timeout_s=5, progress=shows_progress)
        return await ask(target, SHAPE, list(range(700)), WallClock()), bodies[0]
    finally:
        await client.close()
        await server.close()


def streams(body: bytes, status: int = 200) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.respond(status, [(b"content-type", b"text/event-stream")], body)


async def test_tokens_usage_cache_and_progress_are_read() -> None:
    found, sent = await asked(streams(WHOLE + b"data: [DONE]\n\n"))
    assert found.fault is None
    assert (found.input_tokens, found.output_tokens, found.cached_tokens) == (700, 3, 100)
    assert found.prefill_step == 256
    assert found.first_s is not None and found.sent_s <= found.first_s <= (found.last_s or 0) <= found.end_s
    assert (sent["max_tokens"], sent["ignore_eos"], sent["return_progress"]) == (3, True, True)


async def test_a_server_that_shows_no_progress_is_not_asked_for_it() -> None:
    assert "return_progress" not in (await asked(streams(WHOLE), shows_progress=False))[1]


async def test_a_server_that_tells_nothing_of_its_cache_is_not_taken_to_have_none() -> None:
    body = WHOLE.replace(b', "prompt_tokens_details": {"cached_tokens": 100}', b"")
    assert (await asked(streams(body)))[0].cached_tokens is None


@pytest.mark.parametrize(
    ("body", "status", "fault"),
    [
        (token("a"), 200, "not a stream of events that ends with a finish reason and usage"),
        (b"data: {\n\n", 200, "not JSON"),
        (event(error={"message": "out of memory"}), 200, "out of memory"),
        (b'{"error": {"message": "too long"}}', 400, "status 400: too long"),
        (b"<html>", 502, "status 502: <html>"),
    ],
)
async def test_an_answer_that_is_none_says_why(body: bytes, status: int, fault: str) -> None:
    assert fault in ((await asked(streams(body, status)))[0].fault or "")


async def test_nobody_there_is_a_fault_too() -> None:
    client = Client("http://127.0.0.1:1")
    found = await ask(Server(client, "toy", None), SHAPE, [1], WallClock())
    await client.close()
    assert found.fault
