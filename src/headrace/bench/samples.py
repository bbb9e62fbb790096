"""One measured request, as the client saw it."""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec

Outcome = Literal["ok", "rejected", "unavailable", "failed", "unfinished"]
"""ok: complete; rejected: 429; unavailable: 503; failed: any other status, a broken stream or connection;
unfinished: cut off by the end of the measurement."""


class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Times are seconds since the start of the measurement, on a monotonic clock."""

    number: int
    outcome: Outcome
    scheduled_s: float
    """When it was due; in a closed loop, when its user was free."""
    sent_s: float
    """When its sending began; a new connection is made after this."""
    first_s: float | None = None
    """Arrival of the first event that carries a token."""
    last_s: float | None = None
    """Arrival of the last event that carries a token."""
    end_s: float
    """End of the answer, or of the attempt."""
    status: int | None = None
    input_tokens: int = 0
    """Server usage, cached ones included."""
    cached_tokens: int = 0
    output_tokens: int = 0
    counted: bool = True
    """By the server. False: it sent no usage, and output was counted by events, input by what was sent."""
    error: str | None = None

    @property
    def ttft_scheduled_s(self) -> float | None:
        return None if self.first_s is None else self.first_s - self.scheduled_s

    @property
    def ttft_sent_s(self) -> float | None:
        return None if self.first_s is None else self.first_s - self.sent_s

    @property
    def tpot_s(self) -> float | None:
        """(last token - first token) / (output tokens - 1); None for fewer than two tokens."""
        if self.first_s is None or self.last_s is None or self.output_tokens < 2:
            return None
        return (self.last_s - self.first_s) / (self.output_tokens - 1)

    @property
    def e2e_scheduled_s(self) -> float:
        return self.end_s - self.scheduled_s

    @property
    def e2e_sent_s(self) -> float:
        return self.end_s - self.sent_s


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the server counted them."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


class Answer(msgspec.Struct, frozen=True):
    """What a stream of events said, read after its end."""

    first_s: float | None
    last_s: float | None
    token_times: tuple[float, ...]
    """Arrival of each event that carries a token."""
    prefill: tuple[tuple[float, int], ...]
    """(arrival, prompt tokens processed so far), from engines that tell their progress."""
    usage: Usage | None
    finished: bool
    """A finish reason came, so the answer is whole."""
    error: str | None


def read_answer(events: list[tuple[float, bytes]]) -> Answer:
    """``events``: arrival and data of each event of an OpenAI-compatible stream, in order."""
    times: list[float] = []
    prefill: list[tuple[float, int]] = []
    usage: Usage | None = None
    finished = False
    error: str | None = None
    for at_s, data in events:
        if data == b"[DONE]":
            continue
        try:
            event = json.loads(data)
        except ValueError:
            error = error or "an event of the stream is not JSON"
            continue
        if "error" in event or "error_code" in event:
            error = error or _message(event)
        if event.get("usage"):
            usage = read_usage(event["usage"])
        progress = event.get("prompt_progress")
        if progress:
            prefill.append((at_s, int(progress.get("processed", 0))))
            continue
        for choice in event.get("choices") or ():
            finished = finished or choice.get("finish_reason") is not None
            if _carries_token(choice):
                times.append(at_s)
    return Answer(
        first_s=times[0] if times else None,
        last_s=times[-1] if times else None,
        token_times=tuple(times),
        prefill=tuple(prefill),
        usage=usage,
        finished=finished,
        error=error,
    )


def _carries_token(choice: dict[str, Any]) -> bool:
    """A completion's token may show as no text (half a character); a chat's first event carries a role and no token."""
    if "text" in choice:
        return bool(choice["text"]) or choice.get("finish_reason") is None
    delta = choice.get("delta") or {}
    return any(delta.get(part) for part in ("content", "reasoning_content", "reasoning", "tool_calls", "refusal"))


def read_usage(usage: dict[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        input_tokens=int(usage.get("prompt_tokens") or 0),
        output_tokens=int(usage.get("completion_tokens") or 0),
        cached_tokens=int(details.get("cached_tokens") or 0),
    )


def _message(event: dict[str, Any]) -> str:
    error = event.get("error")
    text = error.get("message") if isinstance(error, dict) else event.get("message") or error
    return str(text or "the stream carried an error")[:300]
