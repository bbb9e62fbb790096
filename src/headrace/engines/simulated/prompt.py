"""Reading a generation request, and counting its tokens exactly by a rule that anybody can recompute.

Token ids count one each; text counts a token for every four bytes of UTF-8, begun ones included; a chat counts its
contents that way and four more for each message.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import msgspec

TOKEN_BYTES = 4
MESSAGE_TOKENS = 4


class Part(msgspec.Struct):
    type: str
    text: str = ""


class Message(msgspec.Struct):
    role: str
    content: str | list[Part] | None = None


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class Body(msgspec.Struct):
    """The fields that this engine follows; others are ignored."""

    model: str | None = None
    messages: list[Message] | None = None
    prompt: str | list[int] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class Generation(msgspec.Struct, frozen=True):
    """A request that will be served."""

    chat: bool
    prompt: Sequence[Hashable]
    """Its tokens."""
    max_tokens: int
    stream: bool
    include_usage: bool


class Rejected(Exception):
    """A request that can never be served (400)."""

    def __init__(self, message: str, param: str | None = None, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.param = param
        self.code = code


def read(raw: bytes, *, chat: bool, context: int, default_max_tokens: int, vocabulary: int) -> Generation:
    """Raises Rejected."""
    try:
        body = msgspec.json.decode(raw, type=Body)
    except msgspec.DecodeError as error:  # its messages name types and places, never values
        raise Rejected(f"the body is not a valid request: {error}", code="invalid_json") from None
    if body.n not in (None, 1):
        raise Rejected("n must be 1: the simulated engine gives one choice", "n")
    prompt = _chat_tokens(body.messages) if chat else prompt_tokens(body.prompt, vocabulary, "prompt")
    asked = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    room = context - len(prompt)
    if asked is not None and asked < 1:
        raise Rejected(f"max_tokens must be at least 1, not {asked}", "max_tokens")
    if room < 1 or (asked is not None and asked > room):
        raise Rejected(
            f"the prompt has {len(prompt)} tokens and max_tokens is {asked if asked is not None else 'not set'}: "
            f"together they must fit the context of {context} tokens",
            "messages" if chat else "prompt",
            "context_length_exceeded",
        )
    return Generation(
        chat=chat,
        prompt=prompt,
        max_tokens=asked if asked is not None else min(default_max_tokens, room),
        stream=bool(body.stream),
        include_usage=body.stream_options is not None and body.stream_options.include_usage,
    )


def prompt_tokens(prompt: str | list[int] | None, vocabulary: int, param: str) -> Sequence[Hashable]:
    """Raises Rejected; ``param`` is the request's name for it."""
    if not prompt:
        raise Rejected(f"{param} must be a text or a list of token ids, not empty", param)
    if isinstance(prompt, str):
        return _text_tokens(prompt)
    if min(prompt) < 0 or max(prompt) >= vocabulary:
        raise Rejected(f"token ids must be at least 0 and below {vocabulary}", param)
    return prompt


def _chat_tokens(messages: list[Message] | None) -> Sequence[Hashable]:
    if not messages:
        raise Rejected("messages must be a list of at least one message", "messages")
    tokens: list[Hashable] = []
    for message in messages:
        content = message.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        tokens.extend((message.role, position) for position in range(MESSAGE_TOKENS))
        tokens.extend(_text_tokens(text))
    return tokens


def _text_tokens(text: str) -> list[bytes]:
    data = text.encode()
    return [data[at : at + TOKEN_BYTES] for at in range(0, len(data), TOKEN_BYTES)]
