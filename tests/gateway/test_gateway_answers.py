"""Answers through the gateway, from both kinds of engine, streamed and not, by raw bytes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gateway_rig import PROGRESS, RAW, SSE, FakeEngine, Script, answer, chat_body, event, rig

from headrace.gateway.snapshot import Traits
from headrace.journal.records import Reserved, Settled
from headrace.wire.server import Exchange

BOTH = pytest.mark.parametrize("traits", [RAW, PROGRESS], ids=["raw", "progress"])


@BOTH
async def test_a_chat_answer_comes_as_json(traits: Traits) -> None:
    async with rig(traits) as r:
        got = await r.chat()
    assert got.status == 200
    assert got.headers["content-type"] == "application/json"
    assert got.json["object"] == "chat.completion"
    assert got.json["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello world"},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert got.json["usage"]["completion_tokens"] == 2


@BOTH
async def test_a_completion_comes_as_json(traits: Traits) -> None:
    async with rig(traits) as r:
        got = await r.post("/v1/completions", {"model": "smollm2", "prompt": [1, 2, 3]})
    assert got.status == 200
    assert got.json["object"] == "text_completion"
    assert got.json["choices"] == [{"index": 0, "text": "Hello world", "logprobs": None, "finish_reason": "stop"}]
    assert got.json["usage"]["prompt_tokens"] == 11


@BOTH
async def test_a_chat_answer_is_streamed(traits: Traits) -> None:
    async with rig(traits) as r:
        got = await r.chat(stream=True)
    assert got.status == 200
    assert got.headers["content-type"] == "text/event-stream"
    *events, end = got.events
    assert end == "[DONE]"
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events) == "Hello world"
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    assert not any("prompt_progress" in event or "timings" in event for event in events)


@BOTH
async def test_usage_that_the_client_did_not_ask_for_is_not_in_its_stream(traits: Traits) -> None:
    async with rig(traits) as r:
        got = await r.chat(stream=True)
        asked = await r.chat(stream=True, stream_options={"include_usage": True})
    assert b"usage" not in got.body
    *_, told, _ = asked.events
    assert told["choices"] == []
    assert told["usage"]["prompt_tokens"] == 11
    assert all(body["stream_options"] == {"include_usage": True} for body in r.engines[0].bodies)


@BOTH
async def test_databricks_chats_carry_usage_that_nobody_asked_for_in_a_choice_that_says_nothing(traits: Traits) -> None:
    """LangChain reads it without asking; and a loop that takes the first choice of every event must find one."""
    path = "/serving-endpoints/chat/completions"
    async with rig(traits) as r:
        got = await r.post(path, chat_body(stream=True))
        asked = await r.post(path, chat_body(stream=True, stream_options={"include_usage": True}))
    *events, told, end = got.events
    assert end == "[DONE]"
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in (*events, told)) == "Hello world"
    assert told["choices"] == [{"index": 0, "delta": {"content": ""}, "finish_reason": None}]
    assert told["usage"]["completion_tokens"] == 2
    assert asked.events[-2]["choices"] == []


@BOTH
async def test_a_streamed_completion_keeps_the_event_that_ends_it(traits: Traits) -> None:
    """Some engines put the usage on the last choice: that event must not go with it."""
    async with rig(traits) as r:
        got = await r.post("/v1/completions", {"model": "smollm2", "prompt": "a", "stream": True})
    *events, end = got.events
    assert end == "[DONE]"
    assert [event["choices"][0]["finish_reason"] for event in events] == [None, None, "stop"]
    assert "".join(event["choices"][0]["text"] for event in events) == "Hello world"


async def test_the_bytes_of_a_well_behaved_engine_go_through_as_they_are() -> None:
    script = Script(("a", "b"))
    async with rig(RAW) as r:
        streamed = await r.chat(stream=True, stream_options={"include_usage": True})
        whole = await r.chat()
    body = r.engines[0].bodies[0]
    assert whole.body == script.whole(body).replace(b'"ab"', b'"Hello world"')
    end = b"".join(script.end(body))
    assert streamed.body.endswith(end)


async def test_an_invocation_is_a_chat_or_a_completion_by_its_body_and_keeps_its_usage() -> None:
    path = "/serving-endpoints/smollm2/invocations"
    async with rig(RAW) as r:
        chat = await r.post(path, {"messages": chat_body()["messages"], "stream": True})
        completion = await r.post(path, {"prompt": "a"})
    assert r.engines[0].paths == ["/v1/chat/completions", "/v1/completions"]
    assert chat.events[-2]["usage"]["completion_tokens"] == 2
    assert completion.json["object"] == "text_completion"
    assert [body["model"] for body in r.engines[0].bodies] == ["smollm2", "smollm2"]


async def test_the_databricks_chat_path_is_a_chat() -> None:
    async with rig(RAW) as r:
        got = await r.post("/serving-endpoints/chat/completions", chat_body())
    assert got.status == 200
    assert got.json["choices"][0]["message"]["content"] == "Hello world"


async def test_no_answer_contains_a_comment_or_an_event_name() -> None:
    async with rig(PROGRESS) as r:
        got = await r.post("/serving-endpoints/smollm2/invocations", chat_body(stream=True))
    assert all(line.startswith(b"data: ") for line in got.body.splitlines() if line)


@BOTH
async def test_every_answer_says_its_request_and_the_state_of_the_limiter(traits: Traits) -> None:
    async with rig(traits) as r:
        answers = [await r.chat(), await r.chat(stream=True)]
    ids = {got.headers["x-request-id"] for got in answers}
    assert len(ids) == 2
    for got in answers:
        assert got.headers["x-ratelimit-limit-tokens"] == "20000"
        assert 0 < int(got.headers["x-ratelimit-remaining-tokens"]) <= 20000
        assert got.headers["x-ratelimit-reset-tokens"].endswith("s")
        assert got.headers["served-model-name"] == "smollm2-1"


async def test_the_replica_gets_its_own_secret_and_nothing_of_the_client() -> None:
    async with rig(RAW) as r:
        got = await r.post("/v1/chat/completions", chat_body(), x_api_key="mine", cookie="a=b")
    (headers,) = r.engines[0].headers
    assert headers["authorization"] == "Bearer secret-of-replica-0"
    assert headers["x-request-id"] == got.headers["x-request-id"]
    assert headers.keys() <= {"authorization", "content-type", "x-request-id", "host", "content-length", "connection"}


@BOTH
async def test_the_journal_says_exactly_what_was_used(traits: Traits) -> None:
    async with rig(traits) as r:
        r.engines[0].behave = answer("a", "b", "c", prompt_tokens=40, cached=30)
        got = await r.chat(
            stream=True, max_tokens=50, user="u-1", client_request_id="c-1", usage_context={"team": "blue"}
        )
        reserved, settled = r.journal()
    assert isinstance(reserved, Reserved)
    assert isinstance(settled, Settled)
    assert reserved.rid == settled.rid == got.headers["x-request-id"]
    assert (reserved.seq, settled.seq) == (1, 2)
    assert (reserved.endpoint, reserved.endpoint_name) == ("id-of-smollm2", "smollm2")
    assert (reserved.entity, reserved.config_version) == ("entity-of-smollm2", 3)
    assert (reserved.key, reserved.replica, reserved.band, reserved.stream) == (
        "00000002",
        "replica-0",
        "default",
        True,
    )
    assert (reserved.user, reserved.client_request_id) == ("u-1", "c-1")
    assert reserved.usage_context == {"team": "blue"}
    assert reserved.max_output == 50
    assert reserved.work_reserved == reserved.input_estimate + 50
    assert (settled.status, settled.outcome, settled.exact) == (200, "ok", True)
    assert (settled.input_tokens, settled.cached_tokens, settled.output_tokens) == (40, 30, 3)
    assert settled.work == pytest.approx(10 + 3 + 0.1 * 30)
    assert settled.ttft_ms is not None
    assert 0 <= settled.queue_ms <= settled.ttft_ms <= settled.e2e_ms


async def test_what_is_ours_never_reaches_the_engine() -> None:
    async with rig(RAW) as r:
        await r.chat(client_request_id="c-1", usage_context={"team": "blue"})
    (body,) = r.engines[0].bodies
    assert body == chat_body(max_tokens=128)


async def test_the_end_of_an_answer_is_seen_only_after_it_was_settled() -> None:
    async with rig(RAW) as r:
        for stream in (False, True):
            client = await r.connect()
            await client.send("POST", "/v1/completions", {"model": "smollm2", "prompt": "a", "stream": stream})
            await client.head()
            await client.until(b"[DONE]" if stream else b'"usage"')
            client.close()
            assert r.kinds()[-1] == "Settled"
        outcomes = [record.outcome for record in r.journal() if isinstance(record, Settled)]
    assert outcomes == ["ok", "ok"]


async def test_connections_to_a_replica_are_reused_where_it_allows_that() -> None:
    async with rig(RAW) as r:
        for stream in (True, False, True):
            await r.chat(stream=stream)
        connections = r.engines[0].connections
    assert connections == 1


async def test_a_connection_is_reused_although_its_last_bytes_came_after_the_end_of_the_answer() -> None:
    script = Script(("a",))

    async def ends_late(engine: FakeEngine, exchange: Exchange, body: dict[str, Any]) -> None:
        exchange.start(200, [SSE])
        exchange.write(event(script.piece(body, "a")) + b"".join(script.end(body)))
        await engine.release.wait()
        exchange.finish()

    async with rig(RAW) as r:
        r.engines[0].behave = ends_late
        client = await r.connect()
        await client.send("POST", "/v1/chat/completions", chat_body(stream=True))
        assert (await client.answer()).events[-1] == "[DONE]"
        r.engines[0].release.set()
        await r.controller.tick(lambda tick: True)
        await r.chat(stream=True)
        assert r.engines[0].connections == 1
        client.close()


async def test_no_connection_is_reused_after_a_stream_where_that_is_not_safe() -> None:
    async with rig(PROGRESS) as r:
        for stream in (True, False, True):
            await r.chat(stream=stream)
        connections = r.engines[0].connections
        closing = [headers.get("connection") for headers in r.engines[0].headers]
    assert connections == 3
    assert closing == ["close"] * 3


async def test_a_client_connection_carries_one_request_after_another() -> None:
    async with rig(RAW) as r:
        client = await r.connect()
        for stream in (True, False, True):
            await client.send("POST", "/v1/chat/completions", chat_body(stream=stream))
            assert (await client.answer()).status == 200
        client.close()


async def test_work_goes_to_the_replica_with_the_least_of_it() -> None:
    async with rig(RAW, RAW) as r:
        for engine in r.engines:
            engine.behave = answer("a", hold_after=0)
        clients = [await r.connect() for _ in range(4)]
        for client in clients:
            await client.send("POST", "/v1/chat/completions", chat_body())
        for engine in r.engines:
            await engine.asked(2)
            engine.release.set()
        assert [(await client.answer()).status for client in clients] == [200] * 4
        for client in clients:
            client.close()


async def test_models_are_the_endpoints() -> None:
    async with rig(RAW) as r:
        listed = await r.get("/v1/models")
        one = await r.get("/v1/models/smollm2")
        none = await r.get("/v1/models/other")
    assert [model["id"] for model in listed.json["data"]] == ["smollm2"]
    assert one.json["object"] == "model"
    assert (none.status, none.json["code"]) == (404, "model_not_found")


async def test_text_is_estimated_better_after_the_engine_has_counted_some() -> None:
    text = "x" * 4000
    async with rig(RAW) as r:
        r.engines[0].behave = answer("a", prompt_tokens=2000)
        for _ in range(6):
            await r.post("/v1/completions", {"model": "smollm2", "prompt": text})
        estimates = [record.input_estimate for record in r.journal() if isinstance(record, Reserved)]
    assert estimates[0] == 1000
    assert estimates == sorted(estimates)
    assert estimates[-1] == pytest.approx(2000, rel=0.1)


@BOTH
async def test_the_usage_is_found_however_the_stream_is_cut(traits: Traits) -> None:
    script = Script(("a", "b"))

    async def in_bytes(engine: FakeEngine, exchange: Exchange, body: dict[str, Any]) -> None:
        exchange.start(200, [SSE])
        pieces = [script.piece(body, text) for text in script.pieces]
        if engine.traits.stream_upstream:
            timed = [script.timed(piece, said) for said, piece in enumerate(pieces, start=1)]
            events = [script.progress(body, 0), script.progress(body, 11), *timed, *script.progress_end(body)]
        else:
            events = [*map(event, pieces), *script.end(body)]
        for byte in b"".join(events):
            exchange.write(bytes([byte]))
            await asyncio.sleep(0)
        exchange.finish()

    async with rig(traits) as r:
        r.engines[0].behave = in_bytes
        got = await r.chat(stream=True)
        settled = r.journal()[-1]
    assert isinstance(settled, Settled)
    assert (settled.output_tokens, settled.exact) == (2, True)
    assert b"usage" not in got.body
    assert b"prompt_progress" not in got.body
    assert [members["choices"][0]["delta"] for members in got.events[:2]] == [{"content": "a"}, {"content": "b"}]
    assert got.events[-1] == "[DONE]"
