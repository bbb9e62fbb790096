"""Requests made ahead of their time, so that making one delays no sending."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

from headrace.bench.client.flight import Flight
from headrace.bench.client.spec import Origin
from headrace.bench.workload.envelope import Request
from headrace.bench.workload.source import Workload

_AHEAD = 64
_AT_ONCE = 4
_BYTES_AHEAD = 4 << 20
"""Of large prompts, fewer are made ahead."""


class Prepared:
    """The requests with these numbers, in this order."""

    def __init__(
        self,
        workload: Workload,
        numbers: Iterator[int],
        origin: Origin,
        key: str | None,
        *,
        stream: bool,
        texts: bool = False,
    ) -> None:
        """``texts``: what the answers say is wanted."""
        self._loop = asyncio.get_running_loop()
        self._workload = workload
        self._numbers = numbers
        self._origin = origin
        self._stream = stream
        self._texts = texts
        accept = "text/event-stream" if stream else "application/json"
        fields = f"host: {origin.authority}\r\ncontent-type: application/json\r\naccept: {accept}\r\n"
        if key is not None:
            fields += f"authorization: Bearer {key}\r\n"
        self._fields = f"{fields}content-length: "
        self._heads: dict[str, bytes] = {}  # by path, up to the length
        self._ready: deque[Flight] = deque()
        self._bytes = 0
        self._refilling = False

    def fill(self) -> None:
        while self._lacks and self._make():
            pass

    def take(self) -> Flight | None:
        """The next; None after the last number."""
        if not self._ready and not self._make():
            return None
        flight = self._ready.popleft()
        self._bytes -= len(flight.payload)
        if not self._refilling:
            self._refilling = True
            self._loop.call_soon(self._refill)
        return flight

    @property
    def _lacks(self) -> bool:
        return len(self._ready) < _AHEAD and self._bytes < _BYTES_AHEAD

    def _refill(self) -> None:
        """A few in each round of the loop, so that after a burst answers are timed in between."""
        made = 0
        while made < _AT_ONCE and self._lacks and self._make():
            made += 1
        self._refilling = made == _AT_ONCE
        if self._refilling:
            self._loop.call_soon(self._refill)

    def _make(self) -> bool:
        number = next(self._numbers, None)
        if number is None:
            return False
        flight = self.flight(number, self._workload.request(number))
        self._bytes += len(flight.payload)
        self._ready.append(flight)
        return True

    def flight(self, number: int, request: Request) -> Flight:
        """Ready to be sent."""
        path, body, input_tokens, output_tokens = request
        head = self._heads.get(path)
        if head is None:
            head = self._heads[path] = f"POST {self._origin.base}{path} HTTP/1.1\r\n{self._fields}".encode("ascii")
        return Flight(
            number=number,
            payload=b"%b%d\r\n\r\n%b" % (head, len(body), body),
            asked_stream=self._stream,
            asked_input=-1 if input_tokens is None else input_tokens,
            asked_output=-1 if output_tokens is None else output_tokens,
            text_wanted=self._texts,
        )
