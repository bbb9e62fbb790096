"""SSE comments while a stream says nothing yet: opt-in, only where clients take them, and nothing else changes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gateway_rig import (
    ADMIN_KEY,
    PROGRESS,
    RAW,
    SSE,
    WITHIN_S,
    FakeEngine,
    RawClient,
    Rig,
    Script,
    answer,
    chat_body,
    endpoint_view,
    event,
    fail,
    rig,
    vanish,
)

from headrace.gateway.flight import COMMENT
from headrace.gateway.snapshot import Traits
from headrace.journal.records import Rejected, Settled
from headrace.wire.server import Exchange

CHAT = "/v1/chat/completions"
OFTEN = {"sse_comment_s": 0.02}
BOTH = pytest.mark.parametrize("traits", [RAW, PROGRESS], ids=["raw", "progress"])


async def asks(r: Rig, path: str = CHAT, **members: Any) -> RawClient:
    client = await r.connect()
    await client.send("POST", path, chat_body(**{"stream": True, **members}))
    return client


async def commented(client: RawClient, times: int = 2) -> tuple[int, dict[str, str]]:
    """Status and headers, once so many comments have come."""
    head = await client.head()
    for _ in range(times):
        await client.until(COMMENT)
        await client.until(b"\r\n")
    return head


async def whole(client: RawClient) -> tuple[bytes, bool]:
    """The rest of a chunked body, and whether it came to its end."""
    body = b""
    async with asyncio.timeout(WITHIN_S):
        while line := await client.reader.readline():
            size = int(line, 16)
            body += await client.reader.readexactly(size)
            await client.reader.readexactly(2)
            if not size:
                return body, True
    return body, False


def without_comments(body: bytes) -> bytes:
    return body.replace(COMMENT, b"")


@BOTH
async def test_a_stream_in_the_queue_gets_comments_and_then_its_answer(traits: Traits) -> None:
    async with rig(traits, **OFTEN) as r:
        await r.publish(replicas=[r.engines[0].view(slots=1)])
        r.engines[0].behave = answer("Hello", " world", hold_after=1)
        running = await asks(r)
        await running.until(b"Hello")
        waiting = await asks(r)
        status, headers = await commented(waiting)
        assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert headers["x-request-id"].startswith("req-")
        r.engines[0].release.set()
        body, complete = await whole(waiting)
        assert complete
        plain = await r.chat(stream=True)
        assert without_comments(body) == plain.body
        assert COMMENT not in body[body.index(b"data: ") :]
        assert sorted(r.kinds()) == ["Reserved"] * 3 + ["Settled"] * 3
        running.close()


@BOTH
async def test_a_stream_that_waits_for_a_cold_start_gets_comments(traits: Traits) -> None:
    async with rig(traits, **OFTEN) as r:
        await r.publish(replicas=[])
        client = await asks(r)
        await commented(client)
        await r.publish()
        body, complete = await whole(client)
        assert complete
        assert body.endswith(b"data: [DONE]\n\n")


@BOTH
async def test_a_stream_in_prefill_gets_comments(traits: Traits) -> None:
    async with rig(traits, **OFTEN) as r:
        r.engines[0].behave = answer("Hello", hold_after=0)
        client = await asks(r)
        await commented(client)
        r.engines[0].release.set()
        body, complete = await whole(client)
        assert complete
        assert b"Hello" in body
        assert b"usage" not in body


@pytest.mark.parametrize(
    "path", ["/v1/completions", "/serving-endpoints/completions", "/serving-endpoints/chat/completions"]
)
async def test_every_openai_path_gets_comments(path: str) -> None:
    async with rig(RAW, **OFTEN) as r:
        r.engines[0].behave = answer("Hello", hold_after=0)
        client = await asks(r, path, prompt="a")
        assert (await commented(client))[0] == 200
        client.close()


@pytest.mark.parametrize(
    ("path", "members", "config"),
    [
        ("/serving-endpoints/smollm2/invocations", {"stream": True}, OFTEN),
        (CHAT, {"stream": False}, OFTEN),
        (CHAT, {"stream": True}, {}),
    ],
    ids=["invocations", "not streamed", "off"],
)
async def test_no_other_request_gets_a_comment_and_errors_keep_their_status(
    path: str, members: dict[str, Any], config: dict[str, Any]
) -> None:
    async with rig(RAW, **config) as r:
        r.endpoint = endpoint_view(queue_deadline_s=0.2)
        await r.publish(replicas=[r.engines[0].view(slots=1)])
        r.engines[0].behave = answer("Hello", hold_after=0)
        running = await asks(r, path, **members)
        await r.engines[0].asked()
        late = await r.post(path, chat_body(**members))
        assert (late.status, late.json["code"]) == (503, "deadline")
        r.engines[0].release.set()
        got = await running.answer()
        assert got.status == 200
        assert b":" not in [line[:1] for line in got.body.splitlines()]


async def test_a_refusal_after_a_comment_comes_as_an_error_event_and_is_booked_with_its_status() -> None:
    async with rig(RAW, **OFTEN) as r:
        r.endpoint = endpoint_view(queue_deadline_s=0.3)
        await r.publish(replicas=[r.engines[0].view(slots=1)])
        r.engines[0].behave = answer("Hello", hold_after=0)
        running = await asks(r)
        await r.engines[0].asked()
        late = await asks(r)
        await commented(late)
        body, complete = await whole(late)
        assert not complete  # nobody can take this for a whole answer
        told = without_comments(body)
        assert told.startswith(b'data: {"error":{"error_code":"TEMPORARILY_UNAVAILABLE","message":"')
        assert told.endswith(b"}}\n\n")
        rejected = r.journal()[-1]
        assert isinstance(rejected, Rejected)
        assert (rejected.status, rejected.reason) == (503, "deadline")
        running.close()


@BOTH
async def test_a_replica_lost_after_a_comment_costs_the_client_nothing(traits: Traits) -> None:
    async with rig(traits, traits, **OFTEN) as r:
        dies = asyncio.Event()

        async def dies_in_prefill(engine: FakeEngine, exchange: Exchange, body: dict[str, Any]) -> None:
            await dies.wait()
            exchange.abort()

        r.engines[0].behave = dies_in_prefill
        client = await asks(r)
        await commented(client)
        dies.set()
        body, complete = await whole(client)
        assert complete
        assert b"Hello" in body
        assert r.kinds() == ["Reserved", "Reserved", "Settled"]
        assert len(r.engines[1].bodies) == 1


async def test_two_replicas_lost_after_a_comment_are_an_error_event() -> None:
    async with rig(RAW, RAW, **OFTEN) as r:
        await r.publish(replicas=[])
        for engine in r.engines:
            engine.behave = vanish
        client = await asks(r)
        await commented(client)
        await r.publish()
        body, complete = await whole(client)
        assert not complete
        assert b'data: {"error":' in body
        assert b"two replicas died" in body
        settled = r.journal()[-1]
        assert isinstance(settled, Settled)
        assert (settled.status, settled.outcome) == (502, "engine_failed")


async def test_what_the_engine_refuses_after_a_comment_is_an_error_event() -> None:
    async with rig(RAW, **OFTEN) as r:
        await r.publish(replicas=[])
        r.engines[0].behave = fail(400, {"error": {"message": "no such tool"}})
        client = await asks(r)
        await commented(client)
        await r.publish()
        body, complete = await whole(client)
        assert not complete
        assert b"no such tool" in body
        assert b'"code":"engine_refused"' in body


async def test_a_client_that_leaves_after_a_comment_is_forgotten() -> None:
    async with rig(RAW, **OFTEN) as r:
        await r.publish(replicas=[])
        client = await asks(r)
        await commented(client)
        client.close()
        await r.controller.tick(lambda tick: tick.entities[0].abandoned == 1 and tick.entities[0].queued == 0)


async def test_a_stream_begun_by_a_comment_is_explained_as_far_as_it_is_known() -> None:
    async with rig(RAW, **OFTEN) as r:
        await r.publish(replicas=[])
        client = await r.connect()
        await client.send("POST", CHAT, chat_body(stream=True), key=ADMIN_KEY, x_headrace_explain="1")
        _, headers = await commented(client)
        assert headers["x-headrace-replica"] == "none"
        assert headers["x-headrace-output-tokens-predicted"] == "128"
        assert "x-headrace-work" not in headers
        client.close()


async def test_a_client_that_does_not_read_stops_the_engine_after_a_comment_too() -> None:
    written = 0
    filler = "x" * 8000
    script = Script((filler,))

    async def floods(engine: FakeEngine, exchange: Exchange, body: dict[str, Any]) -> None:
        nonlocal written
        await engine.release.wait()
        exchange.start(200, [SSE])
        for _ in range(4000):
            exchange.write(event(script.piece(body, filler)))
            written += len(filler)
            await exchange.drain()
        exchange.write(b"".join(script.end(body)))
        exchange.finish()

    async with rig(RAW, **OFTEN) as r:
        r.engines[0].behave = floods
        client = await asks(r)
        await commented(client)
        r.engines[0].release.set()
        before = -1
        while before != written or not written:
            before = written
            for _ in range(10):
                await r.controller.tick(lambda tick: True)
        assert written < 16_000_000  # of 32,000,000; what is under way is in the kernel's buffers
        client.close()
