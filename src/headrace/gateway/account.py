"""The books of one request: limiter, journal and access log, each told once and in the right order."""

from __future__ import annotations

import asyncio
import time

from headrace.gateway.access import AccessLine
from headrace.gateway.call import Call
from headrace.gateway.meter import Meter
from headrace.gateway.outbox import Outbox
from headrace.journal.records import Progress, Rejected, Reserved, Settled
from headrace.journal.writer import JournalError
from headrace.policy.endpoint import Ask, Dispatch, Outcome, Refuse

STREAM_S = 0.2
"""How often a stream's progress reaches the limiter."""
PROGRESS_S = 1.0
"""How often it reaches the journal: what a kill -9 can lose of a stream."""

CLIENT_CLOSED = 499
"""The status in logs and journal where the client left first."""


class Account:
    """Made when the request has been understood; ended by ``settle`` (it was dispatched) or ``refuse`` (it was not)."""

    def __init__(self, line: AccessLine, outbox: Outbox, call: Call, arrived: float) -> None:
        """``arrived``: loop time. ``line`` is filled in, not written."""
        self._loop = asyncio.get_running_loop()
        self._line = line
        self._outbox = outbox
        self._call = call
        self._entity = call.endpoint.entity
        self._sequence = 0
        self._streamed_at = self._progressed_at = arrived
        self._queue_s = 0.0
        self._in_flight = False
        """It holds a slot in the core."""
        self._reserved = False
        """The journal knows it, and waits for its end."""
        self.rid = line.id
        self.endpoint = call.endpoint
        self.arrived = arrived
        self.arrived_ms = int((time.time() - (self._loop.time() - arrived)) * 1000)
        self.meter = Meter()

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Of every answer of an endpoint."""
        return [
            (b"x-request-id", self.rid.encode()),
            (b"served-model-name", self._entity.name.encode()),
            *self.endpoint.limit_headers(),
        ]

    def ask(self) -> Ask:
        """The request as admission sees it."""
        call = self._call
        return Ask(
            rid=self.rid,
            key=call.key.id,
            band=call.band,
            input_tokens=call.limits.input_estimate,
            max_output=call.limits.max_output,
            predicted_output=self.endpoint.core.predict_output(call.key.id, call.limits.max_output),
            retry=call.retry,
        )

    def reserve(self, dispatch: Dispatch) -> None:
        """The request goes to a replica. Raises JournalError: then it must not, and it has lost its slot."""
        self._in_flight = True
        self._queue_s = dispatch.queued_s
        self._line.replica = dispatch.replica
        self.meter = Meter()
        self._entity = self.endpoint.entity  # an update may have come while it waited
        call, now = self._call, self._loop.time()
        self._streamed_at = self._progressed_at = now
        record = Reserved(
            rid=self.rid,
            seq=self._next(),
            at_ms=self._wall_ms(now),
            arrived_ms=self.arrived_ms,
            endpoint=self.endpoint.view.id,
            endpoint_name=self.endpoint.view.name,
            entity=self._entity.id,
            config_version=self._entity.config_version,
            key=call.key.id,
            replica=dispatch.replica,
            band=call.band,
            stream=call.body.streams,
            input_estimate=call.limits.input_estimate,
            max_output=call.limits.max_output,
            work_reserved=dispatch.work,
            client_request_id=call.body.client_request_id or None,
            usage_context=call.body.usage_context or None,
            user=call.body.user,
        )
        try:
            self._outbox.reserve(record)
        except JournalError:
            self._release(0, 0, 0, "refused")
            raise
        self._reserved = True

    def first_byte(self) -> None:
        """The first byte of content has come."""
        self.meter.first_byte_at = self._loop.time()

    def lost(self) -> None:
        """Its replica is lost; the core has it in its queue again."""
        self._in_flight = False

    def advance(self) -> None:
        """The answer has come further; limiter and journal hear of it at their own intervals."""
        now = self._loop.time()
        if not self._in_flight or now - self._streamed_at < STREAM_S:
            return
        self._streamed_at = now
        meter = self.meter
        self.endpoint.stream(self.rid, meter.input_tokens, meter.output_tokens)
        if now - self._progressed_at >= PROGRESS_S:
            self._progressed_at = now
            self._outbox.note(
                Progress(
                    rid=self.rid,
                    seq=self._next(),
                    at_ms=self._wall_ms(now),
                    output_tokens=meter.output_tokens,
                    input_tokens=meter.input_tokens,
                )
            )

    def settle(self, status: int, outcome: Outcome) -> None:
        """The request has ended. The first call counts; one that was never reserved leaves only its access line."""
        now = self._loop.time()
        line = self._line
        if line.status:
            return
        line.status = status
        line.e2e_ms = _milliseconds(now - self.arrived)
        if not self._reserved:
            return
        meter = self.meter
        new, cached, out = self._used(outcome)
        work = self._release(new, cached, out, outcome)
        if meter.exact:
            self.endpoint.bytes_per_token[self._call.shape].learn(self._call.prompt.text_bytes, new + cached)
        line.outcome = outcome
        line.input_tokens = new + cached
        line.output_tokens = out
        line.queue_ms = _milliseconds(self._queue_s)
        line.ttft_ms = _milliseconds(meter.first_byte_at - self.arrived) if meter.first_byte_at is not None else None
        self._outbox.end(
            Settled(
                rid=self.rid,
                seq=self._next(),
                at_ms=self._wall_ms(now),
                status=status,
                outcome=outcome,
                input_tokens=new + cached,
                cached_tokens=cached,
                output_tokens=out,
                exact=meter.exact or not (new or cached or out),
                work=work,
                queue_ms=line.queue_ms,
                ttft_ms=line.ttft_ms,
                e2e_ms=line.e2e_ms,
            )
        )

    def refuse(self, refusal: Refuse) -> None:
        """Not served before its deadline. One that was reserved before it lost its replica is settled instead."""
        self._line.outcome = refusal.reason
        self._line.queue_ms = _milliseconds(refusal.queued_s)
        if self._reserved:
            return
        self._outbox.end(
            Rejected(
                rid=self.rid,
                seq=self._next(),
                at_ms=self._wall_ms(self._loop.time()),
                arrived_ms=self.arrived_ms,
                endpoint=self.endpoint.view.id,
                endpoint_name=self.endpoint.view.name,
                key=self._call.key.id,
                status=refusal.status,
                reason=refusal.reason,
                work=refusal.work,
            )
        )

    def _used(self, outcome: Outcome) -> tuple[int, int, int]:
        """New, cached and output tokens. An engine that gave nothing but an error, or was lost, has used nothing."""
        meter = self.meter
        if not self._in_flight or (
            meter.first_byte_at is None and outcome in ("engine_failed", "engine_error", "refused")
        ):
            return 0, 0, 0
        used = min(meter.input_used(self._call.limits.input_estimate), self._entity.context)
        cached = min(meter.cached_tokens, used)
        return used - cached, cached, meter.output_tokens

    def _release(self, new: int, cached: int, out: int, outcome: Outcome) -> float:
        """Give the slot back, where it holds one; returns the work."""
        if not self._in_flight:
            return 0.0
        self._in_flight = False
        return self.endpoint.settle(self.rid, new=new, cached=cached, out=out, outcome=outcome)

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def _wall_ms(self, now: float) -> int:
        """Unix time by the loop's clock, so that a step of the wall clock cannot end a request before it came."""
        return self.arrived_ms + round((now - self.arrived) * 1000)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
