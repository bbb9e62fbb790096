"""Answers through the gateway, from both kinds of engine, streamed and not, by raw bytes."""

from __future__ import annotations

import json

import pytest
from gateway_rig import PROGRESS, Rig, Script, answer, chat_body, rig

from headrace.gateway.snapshot import Traits
from headrace.journal.records import Reserved, Settled

BOTH = pytest.mark.parametrize("traits", [Traits(), PROGRESS], ids=["raw", "progress"])


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
