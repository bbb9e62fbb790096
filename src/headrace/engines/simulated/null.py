"""Null mode: the same text for every generation, for as little CPU as an HTTP answer takes.

For measuring what stands in front of a replica. The request is not parsed; whether it wants a stream, usage in it, and
how many tokens, is read from the bytes. A stream is one write, or, with ``null_interval_ms``, one write an event, so
that every event reaches its reader alone.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque

from headrace.engines.simulated import answers
from headrace.engines.simulated.answers import Answer
from headrace.engines.simulated.api import JSON, STREAM
from headrace.engines.simulated.arguments import Arguments
from headrace.wire.server import Exchange

_STREAM = re.compile(rb'"stream"\s*:\s*true')
_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_TOKENS = re.compile(rb'"max_(?:completion_)?tokens"\s*:\s*([1-9][0-9]{0,5})\b')
INPUT_TOKENS = 1
"""Of every request, whatever it says."""


class NullAnswers:
    """The pieces of all answers, encoded once; as many tokens as a request allows, or ``null_events``."""

    def __init__(self, model: str, args: Arguments) -> None:
        self._answers = {chat: Answer("sim-null", model, chat=chat) for chat in (False, True)}
        self._events = {
            chat: (answer.event(first=True), answer.event(), answer.event(last=True))
            for chat, answer in self._answers.items()
        }
        self._only = {chat: answer.event(first=True, last=True) for chat, answer in self._answers.items()}
        self._tokens = args.null_events
        self._whole: dict[tuple[bool, int], bytes] = {}
        self._pace = Pace(args.null_interval_ms / 1000) if args.null_interval_ms else None

    def generate(self, exchange: Exchange, chat: bool) -> None:
        body = exchange.request.body
        asked = _TOKENS.search(body)
        tokens = self._tokens if asked is None else int(asked[1])
        if not _STREAM.search(body):
            exchange.respond(200, JSON, self._whole_answer(chat, tokens))
            return
        usage = self._usage(chat, tokens) if _USAGE.search(body) else b""
        exchange.start(200, STREAM)
        if tokens == 1:
            exchange.write(self._only[chat] + usage + answers.DONE)
            exchange.finish()
            return
        first, middle, last = self._events[chat]
        end = last + usage + answers.DONE
        if self._pace is None:
            exchange.write(first + middle * (tokens - 2) + end)
            exchange.finish()
        else:
            exchange.write(first)
            self._pace.send(exchange, middle, tokens - 2, end)

    def _whole_answer(self, chat: bool, tokens: int) -> bytes:
        found = self._whole.get((chat, tokens))
        if found is None:
            if len(self._whole) >= 64:  # a load asks for one or two lengths
                self._whole.clear()
            counts = answers.usage(INPUT_TOKENS, tokens, 0)
            found = self._whole[chat, tokens] = self._answers[chat].whole(tokens, counts)
        return found

    def _usage(self, chat: bool, tokens: int) -> bytes:
        return self._answers[chat].usage_event(answers.usage(INPUT_TOKENS, tokens, 0))


class _Paced:
    """A stream on its schedule."""

    __slots__ = ("due", "end", "exchange", "left", "middle")

    def __init__(self, exchange: Exchange, middle: bytes, left: int, end: bytes, due: float) -> None:
        self.exchange = exchange
        self.middle = middle
        self.left = left
        self.end = end
        self.due = due


class Pace:
    """One event of every stream each interval, counted from the stream's own start, by one timer for all.

    The schedule is absolute: an event that a busy loop sends late does not delay those after it. All streams have the
    same interval, so the order in which they were served is the order in which they are due, and no heap is needed.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._loop = asyncio.get_running_loop()
        self._streams: deque[_Paced] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def send(self, exchange: Exchange, middle: bytes, count: int, end: bytes) -> None:
        """``middle`` so many times, then ``end``; the first of them an interval from now."""
        self._streams.append(_Paced(exchange, middle, count, end, self._loop.time() + self._interval_s))
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is None and self._streams:
            self._timer = self._loop.call_at(self._streams[0].due, self._serve)

    def _serve(self) -> None:
        streams, now = self._streams, self._loop.time()
        while streams and streams[0].due <= now:
            stream = streams.popleft()
            if stream.exchange.finished:
                continue  # the client has left
            if not stream.left:
                stream.exchange.write(stream.end)
                stream.exchange.finish()
                continue
            stream.exchange.write(stream.middle)
            stream.left -= 1
            stream.due += self._interval_s
            streams.append(stream)
        self._timer = None
        self._schedule()
