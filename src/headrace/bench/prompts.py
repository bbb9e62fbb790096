"""What is sent: token-id prompts of an exact length, or prompts from a file. The same seed sends the same prompts."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from headrace.bench.errors import BenchError

HEAD_TOKENS = 4
"""Tokens at the start of a prompt that spell its number: no two prompts share a first block, so no cache can help."""

DEFAULT_VOCABULARY = range(1000, 20000)
"""Token ids that are plain text in every vocabulary met so far: above the special and byte tokens, below the end."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request, but for the model's name."""

    route: str
    """``completions`` or ``chat/completions``."""
    body: dict[str, Any]
    input_tokens: int | None
    """Exact, where the prompt is made of token ids."""


class Prompts(Protocol):
    """A source of prompts; the number of a prompt says all about it."""

    def prompt(self, number: int) -> Prompt: ...


@dataclass(frozen=True, slots=True)
class TokenPrompts:
    """Distinct random token ids, ``input_tokens`` of them, answered with exactly ``output_tokens``."""

    input_tokens: int
    output_tokens: int
    seed: int = 0
    vocabulary: range = DEFAULT_VOCABULARY

    def __post_init__(self) -> None:
        if self.input_tokens < 1 or self.output_tokens < 1:
            raise BenchError(
                f"lengths are {self.input_tokens} input and {self.output_tokens} output tokens; expected at least 1 "
                "each"
            )
        if len(self.vocabulary) < 2 or self.vocabulary.start < 0:
            raise BenchError(
                f"the vocabulary is {self.vocabulary.start}..{self.vocabulary.stop}; expected two token ids or more, "
                "such as 1000..20000"
            )

    def prompt(self, number: int) -> Prompt:
        draw = random.Random(f"{self.seed}/{self.input_tokens}/{self.output_tokens}/{number}")
        tokens = draw.choices(self.vocabulary, k=self.input_tokens)
        rest = number
        for place in range(min(HEAD_TOKENS, self.input_tokens)):
            rest, digit = divmod(rest, len(self.vocabulary))
            tokens[place] = self.vocabulary[(digit + self.seed) % len(self.vocabulary)]
        return Prompt(
            route="completions",
            body={"prompt": tokens, "max_tokens": self.output_tokens, "ignore_eos": True, "temperature": 0},
            input_tokens=self.input_tokens,
        )


@dataclass(frozen=True, slots=True)
class FilePrompts:
    """Prompts from a JSONL file, in its order, from the start again when it ends."""

    lines: tuple[dict[str, Any], ...]
    output_tokens: int | None = None
    """``max_tokens`` of requests that do not say their own."""

    def prompt(self, number: int) -> Prompt:
        line = self.lines[number % len(self.lines)]
        body = dict(line)
        if self.output_tokens is not None and not {"max_tokens", "max_completion_tokens"} & body.keys():
            body["max_tokens"] = self.output_tokens
        return Prompt(route="chat/completions" if "messages" in body else "completions", body=body, input_tokens=None)


def read_prompts(path: Path, output_tokens: int | None = None) -> FilePrompts:
    """Lines of ``{"prompt": ...}`` or OpenAI's ``{"messages": [...]}``. Raises BenchError naming the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BenchError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BenchError(f"{path} is not UTF-8 text; expected one JSON object per line") from None
    lines = []
    for number, row in enumerate(text.splitlines(), start=1):
        if not row.strip():
            continue
        try:
            line = json.loads(row)
        except ValueError as error:
            raise BenchError(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(line, dict) or ("prompt" in line) == ("messages" in line):
            raise BenchError(f'{path}, line {number}: expected either {{"prompt": ...}} or {{"messages": [...]}}')
        line.pop("model", None)
        line.pop("stream", None)
        lines.append(line)
    if not lines:
        raise BenchError(f'{path} holds no prompts; expected one JSON object per line, such as {{"prompt": "Hello"}}')
    return FilePrompts(tuple(lines), output_tokens)
