"""Bytes of answers in OpenAI's shapes, each marked as simulated."""

from __future__ import annotations

import time
from typing import Any

import msgspec

TEXT = " sim"
"""What every token says."""
DONE = b"data: [DONE]\n\n"
FINGERPRINT = "simulated"

_encode = msgspec.json.Encoder().encode


def model_name(name: str) -> str:
    return f"simulated/{name}"


def usage(input_tokens: int, output_tokens: int, cached_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }


def error(message: str, kind: str, param: str | None = None, code: str | None = None) -> bytes:
    return _encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


class Answer:
    """The pieces of one answer."""

    def __init__(self, id: str, model: str, *, chat: bool) -> None:
        self._id = id
        self._model = model_name(model)
        self._chat = chat
        self._created = int(time.time())

    def whole(self, tokens: int, counts: dict[str, Any]) -> bytes:
        text = TEXT * tokens
        content: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": "length"}
        kind = "chat.completion" if self._chat else "text_completion"
        return _encode({**self._head(kind), "choices": [choice], "usage": counts})

    def event(self, *, first: bool = False, last: bool = False) -> bytes:
        """One token. The same bytes for every token but the first and the last."""
        content: dict[str, Any]
        if self._chat:
            content = {"delta": {"role": "assistant", "content": TEXT} if first else {"content": TEXT}}
        else:
            content = {"text": TEXT}
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": "length" if last else None}
        return self._event({"choices": [choice]})

    def usage_event(self, counts: dict[str, Any]) -> bytes:
        return self._event({"choices": [], "usage": counts})

    def _event(self, fields: dict[str, Any]) -> bytes:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        return b"data: %b\n\n" % _encode({**self._head(kind), **fields})

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": FINGERPRINT,
        }
