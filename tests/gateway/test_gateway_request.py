"""Reading a request: what is refused before an engine sees it, and what the engine is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.gateway.errors import ApiError
from headrace.gateway.prompt import BytesPerToken, Limits, Prompt, limits, measure
from headrace.gateway.request import Shape, check, parse, shape_of
from headrace.gateway.snapshot import Traits
from headrace.gateway.upstream_body import upstream_body

MESSAGES = [{"role": "user", "content": "hello"}]


def encoded(**members: Any) -> bytes:
    return json.dumps(members).encode()


def error_of(raw: bytes, shape: Shape = Shape.CHAT, context: int = 4096) -> ApiError:
    with pytest.raises(ApiError) as caught:
        body = parse(raw)
        check(body)
        prompt = measure(body, shape)
        limits(body, prompt, BytesPerToken().estimate(prompt), context=context, default_max_tokens=128)
    return caught.value


def limits_of(raw: bytes, shape: Shape = Shape.CHAT, context: int = 4096) -> Limits:
    body = parse(raw)
    prompt = measure(body, shape)
    return limits(body, prompt, BytesPerToken().estimate(prompt), context=context, default_max_tokens=128)


@pytest.mark.parametrize("raw", [b"", b"{", b'{"messages": [}', b"nonsense", b'{"a": 1} trailing', b"\xff\xfe"])
def test_malformed_json_is_said_to_be_malformed(raw: bytes) -> None:
    error = error_of(raw)
    assert (error.status, error.code) == (400, "malformed_json")
    assert "not valid JSON" in error.message


@pytest.mark.parametrize("name", [b"model", b"user", b"x", b"\xff"])
@pytest.mark.parametrize("text", [b'"\xff"', b'"\xed\xa0\x80"', b'["\xc3"]'])
def test_a_body_that_is_not_utf8_is_no_json_wherever_that_is(name: bytes, text: bytes) -> None:
    for member in (b'"messages":[{"role":"user","content":%b}]' % text, b'"messages":[],"%b":%b' % (name, text)):
        error = error_of(b"{%b}" % member)
        assert (error.status, error.code) == (400, "malformed_json")


@pytest.mark.parametrize("depth", [10_000, 100_000])
@pytest.mark.parametrize("member", ["messages", "x"])
def test_a_body_that_is_nested_without_end_is_refused(depth: int, member: str) -> None:
    error = error_of(b'{"%b":%b%b}' % (member.encode(), b"[" * depth, b"]" * depth))
    assert (error.status, error.code) == (400, "malformed_json")
    assert "nested too deeply" in error.message


def test_a_depth_that_is_too_much_only_later_is_refused_all_the_same() -> None:
    """How deep the decoder can go depends on how deep its caller is."""

    def from_deeper(levels: int) -> bytes:
        if levels:
            return from_deeper(levels - 1)
        return upstream_body(raw, body, Shape.COMPLETION, Limits(1, 1, 1), Traits(upstream_model="other"), "smollm2")

    raw = b'{"model":"smollm2","prompt":"a","x":%b%b}' % (b"[" * 700, b"]" * 700)
    body = parse(raw)
    assert from_deeper(0)
    with pytest.raises(ApiError, match="nested too deeply"):
        from_deeper(300)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"max_tokens": "many"}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"model": 7}, "model"),
        ({"usage_context": {"a": 1}}, "usage_context"),
    ],
)
def test_a_wrong_type_names_the_field(members: dict[str, Any], expected: str) -> None:
    error = error_of(encoded(messages=MESSAGES, **members))
    assert error.status == 400
    assert expected in error.message


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("value", [-1, 0, 4087, 10**9, 10**30])
def test_max_tokens_out_of_range_gives_the_largest_valid_value(name: str, value: int) -> None:
    error = error_of(encoded(prompt=[1] * 10, **{name: value}), Shape.COMPLETION)
    assert (error.status, error.param) == (400, name)
    assert "expected 1 to 4086" in error.message
    assert "4096" in error.message


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_largest_valid_value_is_valid(name: str) -> None:
    found = limits_of(encoded(prompt=[1] * 10, **{name: 4086}), Shape.COMPLETION)
    assert found == Limits(input_estimate=10, max_output=4086, max_tokens=4086)


def test_token_ids_longer_than_the_context_are_refused_with_both_numbers() -> None:
    error = error_of(encoded(prompt=[1] * 4096), Shape.COMPLETION)
    assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "prompt")
    assert error.message.startswith("the prompt has 4096 tokens")
    assert "context of this endpoint is 4096" in error.message


def test_text_that_no_tokenizer_could_fit_is_refused() -> None:
    error = error_of(encoded(messages=[{"role": "user", "content": "a" * (4096 * 256)}]))
    assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "messages")
    assert "at least 4096 tokens" in error.message


def test_text_that_might_fit_is_left_to_the_engine_and_reserved_within_the_context() -> None:
    found = limits_of(encoded(messages=[{"role": "user", "content": "a" * 100_000}], max_tokens=50))
    assert found == Limits(input_estimate=4095, max_output=1, max_tokens=50)


def test_the_length_of_an_image_is_not_the_length_of_a_text() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * (4096 * 256)}}
    parts = [image, {"type": "text", "text": "what is it?"}]
    assert limits_of(encoded(messages=[{"role": "user", "content": parts}])).max_tokens >= 1


@pytest.mark.parametrize("members", [{"n": 2}, {"n": 0}, {"best_of": 3}])
def test_more_than_one_choice_is_refused(members: dict[str, Any]) -> None:
    error = error_of(encoded(messages=MESSAGES, **members))
    assert (error.status, error.param) == (400, next(iter(members)))
    assert "expected 1" in error.message


def test_an_unknown_service_tier_is_refused_with_the_known_ones() -> None:
    error = error_of(encoded(messages=MESSAGES, service_tier="gold"))
    assert (error.status, error.param) == (400, "service_tier")
    assert "priority, default, flex" in error.message


@pytest.mark.parametrize(
    "members",
    [{"user": "u" * 257}, {"client_request_id": "c" * 257}, {"usage_context": {"k": "v" * 4096}}],
)
def test_what_is_journaled_with_every_request_is_bounded(members: dict[str, Any]) -> None:
    error = error_of(encoded(messages=MESSAGES, **members))
    assert (error.status, error.param) == (400, next(iter(members)))


@pytest.mark.parametrize(
    ("members", "shape"),
    [
        ({}, Shape.CHAT),
        ({"messages": "hello"}, Shape.CHAT),
        ({"messages": []}, Shape.CHAT),
        ({"messages": None}, Shape.CHAT),
        ({}, Shape.COMPLETION),
        ({"prompt": None}, Shape.COMPLETION),
        ({"prompt": []}, Shape.COMPLETION),
        ({"prompt": [[]]}, Shape.COMPLETION),
        ({"prompt": [1, "a"]}, Shape.COMPLETION),
        ({"prompt": {"text": "a"}}, Shape.COMPLETION),
        ({"prompt": ["a", "b"]}, Shape.COMPLETION),
        ({"prompt": [[1], [2]]}, Shape.COMPLETION),
        ({}, Shape.EMBEDDING),
        ({"input": None}, Shape.EMBEDDING),
        ({"input": ""}, Shape.EMBEDDING),
        ({"input": []}, Shape.EMBEDDING),
        ({"input": ["a", ""]}, Shape.EMBEDDING),
        ({"input": ["a", 1]}, Shape.EMBEDDING),
        ({"input": [[1], []]}, Shape.EMBEDDING),
        ({"input": [[["a"]]]}, Shape.EMBEDDING),
        ({"input": {"text": "a"}}, Shape.EMBEDDING),
    ],
)
def test_a_missing_or_strange_input_is_refused(members: dict[str, Any], shape: Shape) -> None:
    error = error_of(encoded(temperature=0, **members), shape)
    expected = {Shape.CHAT: "messages", Shape.COMPLETION: "prompt", Shape.EMBEDDING: "input"}
    assert (error.status, error.param) == (400, expected[shape])


@pytest.mark.parametrize(("name", "shape"), [("prompt", Shape.COMPLETION), ("input", Shape.EMBEDDING)])
def test_a_number_beyond_all_numbers_is_refused(name: str, shape: Shape) -> None:
    error = error_of(b'{"%b":[1,1e999]}' % name.encode(), shape)
    assert (error.status, error.param) == (400, name)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("héllo", Prompt(text_bytes=6, tokens=None, at_least=1, longest=1)),
        (["abc", "defg"], Prompt(text_bytes=7, tokens=None, at_least=2, longest=1)),
        ([1, 2, 3], Prompt(text_bytes=0, tokens=3, at_least=3, longest=3)),
        ([[1, 2, 3], [4, 5]], Prompt(text_bytes=0, tokens=5, at_least=5, longest=3)),
        (["a" * 5120, [1, 2, 3]], Prompt(text_bytes=5120, tokens=None, at_least=23, longest=20)),
    ],
)
def test_inputs_to_embed_are_counted_together_and_must_fit_each_by_itself(given: Any, expected: Prompt) -> None:
    assert measure(parse(encoded(input=given)), Shape.EMBEDDING) == expected


def test_many_inputs_together_may_exceed_the_context_and_none_of_them_may() -> None:
    raw = encoded(input=[[1] * 4096] * 3, max_tokens=10**9)
    assert limits_of(raw, Shape.EMBEDDING) == Limits(input_estimate=3 * 4096, max_output=0, max_tokens=0)
    error = error_of(encoded(input=[[1], [1] * 4097]), Shape.EMBEDDING)
    assert (error.code, error.param) == ("context_length_exceeded", "input")
    assert "4097" in error.message


@pytest.mark.parametrize("prompt", [[5, 6, 7], [[5, 6, 7]]])
def test_token_ids_are_counted_exactly(prompt: list[Any]) -> None:
    assert measure(parse(encoded(prompt=prompt)), Shape.COMPLETION) == Prompt(text_bytes=0, tokens=3, at_least=3)


@pytest.mark.parametrize("prompt", ["héllo", ["héllo"]])
def test_text_is_measured_in_bytes(prompt: Any) -> None:
    assert measure(parse(encoded(prompt=prompt)), Shape.COMPLETION) == Prompt(text_bytes=6, tokens=None, at_least=1)


def test_the_shape_of_an_invocation_is_told_by_its_input() -> None:
    assert shape_of(parse(encoded(messages=MESSAGES))) is Shape.CHAT
    assert shape_of(parse(encoded(prompt="a"))) is Shape.COMPLETION
    assert shape_of(parse(encoded(input="a"))) is Shape.EMBEDDING
    with pytest.raises(ApiError, match="neither 'messages'"):
        shape_of(parse(encoded(question="a")))


def test_bytes_per_token_follow_what_engines_count() -> None:
    learned = BytesPerToken()
    prompt = Prompt(text_bytes=3000, tokens=None, at_least=1)
    assert learned.estimate(prompt) == 750
    for _ in range(100):
        learned.learn(text_bytes=3000, tokens=1500)
    assert learned.estimate(prompt) == pytest.approx(1500, rel=0.05)


def sent(raw: bytes, traits: Traits, shape: Shape = Shape.CHAT) -> tuple[bytes, dict[str, Any]]:
    body = parse(raw)
    prompt = measure(body, shape)
    found = limits(body, prompt, 10, context=4096, default_max_tokens=128)
    result = upstream_body(raw, body, shape, found, traits, "smollm2")
    return result, json.loads(result)


def test_a_complete_request_goes_through_byte_for_byte() -> None:
    raw = b'{ "model":"smollm2",  "messages":[{"role":"user","content":"\\u0041"}], "max_tokens": 5, "x": 1e0 }'
    assert sent(raw, Traits())[0] == raw


def test_what_is_missing_is_spliced_in_and_the_rest_is_untouched() -> None:
    raw = b'{"model":"smollm2","messages":[{"role":"user","content":"\\u0041"}],"stream":true}\n'
    result, members = sent(raw, Traits())
    assert result.startswith(raw.rstrip()[:-1])
    assert members == {
        "model": "smollm2",
        "messages": [{"role": "user", "content": "A"}],
        "stream": True,
        "max_tokens": 128,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}])
def test_usage_is_asked_for_where_the_client_declined_it(options: Any) -> None:
    raw = encoded(model="smollm2", messages=MESSAGES, stream=True, max_tokens=3, stream_options=options)
    assert sent(raw, Traits())[1]["stream_options"] == {"include_usage": True}


def test_the_model_is_the_one_that_the_engine_expects() -> None:
    raw = encoded(model="smollm2", messages=MESSAGES, max_tokens=3)
    assert sent(raw, Traits(upstream_model="org/real"))[1]["model"] == "org/real"
    assert sent(encoded(messages=MESSAGES), Traits())[1]["model"] == "smollm2"


def test_fields_of_ours_do_not_reach_the_engine() -> None:
    raw = encoded(model="smollm2", messages=MESSAGES, client_request_id="c-1", usage_context={"team": "a"})
    members = sent(raw, Traits())[1]
    assert members == {"model": "smollm2", "messages": MESSAGES, "max_tokens": 128}


def test_an_engine_that_must_be_streamed_always_is() -> None:
    for stream in ({}, {"stream": False}, {"stream": None}, {"stream": True}):
        members = sent(encoded(model="smollm2", messages=MESSAGES, **stream), Traits(stream_upstream=True))[1]
        assert members["stream"] is True
        assert members["return_progress"] is True
        assert members["stream_options"] == {"include_usage": True}


def test_nothing_of_generation_is_added_to_a_request_for_embeddings() -> None:
    raw = b'{"model":"smollm2", "input":["a", "b"], "encoding_format":"base64", "dimensions": 64, "stream":true}'
    for traits in (Traits(), Traits(stream_upstream=True)):
        assert sent(raw, traits, Shape.EMBEDDING)[0] == raw
    renamed = sent(raw, Traits(upstream_model="org/real"), Shape.EMBEDDING)[1]
    assert renamed == {**json.loads(raw), "model": "org/real"}


@pytest.mark.parametrize(
    "asked", [{"max_completion_tokens": 7}, {"max_completion_tokens": 7, "max_tokens": 9}, {"max_tokens": 7}]
)
def test_max_completion_tokens_reaches_engines_that_know_only_max_tokens(asked: dict[str, int]) -> None:
    raw = encoded(model="smollm2", messages=MESSAGES, **asked)
    assert sent(raw, Traits())[1]["max_tokens"] == 7


def test_no_member_is_sent_twice() -> None:
    raw = encoded(model="other", messages=MESSAGES, stream=True, max_tokens=None, stream_options=None)
    result, _ = sent(raw, Traits(stream_upstream=True))
    pairs = json.loads(result, object_pairs_hook=lambda found: found)
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names))
