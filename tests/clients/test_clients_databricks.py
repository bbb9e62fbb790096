"""``databricks-sdk`` as it comes, against the gateway."""

from __future__ import annotations

import asyncio
import json
import warnings
from typing import Any

import pytest
from clients_rig import HELLO, databricks_of
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, NotFound
from databricks.sdk.service.serving import ChatMessage, ChatMessageRole
from gateway_rig import PROGRESS, RAW, answer, embed, endpoint_view, fail, rig

from headrace.gateway.snapshot import Traits
from headrace.journal.records import Reserved, Settled

BOTH = pytest.mark.parametrize("traits", [RAW, PROGRESS], ids=["raw", "progress"])
MESSAGES = [ChatMessage(role=ChatMessageRole.USER, content="hello")]


@BOTH
async def test_a_query_is_a_chat_a_completion_or_embeddings_by_what_it_has(traits: Traits) -> None:
    async with rig(traits) as r, databricks_of(r) as (run, _):
        chat = await run(
            lambda client: client.serving_endpoints.query(
                "smollm2", messages=MESSAGES, max_tokens=5, client_request_id="c-1", usage_context={"team": "blue"}
            )
        )
        assert chat.choices[0].message.content == "Hello world"
        assert chat.served_model_name == "smollm2-1"
        assert (chat.usage.prompt_tokens, chat.usage.completion_tokens) == (11, 2)
        completion = await run(lambda client: client.serving_endpoints.query("smollm2", prompt="a", max_tokens=5))
        assert completion.choices[0].text == "Hello world"
        r.engines[0].behave = embed([0.5, -1.0], prompt_tokens=3)
        embedded = await run(lambda client: client.serving_endpoints.query("smollm2", input=["hello", "you"]))
        assert [found.embedding for found in embedded.data] == [[0.5, -1.0]] * 2
        assert r.engines[0].paths == ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]
        reserved = r.journal()[0]
        assert isinstance(reserved, Reserved)
        assert (reserved.client_request_id, reserved.usage_context) == ("c-1", {"team": "blue"})


async def test_what_cannot_be_is_raised() -> None:
    async with rig(RAW) as r, databricks_of(r) as (run, watch):
        with pytest.raises(BadRequest, match="expected 1 to 4095"):
            await run(lambda client: client.serving_endpoints.query("smollm2", messages=MESSAGES, max_tokens=10**6))
        with pytest.raises(NotFound, match="no endpoint is named 'nothing'"):
            await run(lambda client: client.serving_endpoints.query("nothing", messages=MESSAGES))
        r.engines[0].behave = fail(501, {"error": {"message": "This server does not support embeddings"}})
        with pytest.raises(BadRequest, match="makes no embeddings"):
            await run(lambda client: client.serving_endpoints.query("smollm2", input="a"))
        assert watch.slept == []


async def test_a_refused_client_sleeps_as_many_seconds_as_it_is_told_and_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headrace.policy.endpoint.NO_REPLICA_RETRY_S", 6.2)
    async with rig(RAW) as r, databricks_of(r, retry_s=300) as (run, watch):
        r.endpoint = endpoint_view(cold_start_deadline_s=0.01)
        await r.publish(replicas=[])
        asking = asyncio.create_task(
            run(lambda client: client.serving_endpoints.query("smollm2", messages=MESSAGES).choices[0].message.content)
        )
        await r.controller.tick(lambda tick: tick.entities[0].rejected >= 2)
        await r.publish()
        assert await asking == "Hello world"
        assert all(7 <= slept < 8 for slept in watch.slept)  # rounded up, and up to a second of its own


@BOTH
async def test_its_openai_client_chats_on_the_databricks_paths(traits: Traits) -> None:
    def chat(client: WorkspaceClient) -> tuple[Any, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            found = client.serving_endpoints.get_open_ai_client()
        whole = found.chat.completions.create(model="smollm2", messages=HELLO)
        stream = found.chat.completions.create(model="smollm2", messages=HELLO, stream=True)
        return whole.choices[0].message.content, "".join(piece.choices[0].delta.content or "" for piece in stream)

    async with rig(traits) as r, databricks_of(r) as (run, _):
        assert await run(chat) == ("Hello world", "Hello world")


async def test_an_invocation_is_streamed_with_its_usage() -> None:
    """``query(stream=True)`` fails inside the SDK, so this asks as its ``do`` can."""

    def stream(client: WorkspaceClient) -> list[str]:
        path = "/serving-endpoints/smollm2/invocations"
        got: Any = client.api_client.do("POST", path, body={"messages": HELLO, "stream": True}, raw=True)
        text: str = got["contents"].read().decode()
        return [line for line in text.splitlines() if line]

    async with rig(RAW) as r, databricks_of(r) as (run, _):
        r.engines[0].behave = answer("a", "b", prompt_tokens=7)
        lines = await run(stream)
        assert all(line.startswith("data: ") for line in lines)
        assert lines[-1] == "data: [DONE]"
        assert json.loads(lines[-2].removeprefix("data: "))["usage"]["prompt_tokens"] == 7
        settled = r.journal()[-1]
        assert isinstance(settled, Settled)
        assert (settled.input_tokens, settled.output_tokens) == (7, 2)
