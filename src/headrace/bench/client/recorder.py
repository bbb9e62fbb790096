"""From a request whose fate is known to its record."""

from __future__ import annotations

from headrace.bench.client.flight import NEVER, Flight
from headrace.bench.client.record_file import RecordWriter
from headrace.bench.client.tokens import tokens_of
from headrace.bench.client.verdict import verdict


class Recorder:
    def __init__(self, writer: RecordWriter, zero: float, process: int, key: str | None, *, forced: bool) -> None:
        """``zero``: of the run's clock, by ``time.monotonic``. ``forced``: exactly the asked output is expected."""
        self._writer = writer
        self._zero = zero
        self._process = process
        self._key = key
        self._forced = forced

    def record(self, flight: Flight) -> None:
        outcome, words = verdict(flight)
        if words is not None and self._key:
            words = words.replace(self._key, "***")  # some servers repeat the key that they do not like
        answer, head, zero = flight.answer, flight.head, self._zero
        times: list[float] = []
        tokens: list[int] = []
        counted = False
        input_tokens, cached_tokens, tokens_from = flight.asked_input, 0, 0
        output_tokens = 0
        if answer is not None:
            times = answer.times
            tokens, tokens_from = tokens_of(answer)
            output_tokens = sum(tokens)
            if answer.usage is not None:
                counted = True
                input_tokens, output_tokens = answer.usage.input_tokens, answer.usage.output_tokens
                cached_tokens = answer.usage.cached_tokens
        streamed = head is not None and head.is_stream
        self._writer.add(
            (
                flight.number,
                self._process,
                outcome,
                flight.measured,
                0 if head is None else head.status,
                flight.retries,
                counted,
                flight.new_connection,
                flight.scheduled - zero,
                flight.sent - zero,
                flight.first_byte - zero,
                times[0] - zero if times and streamed else NEVER,
                times[-1] - zero if times else NEVER,
                flight.end - zero,
                flight.asked_input,
                flight.asked_output if self._forced else -1,
                input_tokens,
                cached_tokens,
                output_tokens,
                len(times),
                tokens_from,
            ),
            times,
            tokens,
            words,
        )
