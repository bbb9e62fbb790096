"""What one answer has used so far: told by the engine where it tells, counted from events where it does not."""

from __future__ import annotations

from headrace.gateway.usage import Usage

TAIL_BYTES = 64 * 1024
HEAD_BYTES = 4 * 1024
"""Of an answer that is not streamed: where its usage is looked for, at the end first."""

BYTES_PER_OUTPUT_TOKEN = 4.0
"""For an engine that neither streams nor tells its usage."""


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

    def count_events(self, events: int) -> None:
        """A token each, as long as the engine has not told its usage."""
        if not self.exact:
            self.output_tokens += events

    def take_usage(self, usage: Usage) -> None:
        """The engine's word; the last one counts."""
        if usage.prompt_tokens is None:
            return
        self.input_tokens = usage.prompt_tokens
        self.output_tokens = usage.completion_tokens or 0
        details = usage.prompt_tokens_details
        self.cached_tokens = (details.cached_tokens or 0) if details is not None else 0
        self.exact = True

    def input_used(self, estimate: int) -> int:
        """Input tokens to account for: of a prefill that was cut short, only those that were processed."""
        if self.exact and self.input_tokens is not None:
            return self.input_tokens
        if self.first_byte_at is None and self.processed_tokens is not None:
            return self.processed_tokens
        return estimate if self.input_tokens is None else self.input_tokens
