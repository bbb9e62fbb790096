"""Prompts: exact, distinct, and the same again for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace.bench.errors import BenchError
from headrace.bench.prompts import HEAD_TOKENS, TokenPrompts, read_prompts


def test_token_prompts_have_the_exact_length_and_stay_in_the_vocabulary() -> None:
    prompts = TokenPrompts(input_tokens=300, output_tokens=7, seed=3, vocabulary=range(50, 90))
    prompt = prompts.prompt(12)
    assert len(prompt.body["prompt"]) == prompt.input_tokens == 300
    assert all(50 <= token < 90 for token in prompt.body["prompt"])
    assert prompt.body["max_tokens"] == 7
    assert prompt.body["ignore_eos"] is True
    assert prompt.route == "completions"


def test_no_two_token_prompts_begin_alike() -> None:
    """Even with a vocabulary so small that random heads would collide."""
    prompts = TokenPrompts(input_tokens=64, output_tokens=1, vocabulary=range(100, 110))
    heads = {tuple(prompts.prompt(number).body["prompt"][:HEAD_TOKENS]) for number in range(2000)}
    assert len(heads) == 2000


def test_a_seed_sends_the_same_prompts_again_and_another_seed_others() -> None:
    first, again, other = (TokenPrompts(40, 4, seed=seed) for seed in (1, 1, 2))
    assert first.prompt(5) == again.prompt(5)
    assert first.prompt(5).body["prompt"][HEAD_TOKENS:] != other.prompt(5).body["prompt"][HEAD_TOKENS:]


@pytest.mark.parametrize("lengths", [(0, 1), (1, 0), (-3, 4)])
def test_lengths_below_one_are_refused(lengths: tuple[int, int]) -> None:
    with pytest.raises(BenchError, match="at least 1"):
        TokenPrompts(*lengths)


def test_prompts_of_a_file_come_in_its_order_and_begin_again(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "one", "max_tokens": 3}, {"messages": [{"role": "user", "content": "two"}], "stream": False}]
    file.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    prompts = read_prompts(file, output_tokens=9)
    assert [prompts.prompt(number).route for number in range(3)] == ["completions", "chat/completions", "completions"]
    assert prompts.prompt(0).body == {"prompt": "one", "max_tokens": 3}
    assert prompts.prompt(1).body == {"messages": rows[1]["messages"], "max_tokens": 9}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no prompts"),
        ('{"prompt": "a"}\n{oops', "line 2: not JSON"),
        ('{"text": "a"}', "line 1: expected either"),
        ('{"prompt": "a", "messages": []}', "line 1: expected either"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(text)
    with pytest.raises(BenchError, match=complaint):
        read_prompts(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"cannot read .*missing\.jsonl: No such file"):
        read_prompts(tmp_path / "missing.jsonl")
