"""One JSON answer out of a stream, for a client that did not ask for one from an engine that must be streamed.

After OpenAI's rules: a delta's texts are appended, its tool calls merged by index, its log-probabilities appended; of
everything else the last value counts.
"""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.gateway.meter import Meter
from headrace.gateway.progress_stream import ProgressStream
from headrace.gateway.usage import UsageShown
from headrace.wire.client import ProtocolError

_OBJECTS = {"chat.completion.chunk": "chat.completion"}


class Assembly:
    """Feed it whole events; ``body`` is the answer when they have ended."""

    def __init__(self) -> None:
        self._top: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._usage: Any = None

    def feed(self, events: bytes) -> None:
        """Raises ValueError for an event that is not JSON."""
        for event in events.split(b"\n\n"):
            data = event.strip().removeprefix(b"data:").strip()
            if not data or data == b"[DONE]":
                continue
            members: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
            choices = members.pop("choices", None) or ()
            self._usage = members.pop("usage", None) or self._usage
            self._top.update(members)
            for choice in choices:
                self._take(choice)

    def _take(self, choice: dict[str, Any]) -> None:
        index = choice.pop("index", 0)
        whole = self._choices.setdefault(index, {"index": index})
        delta = choice.pop("delta", None)
        if delta is not None:
            _merge(whole.setdefault("message", {"role": "assistant", "content": None}), delta)
        if "text" in choice:
            whole["text"] = whole.get("text", "") + (choice.pop("text") or "")
        logprobs = choice.pop("logprobs", None)
        if logprobs is not None:
            known = whole.get("logprobs") or {}
            whole["logprobs"] = known
            for name, values in logprobs.items():
                known[name] = (known.get(name) or []) + values if isinstance(values, list) else values
        whole.setdefault("logprobs", None)
        for name, value in choice.items():
            if value is not None or name not in whole:
                whole[name] = value

    def body(self) -> bytes:
        choices = [self._choices[index] for index in sorted(self._choices)]
        kind = self._top.get("object")
        answer = {**self._top, "object": _OBJECTS.get(kind, kind) if isinstance(kind, str) else kind}
        answer["choices"] = choices
        if self._usage is not None:
            answer["usage"] = self._usage
        return msgspec.json.encode(answer)


class AssembledStream:
    """See ``relay.Answer``: nothing until the stream has ended, and then all at once."""

    def __init__(self, meter: Meter) -> None:
        self.done = self.begun = False
        self.content_type: bytes | None = b"application/json"
        self._stream = ProgressStream(meter, UsageShown.AS_IT_COMES)
        self._assembly = Assembly()

    def feed(self, data: bytes) -> bytes:
        """Raises WireError, EngineError."""
        events = self._stream.feed(data)
        if not events:
            return b""
        self.begun = True
        try:
            self._assembly.feed(events)
        except (msgspec.DecodeError, TypeError, AttributeError) as error:
            raise ProtocolError(f"an event of the engine is not one of a chat or completion: {error}") from None
        self.done = self._stream.done
        return self._assembly.body() if self.done else b""

    def end(self) -> bytes:
        """See ``ProgressStream.end``."""
        return self._stream.end()


def _merge(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if value is None:
            message.setdefault(name, None)
        elif name == "tool_calls":
            calls = message.setdefault("tool_calls", [])
            for call in value:
                _merge_call(calls, call)
        elif isinstance(value, str) and name != "role":
            message[name] = (message.get(name) or "") + value
        else:
            message[name] = value


def _merge_call(calls: list[dict[str, Any]], part: dict[str, Any]) -> None:
    """A part of a tool call: the first one names it, the others append to its arguments."""
    index = part.pop("index", len(calls))
    while len(calls) <= index:
        calls.append({"function": {"arguments": ""}})
    call = calls[index]
    for name, value in (part.pop("function", None) or {}).items():
        if name == "arguments":
            call["function"]["arguments"] += value or ""
        elif value is not None:
            call["function"][name] = value
    call.update({name: value for name, value in part.items() if value is not None})
