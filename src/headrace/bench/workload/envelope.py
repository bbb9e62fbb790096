"""What a body says beside its prompt: the model, how the answer is to come, and how long it is to be."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from headrace.bench.errors import BenchError
from headrace.bench.workload.spec import Content

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"

_OURS = {"model", "prompt", "messages", "stream", "stream_options", "max_tokens", "ignore_eos"}


class Request(NamedTuple):
    """One request, ready to be sent with POST."""

    path: str
    body: bytes
    input_tokens: int | None
    """None: not known before the server counts them."""
    output_tokens: int | None
    """Forced, or (where ``force_length`` is off) the limit. None: the model decides."""


class Envelope:
    """Encodes bodies. Bodies of prompts made here are joined from parts that were encoded once."""

    def __init__(self, model: str, content: Content) -> None:
        """Raises BenchError where ``extra`` says what other settings say, or what JSON cannot."""
        if both := sorted(_OURS & content.extra.keys()):
            raise BenchError(
                f"extra fields of the body name {', '.join(both)}; expected none that the load sets itself"
            )
        self._content = content
        self._fields: dict[str, Any] = {"model": model}
        if content.stream:
            self._fields |= {"stream": True, "stream_options": {"include_usage": True}}
        try:
            made = msgspec.json.encode(self._fields | {"temperature": 0} | content.extra)
        except (TypeError, ValueError) as error:
            raise BenchError(f"extra fields of the body are not JSON ({error}); expected a JSON object") from None
        force = b',"ignore_eos":true' if content.force_length else b""
        self._start = made[:-1] + force + b',"max_tokens":'
        self.completions_path = content.path or COMPLETIONS
        self.chat_path = content.path or CHAT

    def ids(self, ids: bytes, output_tokens: int) -> bytes:
        """A completion of token ids, each followed by a comma."""
        return b'%b%d,"prompt":[%b]}' % (self._start, output_tokens, ids[:-1])

    def text(self, text: bytes, output_tokens: int) -> bytes:
        """A completion of a text as it stands in JSON."""
        return b'%b%d,"prompt":"%b"}' % (self._start, output_tokens, text)

    def chat(self, text: bytes, output_tokens: int) -> bytes:
        """A chat of one message, as it stands in JSON."""
        return b'%b%d,"messages":[{"role":"user","content":"%b"}]}' % (self._start, output_tokens, text)

    def given(self, fields: dict[str, Any], output_tokens: int | None) -> dict[str, Any]:
        """A body of a dataset's own fields: what it says stays, but for the model and the stream. ``output_tokens``
        goes in where it says no length itself."""
        own = {name: value for name, value in fields.items() if name not in ("model", "stream", "stream_options")}
        if not {"max_tokens", "max_completion_tokens"} & own.keys() and output_tokens is not None:
            own["max_tokens"] = output_tokens
        if self._content.force_length and asked_output(own) is not None:
            own.setdefault("ignore_eos", True)
        return self._fields | own | self._content.extra


def asked_output(body: dict[str, Any]) -> int | None:
    """The output length that a body asks for."""
    asked = body.get("max_completion_tokens", body.get("max_tokens"))
    return asked if isinstance(asked, int) else None
