"""Null mode: the same bytes for every generation, at once, for as little CPU as an HTTP answer takes.

For measuring what stands in front of a replica. The request is not parsed; whether it wants a stream, and usage in it,
is read from the bytes.
"""

from __future__ import annotations

import re

from headrace.engines.simulated import answers
from headrace.engines.simulated.answers import Answer
from headrace.engines.simulated.api import JSON, STREAM
from headrace.engines.simulated.arguments import Arguments
from headrace.wire.server import Exchange

_STREAM = re.compile(rb'"stream"\s*:\s*true')
_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
INPUT_TOKENS = 1
"""Of every request, whatever it says."""


class NullAnswers:
    """All four shapes, encoded once."""

    def __init__(self, model: str, args: Arguments) -> None:
        self._whole: dict[bool, bytes] = {}
        self._events: dict[bool, bytes] = {}
        self._usage: dict[bool, bytes] = {}
        counts = answers.usage(INPUT_TOKENS, args.null_events, 0)
        last = args.null_events - 1
        for chat in (False, True):
            answer = Answer("sim-null", model, chat=chat)
            self._whole[chat] = answer.whole(args.null_events, counts)
            self._events[chat] = b"".join(answer.event(first=i == 0, last=i == last) for i in range(last + 1))
            self._usage[chat] = answer.usage_event(counts)

    def generate(self, exchange: Exchange, chat: bool) -> None:
        body = exchange.request.body
        if not _STREAM.search(body):
            exchange.respond(200, JSON, self._whole[chat])
            return
        usage = self._usage[chat] if _USAGE.search(body) else b""
        exchange.start(200, STREAM)
        exchange.write(self._events[chat] + usage + answers.DONE)
        exchange.finish()
