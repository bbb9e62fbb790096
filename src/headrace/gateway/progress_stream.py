"""The stream of an engine that must be asked for progress, or it cannot be cancelled in prefill: the slower path.

Progress events are not content: they go no further, and are no first byte. What they tell of the prompt, and what the
timings of each event tell of the output, makes the account of a cancelled stream exact: events are not tokens there, as
a character may need several and a stop text may hold some back.
"""

from __future__ import annotations

import re

import msgspec

from headrace.gateway.engine_error import error_in_event
from headrace.gateway.meter import Meter
from headrace.gateway.relay import DONE, whole_events
from headrace.gateway.usage import UsageShown, shown, usage_of
from headrace.wire.client import ConnectionLost
from headrace.wire.sse import EventSplitter

_PROGRESS = b'"prompt_progress":{'
_TIMINGS = b',"timings":{'
_PREDICTED = re.compile(rb'"predicted_n":(\d+)')


class _Prefill(msgspec.Struct):
    total: int
    cache: int = 0
    processed: int = 0


class _ProgressEvent(msgspec.Struct):
    prompt_progress: _Prefill


_progress_event: msgspec.json.Decoder[_ProgressEvent] = msgspec.json.Decoder(_ProgressEvent)


class ProgressStream:
    """See ``relay.Answer``."""

    def __init__(self, meter: Meter, usage: UsageShown) -> None:
        self.done = self.begun = False
        self.content_type: bytes | None = None
        self._meter = meter
        self._usage = usage
        self._splitter = EventSplitter()

    def feed(self, data: bytes) -> bytes:
        """Whole events, without those that are for us alone. Raises WireError, EngineError."""
        events = whole_events(self._splitter, data)
        kept = b"".join(map(self._clean, events))
        self.done = bool(events) and DONE.search(events[-1]) is not None
        return kept

    def end(self) -> bytes:
        """Raises ConnectionLost where the end mark has not come: this engine ends its streams with one."""
        if not self.done:
            raise ConnectionLost("the engine ended the stream without its end mark")
        return b""

    def _clean(self, event: bytes) -> bytes:
        """The event for the client, or nothing."""
        meter = self._meter
        if _PROGRESS in event:
            self._prefill(event)
            return b""
        error = error_in_event(event)
        if error is not None:
            raise error
        found = usage_of(event)
        if found is not None and found.usage is not None:
            meter.take_usage(found.usage)
            event = shown(event, found, self._usage)
        elif not meter.exact:
            meter.output_tokens += 1
        return self._without_timings(event)

    def _prefill(self, event: bytes) -> None:
        try:
            prefill = _progress_event.decode(event.strip().removeprefix(b"data:")).prompt_progress
        except msgspec.DecodeError:
            return
        self._meter.input_tokens = prefill.total
        self._meter.cached_tokens = prefill.cache
        self._meter.processed_tokens = prefill.processed

    def _without_timings(self, event: bytes) -> bytes:
        """They are the last member and hold only numbers. In a text their quotes would be escaped."""
        begin = event.rfind(_TIMINGS)
        if begin < 0:
            return event
        predicted = _PREDICTED.search(event, begin)
        if predicted is not None and not self._meter.exact:
            self._meter.output_tokens = int(predicted[1])
        end = event.index(b"}", begin) + 1
        return event[:begin] + event[end:]
