"""Answers, read from the bytes of their bodies after these have been timed."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod

import msgspec

from headrace.bench.client.event import Event, Usage, decode, message, read_usage
from headrace.wire.errors import ProtocolError

LONGEST_EVENT = 1 << 20
"""Bytes without the end of an event."""
LONGEST_BODY = 16 << 20
"""Bytes of an answer that is no stream."""
LONGEST_ERROR_BODY = 64 << 10
MOST_EVENTS = 1_000_000
"""Of one stream: no context is longer."""
_TEXT = re.compile(rb'"(?:content|text|reasoning_content|reasoning)"\s*:\s*"([^"\\]+)"')


class Answer(ABC):
    """What an answer has said so far."""

    __slots__ = ("deltas", "done", "error", "finished", "listed", "times", "usage")

    def __init__(self) -> None:
        self.times: list[float] = []
        """Arrival of each event that carries a token."""
        self.listed: dict[int, int] = {}
        """Tokens of the events that list theirs, by their place in ``times``."""
        self.deltas: dict[int, int] = {}
        """What usage rose by with an event, where it came with it."""
        self.usage: Usage | None = None
        self.finished = False
        """A finish reason came."""
        self.done = False
        """The mark of a stream's end came."""
        self.error: str | None = None
        """In the server's words, or about what cannot be read."""

    @abstractmethod
    def feed(self, body: bytes, at: float) -> None:
        """Bytes that arrived at this time. Raises ProtocolError for more than can be kept."""

    @abstractmethod
    def end(self, at: float) -> None:
        """The body ended at this time."""


class StreamAnswer(Answer):
    """A stream of events. Most of them differ from their neighbours in their text alone, so that the bytes around it,
    once known, tell that it is a token; only the others are decoded."""

    __slots__ = ("_after", "_before", "_begin", "_border", "_end", "_rest")

    def __init__(self) -> None:
        super().__init__()
        self._rest = b""
        self._before = b"\n\n"  # what stands before the text of an event; this is in none
        self._after = b"\n\n"
        self._border = b"\n\n"
        """``_after`` and the end of the event."""
        self._begin = self._end = 0
        """Of the text: bytes after the event's first, and (negative) from its end."""

    def feed(self, body: bytes, at: float) -> None:
        if not self._rest and body.startswith(self._before) and body.endswith(self._border):
            text = body[self._begin : self._end - 2]
            if text and b'"' not in text:
                self.times.append(at)  # one event: nearly always so, where the reader keeps up with the server
                return
        if self._rest:
            body = self._rest + body
        if b"\r" in body:
            body = body.replace(b"\r\n", b"\n")
        events = body.split(b"\n\n")
        self._rest = events.pop()
        before, after, begin, end = self._before, self._after, self._begin, self._end
        for event in events:
            if event.startswith(before) and event.endswith(after) and (text := event[begin:end]) and b'"' not in text:
                self.times.append(at)
            else:
                self._read(event, at)
                before, after, begin, end = self._before, self._after, self._begin, self._end
        if len(self._rest) > LONGEST_EVENT:
            raise ProtocolError(f"an event of the stream does not end within {LONGEST_EVENT >> 20} MiB")
        if len(self.times) > MOST_EVENTS:
            raise ProtocolError(f"the stream does not end within {MOST_EVENTS} events")

    def end(self, at: float) -> None:
        if self._rest:  # some servers leave the last blank line out
            rest, self._rest = self._rest, b""
            self._read(rest, at)

    def _read(self, event: bytes, at: float) -> None:
        data = event[6:].strip() if event.startswith(b"data: ") and b"\n" not in event else _data(event)
        if data == b"[DONE]":
            self.done = True
            return
        if not data:
            if event.lstrip().startswith(b"{"):
                self.error = self.error or "the stream holds JSON outside of events"
            return  # a comment, or a keep-alive
        try:
            said = decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.error = self.error or "an event of the stream is not JSON as the API has it"
            return
        if said.error is not None or said.error_code is not None:
            self.error = self.error or message(said)
        told_before = self.usage is not None
        rise = self._count(said)
        shows = False
        for choice in said.choices or () if said.prompt_progress is None else ():
            self.finished = self.finished or choice.finish_reason is not None
            shows = shows or choice.shows
        if shows or (told_before and rise > 0 and said.choices):
            place = len(self.times)
            self.times.append(at)
            self._note(said, place, rise)
            if self.usage is None and not self.finished and place not in self.listed:
                self._learn(event)

    def _count(self, said: Event) -> int:
        """What usage has risen by with this event."""
        usage = read_usage(said.usage)
        if usage is None:
            return 0
        known, self.usage = self.usage, usage
        return usage.output_tokens - (0 if known is None else known.output_tokens)

    def _note(self, said: Event, place: int, rise: int) -> None:
        if rise > 0:
            self.deltas[place] = rise
        counts = [choice.listed for choice in said.choices or ()]
        if any(counts):
            self.listed[place] = sum(count or 0 for count in counts)

    def _learn(self, event: bytes) -> None:
        texts = list(_TEXT.finditer(event))
        if len(texts) == 1 and event.startswith(b"data:") and b"\n" not in event:
            begin, end = texts[0].span(1)
            self._before, self._after = event[:begin], event[end:]
            self._border = self._after + b"\n\n"
            self._begin, self._end = begin, end - len(event)


class KeptAnswer(StreamAnswer):
    """A stream whose text is wanted, once it has ended."""

    __slots__ = ("_bodies",)

    def __init__(self) -> None:
        super().__init__()
        self._bodies: list[bytes] = []

    def feed(self, body: bytes, at: float) -> None:
        self._bodies.append(body)
        super().feed(body, at)

    @property
    def text(self) -> str:
        """What the model said in its first choice; reads the whole stream again."""
        said = []
        for event in b"".join(self._bodies).replace(b"\r\n", b"\n").split(b"\n\n"):
            data = _data(event)
            if not data or data == b"[DONE]":
                continue
            for choice in (decode(data).choices or ())[:1]:
                content = choice.delta.content if choice.delta is not None else choice.text
                said.append(content if isinstance(content, str) else "")
        return "".join(said)


def _data(event: bytes) -> bytes:
    return b"\n".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))


class WholeAnswer(Answer):
    """One JSON body, whether an answer or an error."""

    __slots__ = ("_limit", "_pieces", "_size")

    def __init__(self, limit: int = LONGEST_BODY) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._size = 0
        self._limit = limit

    def feed(self, body: bytes, at: float) -> None:
        self._size += len(body)
        if self._size > self._limit:
            raise ProtocolError(f"the body of the answer exceeds {self._limit >> 10} KiB")
        self._pieces.append(body)

    def end(self, at: float) -> None:
        body = b"".join(self._pieces)
        self._pieces.clear()
        try:
            said = decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.error = body[:200].decode(errors="replace").strip() or "no body"
            return
        if said.error is not None or said.error_code is not None or not said.choices:
            self.error = message(said)
            return
        self.usage = read_usage(said.usage)
        self.finished = True
        self.times.append(at)
        listed = [choice.listed for choice in said.choices]
        if any(listed):
            self.listed[0] = sum(count or 0 for count in listed)
