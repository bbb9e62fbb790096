"""What one answer has used so far: told by the engine where it tells, counted from events where it does not."""

from __future__ import annotations

import json
import re

import msgspec

USAGE = re.compile(rb'"usage"\s*:\s*(?=\{)')
"""A usage object as a member. The same words inside of a text cannot look so: there every quote is escaped."""

TAIL_BYTES = 64 * 1024
"""Of an answer that is not streamed: where its usage is looked for."""

BYTES_PER_OUTPUT_TOKEN = 4.0
"""For an engine that neither streams nor tells its usage."""


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """As engines report it. ``prompt_tokens`` includes the cached ones."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Whole(msgspec.Struct):
    usage: Usage | None = None


_whole: msgspec.json.Decoder[_Whole] = msgspec.json.Decoder(_Whole)


class Meter:
    """Tokens of one attempt at one replica."""

    __slots__ = ("cached_tokens", "exact", "first_byte_at", "input_tokens", "output_tokens", "processed_tokens")

    def __init__(self) -> None:
        self.input_tokens: int | None = None
        """Cached ones included; None until the engine tells."""
        self.cached_tokens = 0
        self.processed_tokens: int | None = None
        """Of the input, during prefill; None where the engine does not tell."""
        self.output_tokens = 0
        self.exact = False
        """From the engine's own final usage."""
        self.first_byte_at: float | None = None
        """Loop time."""

    def take_usage(self, usage: Usage) -> None:
        """The engine's word; the last one counts."""
        if usage.prompt_tokens is None:
            return
        self.input_tokens = usage.prompt_tokens
        self.output_tokens = usage.completion_tokens or 0
        details = usage.prompt_tokens_details
        self.cached_tokens = (details.cached_tokens or 0) if details is not None else 0
        self.exact = True

    def take_whole(self, body: bytes) -> bool:
        """The usage of a whole JSON answer; whether there was one."""
        try:
            usage = _whole.decode(body).usage
        except msgspec.DecodeError:
            return False
        if usage is not None:
            self.take_usage(usage)
        return self.exact

    def take_tail(self, tail: bytes) -> bool:
        """Look for the last usage object in the end of a JSON answer; whether there was one."""
        begins = [found.end() for found in USAGE.finditer(tail)]
        if not begins:
            return False
        try:
            members, _ = json.JSONDecoder().raw_decode(tail[begins[-1] :].decode(errors="replace"))
            self.take_usage(msgspec.convert(members, Usage))
        except (ValueError, msgspec.ValidationError):
            return False
        return self.exact

    def input_used(self, estimate: int) -> int:
        """Input tokens to account for: of a prefill that was cut short, only those that were processed."""
        if self.exact and self.input_tokens is not None:
            return self.input_tokens
        if self.first_byte_at is None and self.processed_tokens is not None:
            return self.processed_tokens
        return estimate if self.input_tokens is None else self.input_tokens
