"""The embedded engine with the real model behind a gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import openai
import pytest
from gateway_rig import PROGRESS, QUERY_KEY, Rig, chat_body, endpoint_view, rig

from headrace.engines.base import ModelSettings, ReplicaReport, ReplicaSpec
from headrace.engines.llamacpp import LlamaCppEngine
from headrace.gateway.snapshot import ReplicaView
from headrace.journal.records import Settled
from headrace.wire.client import Client

pytestmark = pytest.mark.engine

SECRET = "replica-secret"
START_S = 60.0
CANCELLED_WITHIN_S = 3.0


@asynccontextmanager
async def replica(model: ModelSettings) -> AsyncIterator[ReplicaView]:
    engine = LlamaCppEngine()
    process = await asyncio.create_subprocess_exec(
        *engine.argv(model), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(ReplicaSpec(replica="real", model=model, secret=SECRET)))
        process.stdin.close()
        async with asyncio.timeout(START_S):
            while True:
                report = msgspec.json.decode(await process.stdout.readline(), type=ReplicaReport)
                assert report.state != "failed", report.error
                if report.url:
                    break
        yield ReplicaView(
            id="real",
            entity="entity-of-smollm2",
            url=report.url,
            secret=SECRET,
            slots=model.slots,
            draining=False,
            traits=PROGRESS,
        )
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def real(model: ModelSettings) -> AsyncIterator[tuple[Rig, ReplicaView]]:
    async with replica(model) as view, rig() as r:
        r.endpoint = endpoint_view(context=model.context, slots=model.slots, chunk=100.0)
        await r.publish(replicas=[view])
        yield r, view


async def idle(view: ReplicaView) -> None:
    """Until no slot of the replica works."""
    async with Client(view.url) as client:
        while True:
            response = await client.request("GET", "/slots", [(b"authorization", f"Bearer {SECRET}".encode())])
            if not any(slot["is_processing"] for slot in json.loads(await response.read())):
                return


def last_settled(r: Rig) -> Settled:
    record = r.journal()[-1]
    assert isinstance(record, Settled)
    return record


async def test_what_the_client_is_told_is_what_is_booked(smollm2: ModelSettings) -> None:
    async with real(smollm2) as (r, _), openai.AsyncOpenAI(base_url=f"{r.url}/v1", api_key=QUERY_KEY) as client:
        hello: Any = [{"role": "user", "content": "Say hello."}]
        whole = await client.chat.completions.create(model="smollm2", messages=hello, max_tokens=8, temperature=0)
        assert whole.usage is not None
        assert whole.choices[0].message.content
        settled = last_settled(r)
        assert settled.exact
        assert (settled.input_tokens, settled.output_tokens) == (
            whole.usage.prompt_tokens,
            whole.usage.completion_tokens,
        )
        stream = await client.chat.completions.create(
            model="smollm2", messages=hello, max_tokens=8, temperature=0, stream=True
        )
        text = "".join([piece.choices[0].delta.content or "" async for piece in stream])
        assert text == whole.choices[0].message.content
        exactly = await client.completions.create(
            model="smollm2", prompt=list(range(1000, 1040)), max_tokens=20, extra_body={"ignore_eos": True}
        )
        assert exactly.usage is not None
        assert (exactly.usage.prompt_tokens, exactly.usage.completion_tokens) == (40, 20)
        assert exactly.choices[0].finish_reason == "length"
        settled = last_settled(r)
        assert (settled.input_tokens, settled.output_tokens) == (40, 20)


async def test_what_the_engine_refuses_is_told_with_its_reason(smollm2: ModelSettings) -> None:
    async with real(smollm2) as (r, _):
        got = await r.chat(messages=[{"role": "user", "content": "word " * (smollm2.context + 500)}])
        assert got.status == 400
        assert "context" in got.json["message"]
        assert str(smollm2.context) in got.json["message"]
        assert last_settled(r).work == 0
        assert (await r.chat(max_tokens=2)).status == 200


async def test_that_it_makes_no_embeddings_is_said_and_costs_nothing(smollm2: ModelSettings) -> None:
    async with real(smollm2) as (r, _), openai.AsyncOpenAI(base_url=f"{r.url}/v1", api_key=QUERY_KEY) as client:
        for given in ("hello", ["hello", "you"], [1, 2, 3]):
            with pytest.raises(openai.BadRequestError, match="makes no embeddings") as raised:
                await client.embeddings.create(model="smollm2", input=given)
            assert raised.value.code == "embeddings_not_supported"
            settled = last_settled(r)
            assert (settled.outcome, settled.work) == ("refused", 0.0)
        assert (await r.chat(max_tokens=2)).status == 200
        tick = await r.controller.tick(lambda tick: tick.entities[0].completed == 4)
        assert tick.replicas[0].failures == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_in_prefill_frees_the_slot(smollm2: ModelSettings, stream: bool) -> None:
    async with real(smollm2) as (r, view):
        client = await r.connect()
        prompt = [(7 * token) % 40_000 + 100 for token in range(3000)]
        await client.send("POST", "/v1/completions", {"model": "smollm2", "prompt": prompt, "stream": stream})
        await r.controller.tick(lambda tick: tick.entities[0].in_flight == 1)
        client.close()
        async with asyncio.timeout(CANCELLED_WITHIN_S):
            await r.settled()
            await idle(view)
        settled = last_settled(r)
        assert (settled.outcome, settled.output_tokens) == ("client_gone", 0)
        assert settled.input_tokens < 3000


async def test_a_client_that_leaves_in_mid_stream_is_billed_for_every_token(smollm2: ModelSettings) -> None:
    async with real(smollm2) as (r, view):
        client = await r.connect()
        body = chat_body(stream=True, max_tokens=1000, ignore_eos=True)
        await client.send("POST", "/v1/chat/completions", body)
        for _ in range(10):
            await client.until(b'"content":"')
        client.close()
        async with asyncio.timeout(CANCELLED_WITHIN_S):
            await r.settled()
            await idle(view)
        settled = last_settled(r)
        assert settled.outcome == "client_gone"
        assert 10 <= settled.output_tokens < 500
        assert settled.input_tokens > 0
