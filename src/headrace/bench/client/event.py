"""What one event of a stream, or a whole answer, says: the shapes of OpenAI's API and its dialects."""

from __future__ import annotations

from typing import Any

import msgspec

LONGEST_TEXT = 300
"""Characters of a server's own words that are kept."""
_MOST_TOKENS = 2**31 - 1


class Delta(msgspec.Struct):
    """Of a choice in a chat; ``message`` in an answer that is no stream."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None

    @property
    def shows(self) -> bool:
        """Something that the model wrote; not the role, which comes first and is no token."""
        return bool(
            self.content
            or self.reasoning_content
            or self.reasoning
            or self.tool_calls
            or self.function_call
            or self.refusal
        )


class Choice(msgspec.Struct):
    delta: Delta | None = None
    message: Delta | None = None
    text: Any = None
    finish_reason: Any = None
    logprobs: Any = None
    token_ids: Any = None

    @property
    def shows(self) -> bool:
        """A token. In a completion it may show as no text: half a character."""
        if self.text is not None:
            return bool(self.text) or self.finish_reason is None
        said = self.delta or self.message
        return said is not None and said.shows

    @property
    def listed(self) -> int | None:
        """Tokens in it, where it lists them."""
        if isinstance(self.token_ids, list):
            return len(self.token_ids)
        if isinstance(self.logprobs, dict):
            for name in ("content", "tokens", "token_logprobs"):
                if isinstance(self.logprobs.get(name), list):
                    return len(self.logprobs[name])
        return None


class Event(msgspec.Struct):
    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None
    error_code: Any = None
    message: Any = None
    detail: Any = None
    prompt_progress: Any = None
    """Of a prompt that is still being processed (llama.cpp): no token."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the server counts them."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int


decode = msgspec.json.Decoder(Event).decode
"""Raises msgspec.DecodeError for what is no JSON, or of another shape."""


def read_usage(given: Any) -> Usage | None:
    """None where it is not two numbers of tokens."""
    if not isinstance(given, dict):
        return None
    details = given.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    counts = [given.get("prompt_tokens"), given.get("completion_tokens", 0), cached or 0]
    known = [count for count in counts if type(count) is int and 0 <= count <= _MOST_TOKENS]
    return Usage(*known) if len(known) == len(counts) else None


def message(said: Event) -> str:
    """The server's own words about an error."""
    error = said.error
    text = error.get("message") if isinstance(error, dict) else said.message or error
    if text is None and isinstance(said.detail, list) and said.detail and isinstance(said.detail[0], dict):
        text = said.detail[0].get("msg")  # of FastAPI; beside it stands the request, which is nobody's business
    if text is None and isinstance(said.detail, str):
        text = said.detail
    return str(text or said.error_code or "an error without a message")[:LONGEST_TEXT]
