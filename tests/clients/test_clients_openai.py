"""The official OpenAI client, asynchronous and synchronous, against the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import openai
import pytest
from clients_rig import HELLO, openai_of
from gateway_rig import ADMIN_KEY, PROGRESS, QUERY_KEY, RAW, Rig, answer, embed, endpoint_view, rig, vanish

from headrace.gateway.snapshot import Traits
from headrace.journal.records import Reserved, Settled

BOTH = pytest.mark.parametrize("traits", [RAW, PROGRESS], ids=["raw", "progress"])
BASES = pytest.mark.parametrize("base", ["/v1", "/serving-endpoints"])


@contextmanager
def sync_client_of(r: Rig) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{r.url}/v1", api_key=QUERY_KEY, max_retries=0) as client:
        yield client


@BOTH
async def test_a_chat(traits: Traits) -> None:
    async with rig(traits) as r, openai_of(r) as client:
        got = await client.chat.completions.create(model="smollm2", messages=HELLO, max_completion_tokens=5)
        assert got.choices[0].message.content == "Hello world"
        assert got.choices[0].finish_reason == "stop"
        assert got.usage is not None
        assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (11, 2)
        assert r.engines[0].bodies[0]["max_tokens"] == 5


@BOTH
async def test_a_streamed_chat(traits: Traits) -> None:
    async with rig(traits) as r, openai_of(r) as client:
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
    async with rig(traits) as r, openai_of(r) as client:
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
    async with rig(PROGRESS) as r, openai_of(r) as client:
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
    async with rig(traits) as r, openai_of(r) as client:
        r.engines[0].behave = answer("a", "b", die_after=1)
        stream = await client.chat.completions.create(model="smollm2", messages=HELLO, stream=True)
        texts: list[str] = []
        with pytest.raises(openai.APIError, match="lost in the middle") as caught:
            async for piece in stream:
                texts.append(piece.choices[0].delta.content or "")
        assert "".join(texts) == "a"
        assert caught.value.code == "engine_failed"


async def test_a_refused_client_comes_back_when_it_was_told_to_and_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headrace.policy.endpoint.NO_REPLICA_RETRY_S", 0.2)
    async with rig(RAW) as r, openai_of(r, retries=2) as client:
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


async def test_two_hundred_requests_at_once_are_each_answered_and_booked_once() -> None:
    async with rig(PROGRESS, RAW) as r, openai_of(r) as client:

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


@BASES
async def test_the_responses_api_is_said_not_to_be_served(base: str) -> None:
    async with rig(RAW) as r, openai_of(r, base=base) as client:
        with pytest.raises(openai.NotFoundError, match="use /v1/chat/completions") as raised:
            await client.responses.create(model="smollm2", input="hello")
        assert (raised.value.code, raised.value.type) == ("not_supported", "invalid_request_error")
        assert r.engines[0].bodies == []


@BOTH
@BASES
async def test_embeddings(traits: Traits, base: str) -> None:
    """The client always asks for base64, unless it is told what to ask for."""
    async with rig(traits) as r, openai_of(r, base=base) as client:
        r.engines[0].behave = embed([0.5, -1.0], prompt_tokens=6)
        packed = await client.embeddings.create(model="smollm2", input=["hello", "you"])
        plain = await client.embeddings.create(model="smollm2", input=[1, 2, 3], encoding_format="float")
        assert [found.embedding for found in packed.data] == [[0.5, -1.0]] * 2
        assert plain.data[0].embedding == [0.5, -1.0]
        assert packed.usage.prompt_tokens == packed.usage.total_tokens == 6
        assert [body["encoding_format"] for body in r.engines[0].bodies] == ["base64", "float"]
        settled = [record for record in r.journal() if isinstance(record, Settled)]
        assert [(record.input_tokens, record.output_tokens) for record in settled] == [(6, 0)] * 2


async def test_lists_of_numbers_are_taken_where_base64_was_asked_for() -> None:
    """Engines may ignore ``encoding_format``."""
    async with rig(RAW) as r, openai_of(r) as client:
        vectors = embed([0.5, -1.0], prompt_tokens=6)
        r.engines[0].behave = lambda engine, exchange, body: vectors(engine, exchange, {**body, "encoding_format": ""})
        got = await client.embeddings.create(model="smollm2", input="hello")
        assert got.data[0].embedding == [0.5, -1.0]


async def test_headers_of_an_answer_can_be_read() -> None:
    async with rig(RAW) as r, openai_of(r, key=ADMIN_KEY) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="smollm2", messages=HELLO, extra_headers={"x-headrace-explain": "1"}
        )
        assert raw.headers["x-headrace-replica"] == "replica-0"
        assert raw.headers["x-headrace-work"] == "13.000"
        assert raw.headers["served-model-name"] == "smollm2-1"
        assert raw.request_id == r.journal()[0].rid


# Retries.


async def test_the_client_waits_as_many_milliseconds_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not its own half second or more."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("openai._base_client.anyio.sleep", sleep)
    monkeypatch.setattr("headrace.policy.endpoint.NO_REPLICA_RETRY_S", 6.1234)
    async with rig(RAW) as r, openai_of(r, retries=2) as client:
        r.endpoint = endpoint_view(cold_start_deadline_s=0.01)
        await r.publish(replicas=[])
        with pytest.raises(openai.InternalServerError) as raised:
            await client.chat.completions.create(model="smollm2", messages=HELLO)
        assert raised.value.response.headers["retry-after-ms"] == "6124"
        assert raised.value.response.headers["retry-after"] == "7"
        assert slept == [6.124, 6.124]
        tick = await r.controller.tick(lambda tick: tick.entities[0].rejected == 3)
        assert tick.entities[0].arrivals == 3


async def test_a_request_that_killed_two_replicas_is_not_asked_again() -> None:
    async with rig(RAW, RAW, RAW, RAW) as r, openai_of(r, retries=5) as client:
        for engine in r.engines:
            engine.behave = vanish
        with pytest.raises(openai.InternalServerError, match="two replicas died"):
            await client.chat.completions.create(model="smollm2", messages=HELLO)
        assert sum(len(engine.bodies) for engine in r.engines) == 2


async def test_what_is_wrong_with_a_request_is_not_asked_again() -> None:
    async with rig(RAW) as r, openai_of(r, retries=5) as client:
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=10**9)
        assert (await client.models.list()).data[0].id == "smollm2"
        reserved = [record for record in r.journal() if isinstance(record, Reserved)]
        assert reserved == []
