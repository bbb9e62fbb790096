"""Bodies of prompts made here: what is asked for, of exactly that length, and nothing that a cache knows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.bench.errors import BenchError
from headrace.bench.workload.source import Workload, open_workload
from headrace.bench.workload.spec import Amount, Content, LoadSpec, Poisson, Synthetic, Uniform


def workload(input_tokens: int = 64, output_tokens: int = 8, *, seed: int = 0, **content: Any) -> Workload:
    source = Synthetic(input=Uniform(input_tokens, input_tokens), output=Uniform(output_tokens, output_tokens))
    return open_workload(
        LoadSpec(
            model="m",
            source=source,
            content=Content(**content),
            arrivals=Poisson(1.0),
            amount=Amount(requests=1),
            seed=seed,
        )
    )


def body(load: Workload, number: int = 0) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(load.request(number).body)
    return read


def words(load: Workload, number: int = 0) -> list[str]:
    read = body(load, number)
    text = read["prompt"] if "prompt" in read else read["messages"][0]["content"]
    return list(text.split(" "))


@given(number=st.integers(0, 1 << 31), tokens=st.integers(1, 3000))
@settings(max_examples=60, deadline=None)
def test_prompts_of_ids_have_exactly_the_length_asked_for(number: int, tokens: int) -> None:
    load = workload(tokens, vocabulary=(900, 12_000))
    request = load.request(number)
    ids = json.loads(request.body)["prompt"]
    assert len(ids) == request.input_tokens == tokens
    assert all(900 <= token < 12_000 for token in ids)


def test_a_prompt_longer_than_the_stock_is_made_all_the_same() -> None:
    assert len(body(workload(300_000))["prompt"]) == 300_000


def test_a_body_asks_for_the_length_and_the_usage_of_a_stream() -> None:
    read = body(workload(2, 7))
    prompt = read.pop("prompt")
    assert len(prompt) == 2
    assert read == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "ignore_eos": True,
        "max_tokens": 7,
    }


def test_a_length_that_is_not_forced_is_a_limit_that_any_openai_server_knows() -> None:
    read = body(workload(2, 7, force_length=False))
    assert "ignore_eos" not in read
    assert read["max_tokens"] == 7


def test_without_a_stream_nothing_is_said_of_one() -> None:
    assert not {"stream", "stream_options"} & body(workload(stream=False)).keys()


def test_extra_fields_go_into_every_body_and_over_what_is_usual() -> None:
    read = body(workload(extra={"temperature": 0.7, "top_k": 3, "nested": {"a": [1]}}))
    assert (read["temperature"], read["top_k"], read["nested"]) == (0.7, 3, {"a": [1]})


@pytest.mark.parametrize("name", ["model", "max_tokens", "stream", "prompt", "ignore_eos"])
def test_extra_fields_do_not_say_again_what_the_load_says(name: str) -> None:
    with pytest.raises(BenchError, match=f"extra fields of the body name {name}"):
        workload(extra={name: 1})


def test_a_path_of_its_own_takes_the_place_of_the_apis() -> None:
    assert workload().request(0).path == "/v1/completions"
    assert workload(api="chat").request(0).path == "/v1/chat/completions"
    assert workload(api="chat", path="/serving-endpoints/x/invocations").request(0).path.endswith("invocations")


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_prose_has_a_word_for_each_token_after_its_opening(api: str) -> None:
    load = workload(40, prompt="text", api=api)
    assert len(words(load)) == 41
    assert words(load)[0] == "Once"
    assert load.request(0).input_tokens is None


def test_chats_are_prose_for_they_cannot_be_ids() -> None:
    assert body(workload(api="chat", prompt="ids"))["messages"][0]["role"] == "user"


@pytest.mark.parametrize("content", [{}, {"prompt": "text"}])
def test_no_two_prompts_begin_alike_within_a_block_of_16_tokens(content: dict[str, Any]) -> None:
    """Blocks of 16 tokens are the least that engines cache by."""
    heads = set()
    for seed in (0, 1):
        for salt in (0, 1):
            load = workload(64, seed=seed, salt=salt, **content)
            pieces = words if content else lambda load, number: body(load, number)["prompt"]
            heads |= {tuple(pieces(load, number)[:16]) for number in range(500)}
    assert len(heads) == 2000


def test_neighbours_differ_in_their_first_token() -> None:
    """So that an engine that keeps the longest common beginning finds none."""
    load = workload(8)
    assert len({body(load, number)["prompt"][0] for number in range(1000)}) == 1000


def test_short_prompts_differ_as_long_as_their_length_allows() -> None:
    load = workload(1)
    assert len({tuple(body(load, number)["prompt"]) for number in range(19_000)}) == 19_000


def test_a_new_salt_changes_heads_and_nothing_else() -> None:
    first, second = (body(workload(64, salt=salt), 5) for salt in (1, 2))
    assert first["prompt"][:3] != second["prompt"][:3]
    assert first["prompt"][20:] == second["prompt"][20:]
    assert {**first, "prompt": 0} == {**second, "prompt": 0}


@given(number=st.integers(0, 1 << 31), seed=st.integers(0, 1 << 62))
@settings(max_examples=25, deadline=None)
def test_a_request_is_the_same_whoever_makes_it_and_whatever_was_made_before(number: int, seed: int) -> None:
    first, second = workload(seed=seed), workload(seed=seed)
    for other in (0, number + 1, number + 5000):
        second.request(other)
    assert first.request(number) == second.request(number)


def test_another_seed_makes_other_prompts() -> None:
    assert body(workload(seed=1))["prompt"][20:] != body(workload(seed=2))["prompt"][20:]


@pytest.mark.parametrize("vocabulary", [(5, 5), (9, 3), (-4, 100), (7, 8)])
def test_a_vocabulary_of_less_than_two_ids_is_refused(vocabulary: tuple[int, int]) -> None:
    with pytest.raises(BenchError, match="expected two token ids or more"):
        workload(vocabulary=vocabulary)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(BenchError, match="seed is -1"):
        workload(seed=-1)


def test_what_is_sent_is_said_in_words() -> None:
    assert workload(100, 20).describe() == (
        "input 100, output 20 tokens; prompts of token ids from 1000 to 19999, of exactly that length; each with a "
        "beginning of its own, of seed 0 and salt 0: no prefix cache can help that has not seen these before; output "
        "length forced"
    )
    assert "only the server can say" in workload(api="chat").describe()
    assert "not forced" in workload(force_length=False).describe()
