"""One JSON answer from a stream, and tokens from what engines tell."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.gateway.assemble import Assembly
from headrace.gateway.engine_error import engine_error, error_in_event
from headrace.gateway.meter import Meter
from headrace.gateway.usage import usage_of, usage_of_tail, usage_of_whole


def assembled(*events: dict[str, Any]) -> dict[str, Any]:
    assembly = Assembly()
    for event in events:
        assembly.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    assembly.feed(b"data: [DONE]\n\n")
    answer: dict[str, Any] = json.loads(assembly.body())
    return answer


def chat(delta: dict[str, Any], *, index: int = 0, finish: str | None = None, **choice: Any) -> dict[str, Any]:
    members = {"index": index, "delta": delta, "finish_reason": finish, **choice}
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [members]}


def test_texts_are_joined_and_the_frame_is_that_of_a_whole_answer() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    answer = assembled(
        chat({"role": "assistant", "content": None}),
        chat({"content": "a"}),
        chat({"content": "b"}),
        chat({}, finish="length"),
        {**chat({}), "choices": [], "usage": usage},
    )
    assert answer == {
        "id": "c-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "ab"},
                "logprobs": None,
                "finish_reason": "length",
            }
        ],
        "usage": usage,
    }


def test_tool_calls_are_merged_by_their_index() -> None:
    def part(index: int, **members: Any) -> dict[str, Any]:
        return chat({"tool_calls": [{"index": index, **members}]})

    answer = assembled(
        chat({"role": "assistant", "content": None}),
        part(0, id="call-0", type="function", function={"name": "weather", "arguments": ""}),
        part(0, function={"arguments": '{"city":'}),
        part(1, id="call-1", type="function", function={"name": "time", "arguments": "{}"}),
        part(0, function={"arguments": '"Oslo"}'}),
        chat({}, finish="tool_calls"),
    )
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call-0", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}},
            {"id": "call-1", "type": "function", "function": {"name": "time", "arguments": "{}"}},
        ],
    }


def test_reasoning_and_log_probabilities_are_joined() -> None:
    answer = assembled(
        chat({"role": "assistant", "reasoning_content": "so"}, logprobs={"content": [{"token": "so"}]}),
        chat({"reasoning_content": " then"}, logprobs={"content": [{"token": " then"}]}),
        chat({"content": "yes"}, logprobs={"content": [{"token": "yes"}]}),
        chat({}, finish="stop", logprobs=None),
    )
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "yes", "reasoning_content": "so then"}
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == ["so", " then", "yes"]


def test_choices_are_told_apart_by_their_index() -> None:
    answer = assembled(
        chat({"content": "b"}, index=1),
        chat({"content": "a"}),
        chat({}, finish="stop"),
        chat({}, index=1, finish="length"),
    )
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["a", "b"]
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["stop", "length"]


def test_completions_keep_their_object() -> None:
    def piece(text: str, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
        return {"id": "c", "object": "text_completion", "choices": [choice]}

    answer = assembled(piece("a"), piece("b"), piece("", "stop"))
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [{"index": 0, "text": "ab", "logprobs": None, "finish_reason": "stop"}]


SIX = b'{"prompt_tokens":5,"completion_tokens":6}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"choices":[],"usage":%b}' % SIX, (5, 6, 0)),
        (b'..."usage" : %b,"prompt_tokens_details":{"cached_tokens":2}},"x":1}' % SIX[:-1], (5, 6, 2)),
        (b'"usage":%b,"prompt_tokens_details":null}' % SIX[:-1], (5, 6, 0)),
        (b'"usage":{"prompt_tokens":1,"completion_tokens":1} ... "usage":%b' % SIX, (5, 6, 0)),
    ],
)
def test_usage_is_found_in_the_end_of_an_answer(text: bytes, expected: tuple[int, int, int]) -> None:
    usage = usage_of_tail(text)
    assert usage is not None
    meter = Meter()
    meter.take_usage(usage)
    assert (meter.input_tokens, meter.output_tokens, meter.cached_tokens) == expected
    assert meter.exact


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'{"usage":null}',
        b'{"usage":{"prompt_tokens":',
        b'{"usage":{"prompt_tokens":"many"}}',
        b'{"content":"\\"usage\\":{\\"prompt_tokens\\":5,\\"completion_tokens\\":6}"}',
    ],
)
def test_what_is_no_usage_is_not_taken_for_one(text: bytes) -> None:
    assert usage_of_tail(text) is None
    assert usage_of_whole(text) is None


def test_the_usage_of_a_whole_answer_is_that_of_its_top_level() -> None:
    inside = b'{"choices":[{"usage":{"prompt_tokens":1,"completion_tokens":1}}],"usage":%b}' % SIX
    usage = usage_of_whole(inside)
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (5, 6)


def test_a_prompt_cannot_forge_the_usage_of_an_event() -> None:
    text = json.dumps({"choices": [{"delta": {"content": '"usage":{"prompt_tokens":0}'}}]}, separators=(",", ":"))
    assert usage_of(b"data: " + text.encode() + b"\n\n") is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"error":{"code":400,"message":"too long","type":"x"}}', "too long"),
        (b'{"error":"too long"}', "too long"),
        (b'{"object":"error","message":"too long","code":400}', "too long"),
        (b'{"detail":"too long"}', "too long"),
        (b'{"detail":[{"msg":"too long"}]}', '[{"msg":"too long"}]'),
        (b"<html>", "it gave no reason that can be read"),
        (b"{}", "it gave no reason"),
    ],
)
def test_an_engines_reason_is_found_in_any_form(body: bytes, reason: str) -> None:
    assert engine_error(400, body).reason == reason


def test_an_error_event_is_told_from_content_that_speaks_of_one() -> None:
    found = error_in_event(b'data: {"error":{"code":503,"message":"busy"}}\n\n')
    assert found is not None
    assert (found.status, found.reason) == (503, "busy")
    assert error_in_event(b'data: {"choices":[{"text":"{\\"error\\":1}"}]}\n\n') is None
    assert error_in_event(b"data: [DONE]\n\n") is None
