"""Server-sent events by their borders only: an event ends at the first blank line. Nothing in it is looked at."""

from __future__ import annotations

import re

_END = re.compile(rb"\n\r?\n")


class EventSplitter:
    """Whole events from pieces of a stream, however it was cut."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    @property
    def rest(self) -> bytes:
        """The event that is not complete."""
        return self._rest

    def feed(self, data: bytes) -> list[bytes]:
        """Events that are complete now, each with the blank line that ends it (``LF LF`` or ``CR LF CR LF``)."""
        known = len(self._rest)
        buffer = self._rest + data
        events: list[bytes] = []
        begin = 0
        for match in _END.finditer(buffer, max(0, known - 2)):
            events.append(buffer[begin : match.end()])
            begin = match.end()
        self._rest = buffer[begin:]
        return events


class EventCounter:
    """How many events have ended, without taking the stream apart: for bytes that go through as they are."""

    __slots__ = ("_tail", "count")

    def __init__(self) -> None:
        self.count = 0
        self._tail = b""  # the beginning of a border, perhaps

    def feed(self, data: bytes) -> int:
        """Events that end in this piece."""
        buffer = self._tail + data
        ended = 0
        begin = 0
        for match in _END.finditer(buffer):
            ended += 1
            begin = match.end()
        self._tail = buffer[max(begin, len(buffer) - 2) :]
        self.count += ended
        return ended
