"""The official OpenAI client, asynchronous and synchronous, against the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import openai
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, NotFound
from databricks.sdk.service.serving import ChatMessage, ChatMessageRole
from gateway_rig import JSON, PROGRESS, QUERY_KEY, RAW, Rig, answer, endpoint_view, rig

from headrace.gateway.snapshot import Traits
from headrace.journal.records import Reserved
from headrace.wire.server import Exchange, Server

BOTH = pytest.mark.parametrize("traits", [RAW, PROGRESS], ids=["raw", "progress"])
HELLO = [{"role": "user", "content": "hello"}]


@asynccontextmanager
async def client_of(r: Rig, *, key: str = QUERY_KEY, retries: int = 0) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{r.url}/v1", api_key=key, max_retries=retries) as client:
        yield client


@contextmanager
def sync_client_of(r: Rig) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{r.url}/v1", api_key=QUERY_KEY, max_retries=0) as client:
        yield client


@BOTH
async def test_a_chat(traits: Traits) -> None:
    async with rig(traits) as r, client_of(r) as client:
        got = await client.chat.completions.create(model="smollm2", messages=HELLO, max_completion_tokens=5)
        assert got.choices[0].message.content == "Hello world"
        assert got.choices[0].finish_reason == "stop"
        assert got.usage is not None
        assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (11, 2)
        assert r.engines[0].bodies[0]["max_tokens"] == 5


@BOTH
async def test_a_streamed_chat(traits: Traits) -> None:
    async with rig(traits) as r, client_of(r) as client:
        stream = await client.chat.completions.create(model="smollm2", messages=HELLO, stream=True)
        text = "".join([piece.choices[0].delta.content or "" async for piece in stream])
        assert text == "Hello world"
        stream = await client.chat.completions.create(
            model="smollm2", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        usages = [piece.usage async for piece in stream if piece.usage]
        assert [told.completion_tokens for told in usages] == [2]


@BOTH
async def test_completions(traits: Traits) -> None:
    async with rig(traits) as r, client_of(r) as client:
        whole = await client.completions.create(model="smollm2", prompt="a")
        assert whole.choices[0].text == "Hello world"
        stream = await client.completions.create(model="smollm2", prompt=[1, 2], stream=True)
        assert "".join([piece.choices[0].text async for piece in stream]) == "Hello world"


@BOTH
async def test_the_synchronous_client(traits: Traits) -> None:
    def talk(r: Rig) -> tuple[str | None, str, list[str]]:
        with sync_client_of(r) as client:
            whole = client.chat.completions.create(model="smollm2", messages=HELLO)
            stream = client.chat.completions.create(model="smollm2", messages=HELLO, stream=True)
            text = "".join(piece.choices[0].delta.content or "" for piece in stream)
            return whole.choices[0].message.content, text, [model.id for model in client.models.list()]

    async with rig(traits) as r:
        assert await asyncio.to_thread(talk, r) == ("Hello world", "Hello world", ["smollm2"])


async def test_a_stream_that_the_client_closes_is_cancelled() -> None:
    async with rig(PROGRESS) as r, client_of(r) as client:
        r.engines[0].behave = answer("a", "b", hold_after=1)
        stream = await client.chat.completions.create(model="smollm2", messages=HELLO, stream=True)
        async for piece in stream:
            if piece.choices[0].delta.content == "a":
                break
        await stream.close()
        async with asyncio.timeout(20):
            await r.engines[0].cancelled.wait()


@BOTH
async def test_an_engine_that_dies_in_mid_stream_raises(traits: Traits) -> None:
    async with rig(traits) as r, client_of(r) as client:
        r.engines[0].behave = answer("a", "b", die_after=1)
        stream = await client.chat.completions.create(model="smollm2", messages=HELLO, stream=True)
        texts: list[str] = []
        with pytest.raises(openai.APIError, match="lost in the middle") as caught:
            async for piece in stream:
                texts.append(piece.choices[0].delta.content or "")
        assert "".join(texts) == "a"
        assert caught.value.code == "engine_failed"


async def test_errors_are_the_clients_own_types_with_their_fields() -> None:
    async with rig(RAW) as r, client_of(r) as client:
        with pytest.raises(openai.BadRequestError) as bad:
            await client.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=10**9)
        assert (bad.value.code, bad.value.param, bad.value.type) == (
            "max_tokens_out_of_range",
            "max_tokens",
            "invalid_request_error",
        )
        assert bad.value.request_id is not None
        assert bad.value.request_id.startswith("req-")
        with pytest.raises(openai.NotFoundError) as missing:
            await client.chat.completions.create(model="nothing", messages=HELLO)
        assert missing.value.code == "model_not_found"
        async with client_of(r, key="hr-00000009.wrong") as stranger:
            with pytest.raises(openai.AuthenticationError):
                await stranger.models.list()


async def test_a_refused_client_comes_back_when_it_was_told_to_and_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headrace.policy.endpoint.NO_REPLICA_RETRY_S", 0.2)
    async with rig(RAW) as r, client_of(r, retries=2) as client:
        r.endpoint = endpoint_view(cold_start_deadline_s=0.01)
        await r.publish(replicas=[])
        asking = asyncio.create_task(client.chat.completions.create(model="smollm2", messages=HELLO))
        await r.controller.tick(lambda tick: tick.entities[0].rejected == 1)
        r.endpoint = endpoint_view()
        await r.publish()
        got = await asking
        assert got.choices[0].message.content == "Hello world"
        last = await r.controller.tick(lambda tick: tick.entities[0].completed == 1)
        assert last.entities[0].arrivals == 2
        assert last.entities[0].offered_work == last.entities[0].served_work == pytest.approx(13)


async def test_the_databricks_client_queries_an_endpoint() -> None:
    async def config(exchange: Exchange) -> None:
        exchange.respond(200, [JSON], b"{}")

    def query(r: Rig) -> tuple[str | None, str]:
        client = WorkspaceClient(host=r.url, token=QUERY_KEY)
        hello = [ChatMessage(role=ChatMessageRole.USER, content="hello")]
        got = client.serving_endpoints.query(
            "smollm2", messages=hello, max_tokens=5, client_request_id="c-1", usage_context={"team": "blue"}
        )
        with pytest.raises(BadRequest, match="expected 1 to 4095"):
            client.serving_endpoints.query("smollm2", messages=hello, max_tokens=10**6)
        with pytest.raises(NotFound):
            client.serving_endpoints.query("nothing", messages=hello)
        assert got.choices is not None
        assert got.choices[0].message is not None
        return got.choices[0].message.content, str(got.served_model_name)

    async with rig(RAW) as r:
        server = Server(config)
        await server.listen(path=str(r.controller.http_path))
        assert await asyncio.to_thread(query, r) == ("Hello world", "smollm2-1")
        await server.close()
        reserved = r.journal()[0]
        assert isinstance(reserved, Reserved)
        assert (reserved.client_request_id, reserved.usage_context) == ("c-1", {"team": "blue"})


async def test_two_hundred_requests_at_once_are_each_answered_and_booked_once() -> None:
    async with rig(PROGRESS, RAW) as r, client_of(r) as client:

        async def one(index: int) -> str | None:
            if index % 2:
                whole = await client.chat.completions.create(model="smollm2", messages=HELLO)
                return whole.choices[0].message.content
            stream = await client.chat.completions.create(model="smollm2", messages=HELLO, stream=True)
            return "".join([piece.choices[0].delta.content or "" async for piece in stream])

        texts = await asyncio.gather(*(one(index) for index in range(200)))
        assert texts == ["Hello world"] * 200
        kinds = r.kinds()
        assert (kinds.count("Reserved"), kinds.count("Settled")) == (200, 200)
        tick = await r.controller.tick(lambda tick: tick.entities[0].completed == 200)
        assert tick.entities[0].output_tokens == 400
        assert tick.entities[0].in_flight == 0
        assert tick.entities[0].served_work == pytest.approx(200 * 13)
