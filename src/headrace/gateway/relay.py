"""An engine's answer on its way to the client, byte for byte: the raw path.

Events are counted by their borders and never taken apart, but for the one that carries the usage. Only whole events are
passed on, so that this one can be dropped for a client that did not ask for it, or be given a form that it can read.
"""

from __future__ import annotations

import re
from typing import Protocol

from headrace.gateway.meter import BYTES_PER_OUTPUT_TOKEN, HEAD_BYTES, TAIL_BYTES, Meter
from headrace.gateway.usage import UsageShown, shown, usage_of, usage_of_tail, usage_of_whole
from headrace.wire.client import ProtocolError
from headrace.wire.sse import EventSplitter

LARGEST_EVENT_BYTES = 1024 * 1024
"""An engine that sends more without a border is not sending events."""

USAGE_MARK = b'"usage"'
"""An event without it has no usage in it."""

DONE = re.compile(rb"data: ?\[DONE\]\s*\Z")


class Answer(Protocol):
    """Turns what the engine sends into what the client gets; the meter follows it."""

    done: bool
    """What was returned last ends the answer, whatever the connection does after it."""
    begun: bool
    """The answer has begun, although nothing was returned."""
    content_type: bytes | None
    """Of what is returned; None where the engine's holds."""

    def feed(self, data: bytes) -> bytes:
        """What goes to the client of the bytes of one read; ``data`` itself where that is all of them.

        Raises WireError, EngineError.
        """
        ...

    def end(self) -> bytes:
        """The engine has said all; what is left goes to the client. Raises WireError where that cannot be the end."""
        ...


def whole_events(splitter: EventSplitter, data: bytes) -> list[bytes]:
    """The events that are complete now. Raises ProtocolError for one that is larger than any event."""
    events = splitter.feed(data)
    if len(splitter.rest) > LARGEST_EVENT_BYTES:
        raise ProtocolError(f"an event of the engine exceeds {LARGEST_EVENT_BYTES} bytes")
    return events


class RawStream:
    """Events of a well-behaved engine."""

    __slots__ = ("_meter", "_splitter", "_usage", "begun", "content_type", "done")

    def __init__(self, meter: Meter, usage: UsageShown) -> None:
        self.done = self.begun = False
        self.content_type: bytes | None = None
        self._meter = meter
        self._usage = usage
        self._splitter: EventSplitter | None = None
        """There is one while an event is not complete."""

    @property
    def between(self) -> bool:
        """No event is begun and not complete, so that whole ones may go past this (``wire.event_relay``)."""
        return self._splitter is None

    def feed(self, data: bytes) -> bytes:
        """See Answer."""
        # Whole events of JSON, none of them the last or one with the usage: nearly every read.
        if self._splitter is None and data.endswith(b"}\n\n") and data.find(USAGE_MARK) < 0:
            self._meter.count_events(data.count(b"\n\n"))
            return data
        return self._feed(data)

    def _feed(self, data: bytes) -> bytes:
        splitter = self._splitter = self._splitter or EventSplitter()
        events = whole_events(splitter, data)
        if not splitter.rest:
            self._splitter = None
        if not events:
            return b""
        self._meter.count_events(len(events))
        self.done = DONE.search(events[-1]) is not None
        kept = [self._shown(event) for event in events]
        return kept[0] if len(kept) == 1 else b"".join(kept)

    def end(self) -> bytes:
        """See Answer."""
        splitter, self._splitter = self._splitter, None
        return splitter.rest if splitter is not None else b""

    def _shown(self, event: bytes) -> bytes:
        """Read the usage; what the client gets of the event."""
        found = usage_of(event)
        if found is None or found.usage is None:
            return event
        self._meter.take_usage(found.usage)
        return shown(event, found, self._usage)


class RawBody:
    """An answer that is not streamed."""

    __slots__ = ("_generates", "_head", "_meter", "_size", "_tail", "begun", "content_type", "done")

    def __init__(self, meter: Meter, *, generates: bool = True) -> None:
        """``generates`` False: its size says nothing of output tokens."""
        self.done = self.begun = False
        self.content_type: bytes | None = None
        self._generates = generates
        self._meter = meter
        self._head = b""
        """Of an answer in several reads: some engines put the usage before a long list of embeddings."""
        self._tail = b""
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        """See Answer."""
        if not self._size:
            self._tail = data
        else:
            if len(self._head) < HEAD_BYTES:
                self._head = ((self._head or self._tail) + data)[:HEAD_BYTES]
            self._tail = (self._tail + data)[-TAIL_BYTES:]
        self._size += len(data)
        return data

    def end(self) -> bytes:
        """See Answer."""
        meter, tail = self._meter, self._tail
        whole = self._size == len(tail)
        usage = usage_of_whole(tail) if whole else usage_of_tail(tail) or usage_of_tail(self._head)
        if usage is not None:
            meter.take_usage(usage)
        if not meter.exact and self._generates:
            meter.output_tokens = round(self._size / BYTES_PER_OUTPUT_TOKEN)
        return b""
