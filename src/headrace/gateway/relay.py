"""An engine's answer on its way to the client, byte for byte: the raw path.

Events are counted by their borders and never taken apart, but for the one that carries the usage. Only whole events are
passed on, so that this one can be dropped for a client that did not ask for it.
"""

from __future__ import annotations

import re
from typing import Protocol

import msgspec

from headrace.gateway.meter import BYTES_PER_OUTPUT_TOKEN, TAIL_BYTES, USAGE, Meter, Usage
from headrace.wire.client import ProtocolError, Response
from headrace.wire.sse import EventSplitter

LARGEST_EVENT_BYTES = 1024 * 1024
"""An engine that sends more without a border is not sending events."""

DONE = re.compile(rb"data: ?\[DONE\]\s*\Z")


class Answer(Protocol):
    """What the client is to be sent, piece by piece; the meter follows it."""

    done: bool
    """The piece that was returned last ends the answer, whatever the connection does after it."""

    async def piece(self) -> bytes:
        """The next bytes for the client, none at the end. Raises WireError, EngineError."""
        ...


class UsageEvent(msgspec.Struct):
    usage: Usage | None = None
    choices: list[msgspec.Raw] = []


_usage_event: msgspec.json.Decoder[UsageEvent] = msgspec.json.Decoder(UsageEvent)


def usage_of(event: bytes) -> UsageEvent | None:
    """The event's usage, where it has one."""
    if USAGE.search(event) is None:
        return None
    try:
        found = _usage_event.decode(event.strip().removeprefix(b"data:"))
    except msgspec.DecodeError:
        return None
    return found if found.usage is not None else None


class RawStream:
    """Events of a well-behaved engine."""

    def __init__(self, response: Response, meter: Meter, *, keep_usage: bool) -> None:
        self.done = False
        self._response = response
        self._meter = meter
        self._keep_usage = keep_usage
        self._splitter = EventSplitter()

    async def piece(self) -> bytes:
        """See Answer."""
        async for data in self._response:
            events = self._splitter.feed(data)
            if len(self._splitter.rest) > LARGEST_EVENT_BYTES:
                raise ProtocolError(f"an event of the engine exceeds {LARGEST_EVENT_BYTES} bytes")
            if not events:
                continue
            whole = events[0] if len(events) == 1 else b"".join(events)
            if not self._meter.exact:
                self._meter.output_tokens += len(events)
            if USAGE.search(whole) is not None:
                whole = b"".join(event for event in events if not self._takes(event))
            self.done = DONE.search(events[-1]) is not None
            if whole:
                return whole
        rest, self._splitter = self._splitter.rest, EventSplitter()
        return rest

    def _takes(self, event: bytes) -> bool:
        """Read the usage; whether the event is for us alone."""
        found = usage_of(event)
        if found is None or found.usage is None:
            return False
        self._meter.take_usage(found.usage)
        return not self._keep_usage and not found.choices


class RawBody:
    """An answer that is not streamed."""

    def __init__(self, response: Response, meter: Meter) -> None:
        self.done = False
        self._response = response
        self._meter = meter
        self._tail = b""
        self._size = 0

    async def piece(self) -> bytes:
        """See Answer."""
        async for data in self._response:
            self._size += len(data)
            self._tail = (self._tail + data)[-TAIL_BYTES:]
            if self._response.complete:
                self._end()
            return data
        self._end()
        return b""

    def _end(self) -> None:
        if self.done:
            return
        self.done = True
        if not self._meter.take_tail(self._tail):
            self._meter.output_tokens = round(self._size / BYTES_PER_OUTPUT_TOKEN)
