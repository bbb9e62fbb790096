"""What is read from the bytes of an answer: which events carry tokens, how many, and when they came."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.bench.client.answer import Answer, StreamAnswer, WholeAnswer
from headrace.bench.client.chunks import whole_chunks
from headrace.bench.client.records import TokensFrom
from headrace.bench.client.tokens import tokens_of
from headrace.wire.chunked import ChunkedDecoder


def event(**fields: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps(fields, ensure_ascii=False).encode()


def chat(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    return event(
        id="c", choices=[{"index": 0, "delta": delta, "finish_reason": finish, **more.pop("choice", {})}], **more
    )


def text(said: str, finish: str | None = None, **more: Any) -> bytes:
    return event(
        id="c", choices=[{"index": 0, "text": said, "finish_reason": finish, **more.pop("choice", {})}], **more
    )


def usage(output: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": 7, "completion_tokens": output, **more}


def read(events: Sequence[bytes]) -> StreamAnswer:
    """One a second."""
    answer = StreamAnswer()
    for second, data in enumerate(events):
        answer.feed(data, float(second))
    answer.end(float(len(events)))
    return answer


DONE = b"data: [DONE]\n\n"
ROLE = chat({"role": "assistant", "content": ""})


def test_the_first_event_of_a_chat_carries_a_role_and_no_token() -> None:
    answer = read([ROLE, chat({"content": "a"}), chat({"content": "b"}), chat({}, "stop"), DONE])
    assert answer.times == [1.0, 2.0]
    assert answer.finished and answer.done and answer.error is None


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "x"},
        {"reasoning_content": "x"},
        {"reasoning": "x"},
        {"refusal": "x"},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
        {"function_call": {"arguments": "{"}},
        {"content": [{"type": "text", "text": "x"}]},
    ],
)
def test_whatever_the_model_wrote_is_a_token(delta: dict[str, Any]) -> None:
    assert read([ROLE, chat(delta), chat(delta), chat({}, "stop")]).times == [1.0, 2.0]


def test_a_completions_token_may_show_no_text_but_its_finish_is_no_token() -> None:
    assert read([text("a"), text(""), text("b"), text("", "stop")]).times == [0.0, 1.0, 2.0]


def test_the_last_token_may_come_with_the_finish_reason() -> None:
    assert read([text("a"), text("b", "length")]).times == [0.0, 1.0]


def test_progress_of_the_prompt_is_no_token() -> None:
    progress = event(choices=[{"index": 0, "text": "", "finish_reason": None}], prompt_progress={"processed": 5})
    assert read([progress, text("a"), text("b")]).times == [1.0, 2.0]


def test_texts_that_look_like_the_bytes_around_them_are_read_as_texts() -> None:
    said = [
        '"',
        '","finish_reason":"stop"',
        "\\",
        "\\\\",
        "\n\n",
        "data: [DONE]\n\n",
        '{"error":"no"}',
        "é",
        " ",
        '"usage":{',
    ]
    answer = read([text("plain"), *[text(words) for words in said], text("", "stop"), DONE])
    assert answer.times == [float(second) for second in range(len(said) + 1)]
    assert answer.error is None and answer.usage is None


@given(
    texts=st.lists(st.text(min_size=1), min_size=1, max_size=20),
    cuts=st.lists(st.integers(0, 4000), max_size=40),
    crlf=st.booleans(),
)
def test_events_are_the_same_however_the_stream_was_cut(texts: list[str], cuts: list[int], crlf: bool) -> None:
    stream = b"".join([ROLE, *[chat({"content": said}) for said in texts], chat({}, "stop", usage=usage(99)), DONE])
    if crlf:
        stream = stream.replace(b"\n\n", b"\r\n\r\n")
    edges = sorted({0, len(stream), *[cut for cut in cuts if cut < len(stream)]})
    answer = read([stream[begin:end] for begin, end in pairwise(edges)])
    assert len(answer.times) == len(texts)
    assert answer.done and answer.finished and answer.error is None
    assert answer.usage is not None and answer.usage.output_tokens == 99


def test_an_event_arrives_with_its_last_byte() -> None:
    whole = text("a")
    assert read([whole[:10], whole[10:-1], whole[-1:] + text("b")[:5], text("b")[5:]]).times == [2.0, 3.0]


def test_a_blank_line_that_is_missing_at_the_end_is_forgiven() -> None:
    answer = read([text("a"), text("b", "stop"), b"data: [DONE]"])
    assert answer.done and answer.times == [0.0, 1.0]


def test_comments_names_and_ids_are_passed_over() -> None:
    named = b"event: message\nid: 4\n" + text("b")
    assert read([b": wait\n\n", text("a"), b":\n\n", named, b"\n\n", text("c")]).times == [1.0, 3.0, 5.0]


def test_an_error_event_is_kept_in_the_words_of_the_server() -> None:
    assert read([text("a"), event(error={"message": "out of memory"}), DONE]).error == "out of memory"
    assert read([event(error_code="INTERNAL", message="broken")]).error == "broken"


def counted(events: Sequence[bytes]) -> tuple[list[int], TokensFrom]:
    return tokens_of(read(events))


def test_tokens_are_what_usage_rises_by_where_it_comes_with_every_event() -> None:
    events = [
        chat({"role": "assistant", "content": ""}, usage=usage(0)),
        chat({"content": "a"}, usage=usage(1)),
        chat({"content": "bcd"}, usage=usage(4)),
        chat({"content": ""}, usage=usage(5)),
        chat({}, "stop", usage=usage(5)),
        event(choices=[], usage=usage(5)),
        DONE,
    ]
    assert counted(events) == ([1, 3, 1], TokensFrom.USAGE)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"logprobs": {"content": [{"token": "a"}]}}, {"logprobs": {"content": [{"token": "b"}, {"token": "c"}]}}),
        ({"logprobs": {"tokens": ["a"]}}, {"logprobs": {"tokens": ["b", "c"]}}),
        ({"token_ids": [1]}, {"token_ids": [2, 3]}),
    ],
)
def test_tokens_are_what_events_list_where_they_do(first: dict[str, Any], second: dict[str, Any]) -> None:
    events = [text("a", choice=first), text("bc", choice=second), event(choices=[], usage=usage(3))]
    assert counted(events) == ([1, 2], TokensFrom.LISTS)


def test_one_event_is_one_token_where_usage_says_the_same_or_nothing() -> None:
    assert counted([text("a"), text("b"), event(choices=[], usage=usage(2))]) == ([1, 1], TokensFrom.AGREED)
    assert counted([text("a"), text("b")]) == ([1, 1], TokensFrom.EVENTS)


def test_a_usage_of_more_tokens_than_events_is_spread_evenly_and_flagged() -> None:
    assert counted([*[text("ab")] * 4, event(choices=[], usage=usage(10))]) == ([2, 3, 2, 3], TokensFrom.SPREAD)


@given(events=st.integers(1, 50), told=st.integers(0, 10_000))
def test_spread_tokens_add_up_and_differ_by_one_at_most(events: int, told: int) -> None:
    tokens, _ = counted([*[text("ab")] * events, event(choices=[], usage=usage(told))])
    assert sum(tokens) == told and max(tokens) - min(tokens) <= 1


def test_a_usage_no_event_can_hold_breaks_nothing() -> None:
    tokens, source = counted([text("a"), event(choices=[], usage=usage(2**31 - 1))])
    assert tokens == [65535] and source is TokensFrom.SPREAD


def test_cached_tokens_are_told_apart() -> None:
    answer = read([text("a"), event(choices=[], usage=usage(1, prompt_tokens_details={"cached_tokens": 4}))])
    assert answer.usage is not None and (answer.usage.input_tokens, answer.usage.cached_tokens) == (7, 4)


def test_a_whole_answer_is_one_event_at_its_end() -> None:
    answer: Answer = WholeAnswer()
    body = json.dumps({"choices": [{"message": {"content": "a b"}}], "usage": usage(2)}).encode()
    answer.feed(body[:9], 1.0)
    answer.feed(body[9:], 2.0)
    answer.end(2.5)
    assert answer.times == [2.5] and answer.finished
    assert tokens_of(answer) == ([2], TokensFrom.SPREAD)


def chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


@given(parts=st.lists(st.binary(min_size=1, max_size=40) | st.sampled_from([b"\r\n", b"2\r\nab", b"\n\n"]), min_size=1))
def test_chunks_that_are_taken_apart_at_once_are_what_the_decoder_makes_of_them(parts: list[bytes]) -> None:
    data = chunks(*parts)
    body, _ = ChunkedDecoder().feed(data)
    assert whole_chunks(data) in (body, None)  # and it remembers the sizes
    if not any(b"\r" in part or b"\n" in part for part in parts):
        assert whole_chunks(data) == body


@pytest.mark.parametrize(
    "data",
    [
        b"3\r\nabcd\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\r\n3\r\nab",
        b"3\r\nabc\r\n3\r\n",
        b"-3\r\nabc\r\n",
        b"\r\n",
    ],
)
def test_what_is_not_nothing_but_whole_chunks_is_left_to_the_decoder(data: bytes) -> None:
    whole_chunks(chunks(b"abc"))
    assert whole_chunks(chunks(b"abc")) == b"abc"
    assert whole_chunks(data) is None
