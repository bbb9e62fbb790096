"""How large the input is, before an engine has counted it, and what can fit beside it.

Prompts of token ids are counted. Text is estimated from its bytes by what the engine counted for earlier requests; its
own usage settles it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from headrace.gateway.body import Body, Message, Shape, messages_of
from headrace.gateway.errors import ApiError

LONGEST_TOKEN_BYTES = 256
"""No known tokenizer makes one token of more text (the longest are 128 blanks), so that bytes / this is a sure lower
bound of tokens."""

FIRST_BYTES_PER_TOKEN = 4.0
"""English text in the common vocabularies of 32,000 to 200,000 tokens."""
MEMORY_TOKENS = 50_000.0
"""What is learned follows roughly the last 50,000 tokens of input."""


@dataclass(init=False, slots=True)
class Prompt:
    """The size of an input."""

    text_bytes: int
    """0 for token ids."""
    tokens: int | None
    """Exact, for token ids."""
    at_least: int
    """Tokens, whatever the tokenizer."""
    longest: int = 0
    """Tokens at least of the longest of several inputs that are processed each by itself; 0 where there is but one."""

    def __init__(self, text_bytes: int, tokens: int | None, at_least: int, longest: int = 0) -> None:
        self.text_bytes = text_bytes
        self.tokens = tokens
        self.at_least = at_least
        self.longest = longest


@dataclass(init=False, slots=True)
class Limits:
    """What admission is asked for, and what goes upstream."""

    input_estimate: int
    max_output: int
    """Output tokens that can come at most; together with the estimate they fit the context."""
    max_tokens: int
    """What the engine is told."""

    def __init__(self, input_estimate: int, max_output: int, max_tokens: int) -> None:
        self.input_estimate = input_estimate
        self.max_output = max_output
        self.max_tokens = max_tokens


class BytesPerToken:
    """Learned for one endpoint and one shape of request: a chat has frames around its text, a completion has none."""

    def __init__(self) -> None:
        self._tokens = 1000.0
        self._bytes = self._tokens * FIRST_BYTES_PER_TOKEN

    def learn(self, text_bytes: int, tokens: int) -> None:
        """An engine counted ``tokens`` in a prompt of ``text_bytes``."""
        if text_bytes <= 0 or tokens <= 0:
            return
        kept = max(0.0, 1.0 - tokens / MEMORY_TOKENS)
        self._tokens = self._tokens * kept + tokens
        self._bytes = self._bytes * kept + text_bytes

    def estimate(self, prompt: Prompt) -> int:
        """Tokens of a prompt, at least 1."""
        if prompt.tokens is not None:
            return prompt.tokens
        return max(prompt.at_least, int(prompt.text_bytes * self._tokens / self._bytes + 0.5), 1)


def measure(body: Body, shape: Shape) -> Prompt:
    """The size of the input. Raises ApiError 400 where there is none, or more than one prompt."""
    if shape is Shape.EMBEDDING:
        if not isinstance(body.input, Raw):
            raise ApiError(400, "'input' is missing; expected text or a list of texts", param="input")
        return _embedding(body.input)
    if shape is Shape.CHAT:
        if not isinstance(body.messages, Raw):
            raise ApiError(400, "'messages' is missing; expected a list of messages", param="messages")
        return _chat(body.messages)
    if not isinstance(body.prompt, Raw):
        raise ApiError(400, "'prompt' is missing; expected text or a list of token ids", param="prompt")
    return _completion(body.prompt)


def _chat(raw: Raw) -> Prompt:
    try:
        messages = messages_of.decode(raw)
    except msgspec.ValidationError as error:
        raise ApiError(400, f"'messages' is not a list of messages: {error}", param="messages") from None
    if not messages:
        raise ApiError(400, "'messages' is empty; expected at least one message", param="messages")
    return Prompt(text_bytes=len(memoryview(raw)), tokens=None, at_least=_at_least(_bytes_of_text(messages)))


def _completion(raw: Raw) -> Prompt:
    prompt: Any
    try:
        prompt = msgspec.json.decode(raw, type=list[int])
    except msgspec.ValidationError:
        prompt = _only_one(_decoded(raw, "prompt"))
    if isinstance(prompt, str):
        size = len(prompt.encode())
        return Prompt(text_bytes=size, tokens=None, at_least=_at_least(size))
    if not isinstance(prompt, list) or not prompt or not all(type(token) is int for token in prompt):
        raise ApiError(400, "'prompt' must be text or a list of token ids, and not an empty list", param="prompt")
    return Prompt(text_bytes=0, tokens=len(prompt), at_least=len(prompt))


def _embedding(raw: Raw) -> Prompt:
    """Text, token ids, or a list of either: each is embedded by itself."""
    found = _decoded(raw, "input")
    inputs = [found] if _is_input(found) else found
    if not isinstance(inputs, list) or not inputs or not all(map(_is_input, inputs)):
        raise ApiError(400, "'input' must be text, a list of token ids, or a list of either, none empty", param="input")
    texts = [len(one.encode()) for one in inputs if isinstance(one, str)]
    tokens = [len(one) for one in inputs if not isinstance(one, str)]
    sizes = [_at_least(size) for size in texts] + tokens
    return Prompt(
        text_bytes=sum(texts), tokens=sum(tokens) if not texts else None, at_least=sum(sizes), longest=max(sizes)
    )


def _decoded(raw: Raw, name: str) -> Any:
    try:
        return msgspec.json.decode(raw)
    except msgspec.ValidationError as error:  # a number that is larger than any float
        raise ApiError(400, f"{name!r} is not usable: {error}", param=name) from None


def _is_input(value: Any) -> bool:
    """Text, or token ids."""
    if isinstance(value, list):
        return bool(value) and all(type(token) is int for token in value)
    return isinstance(value, str) and bool(value)


def _only_one(prompt: Any) -> Any:
    """Some clients send their one prompt as a list of one."""
    if not isinstance(prompt, list) or not prompt or not isinstance(prompt[0], str | list):
        return prompt
    if len(prompt) > 1:
        raise ApiError(400, f"{len(prompt)} prompts; expected one: send a request for each", param="prompt")
    return prompt[0]


def _at_least(text_bytes: int) -> int:
    return max(1, text_bytes // LONGEST_TOKEN_BYTES)


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _bytes_of_text(messages: list[Message]) -> int:
    """Bytes of the text in messages and in their ``text`` parts. Images are not text, however long their URLs are."""
    total = 0
    for message in messages:
        content = message.content
        if isinstance(content, str):
            total += _bytes_of(content)
        elif isinstance(content, list):
            texts = [part.get("text") for part in content if isinstance(part, dict)]
            total += sum([_bytes_of(text) for text in texts if isinstance(text, str)])
    return total


def limits(body: Body, prompt: Prompt, estimate: int, *, context: int, default_max_tokens: int) -> Limits:
    """What fits ``context`` tokens. Raises ApiError 400 for what can never fit, naming the limit."""
    if prompt.longest:
        if prompt.longest > context:
            raise ApiError(
                400,
                f"an input has at least {prompt.longest} tokens; the context of this endpoint is {context} tokens",
                code="context_length_exceeded",
                param="input",
            )
        return Limits(input_estimate=max(estimate, 1), max_output=0, max_tokens=0)
    largest = context - prompt.at_least
    if largest < 1:
        exactly = "" if prompt.tokens is not None else "at least "
        raise ApiError(
            400,
            f"the prompt has {exactly}{prompt.at_least} tokens and leaves no room for output: the context of this "
            f"endpoint is {context} tokens, input and output together",
            code="context_length_exceeded",
            param="messages" if body.messages is not UNSET else "prompt",
        )
    estimate = min(estimate, context - 1)
    asked: int | None = None
    for name in ("max_tokens", "max_completion_tokens"):
        value = getattr(body, name)
        if not isinstance(value, int):
            continue
        if not 1 <= value <= largest:
            raise ApiError(
                400,
                f"{name} is {value}; expected 1 to {largest}: the context of this endpoint is {context} tokens, input "
                f"and output together, and the prompt has {'' if prompt.tokens is not None else 'at least '}"
                f"{prompt.at_least}",
                code="max_tokens_out_of_range",
                param=name,
            )
        asked = value
    max_tokens = asked if asked is not None else max(1, min(default_max_tokens, context - estimate))
    return Limits(input_estimate=estimate, max_output=min(max_tokens, context - estimate), max_tokens=max_tokens)
