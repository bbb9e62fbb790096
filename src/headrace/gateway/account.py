"""The books of one request: limiter, journal and access log, each told once and in the right order."""

from __future__ import annotations

import time
from time import monotonic

from headrace.gateway.access_line import AccessLine
from headrace.gateway.call import Call
from headrace.gateway.entity import LiveEntity
from headrace.gateway.meter import Meter
from headrace.gateway.outbox import Outbox
from headrace.gateway.prompt import Limits
from headrace.gateway.rate_limits import closed, refusal
from headrace.journal.records import Progress, Rejected, Reserved, Settled
from headrace.journal.writer import JournalError
from headrace.policy.endpoint import Ask, Dispatch, Outcome, Refuse
from headrace.policy.rate_limits import Charge, RateLimits

STREAM_S = 0.2
"""How often a stream's progress reaches the limiter."""
PROGRESS_S = 1.0
"""How often it reaches the journal: what a kill -9 can lose of a stream."""

CLIENT_CLOSED = 499
"""The status in logs and journal where the client left first."""


class Account:
    """Made when the request has been understood; ended by ``settle`` (it was dispatched) or ``refuse`` (it was not)."""

    __slots__ = (
        "_call",
        "_charge",
        "_exact",
        "_in_flight",
        "_line",
        "_outbox",
        "_predicted",
        "_progressed_at",
        "_queue_s",
        "_reserved",
        "_sent_at",
        "_sequence",
        "_streamed_at",
        "_work",
        "_work_reserved",
        "arrived",
        "arrived_ms",
        "entity",
        "limits",
        "meter",
        "rid",
    )

    def __init__(self, line: AccessLine, outbox: Outbox, call: Call, arrived: float) -> None:
        """``arrived``: monotonic time. ``line`` is filled in, not written."""
        self._line = line
        self._outbox = outbox
        self._call = call
        self._charge: Charge | None = None
        """What the rate limits of its endpoint let it through with, where it has any."""
        self._sequence = 0
        self._sent_at = self._streamed_at = self._progressed_at = arrived
        self._queue_s = 0.0
        self._predicted: int | None = None
        """Output tokens; None until it has been weighed."""
        self._work_reserved = 0.0
        """Or, where it was refused, what would have been."""
        self._work: float | None = None
        """What was used, once it has ended."""
        self._exact = False
        self._in_flight = False
        """It holds a slot in the core."""
        self._reserved = False
        """The journal knows it, and waits for its end."""
        self.rid = line.id
        self.arrived = arrived
        self.arrived_ms = int((time.time() - (monotonic() - arrived)) * 1000)
        self.meter = Meter()
        self.entity: LiveEntity
        self.limits: Limits

    def enter(self, entity: LiveEntity) -> None:
        """It is to be served by this entity. Raises ApiError 400 where it can never be."""
        self.entity = entity
        self.limits = self._call.limits(entity)

    def fields(self) -> bytes:
        """Header lines of every answer of an endpoint."""
        fields = b"x-request-id: %b\r\n%b%b" % (
            self.rid.encode("ascii"),
            self.entity.name_field,
            self.entity.limit_fields(),
        )
        return fields + self._explained() if self._call.explain else fields

    def _explained(self) -> bytes:
        """How the request was weighed, where it went, and, where it has ended already, what it came to."""
        if self._predicted is None:
            return b""  # it can never be served, and was not weighed
        lines = (
            f"x-headrace-input-tokens-estimate: {self.limits.input_estimate}\r\n"
            f"x-headrace-output-tokens-predicted: {self._predicted}\r\n"
            f"x-headrace-work-reserved: {self._work_reserved:.3f}\r\n"
            f"x-headrace-queue-ms: {_milliseconds(self._queue_s):.3f}\r\n"
            f"x-headrace-replica: {self._line.replica or 'none'}\r\n"
        )
        if self._work is not None:
            lines += (
                f"x-headrace-work: {self._work:.3f}\r\nx-headrace-work-exact: {'true' if self._exact else 'false'}\r\n"
            )
        return lines.encode("latin-1", "replace")

    def ask(self) -> Ask:
        """The request as admission sees it."""
        call, limits, key = self._call, self.limits, self._call.key
        predicted = self._predicted = self.entity.core.predict_output(key.id, limits.max_output)
        return Ask(
            rid=self.rid,
            key=key.id,
            band=call.band,
            input_tokens=limits.input_estimate,
            max_output=limits.max_output,
            predicted_output=predicted,
            retry=call.retry,
            prefix=call.prefix,
            weight=key.weight,
        )

    def charge(self, limits: RateLimits) -> Refuse | None:
        """Ask the rate limits of its endpoint; what it is answered where one is used up. Raises ApiError 403 where one
        is 0."""
        ask, key, name = self.ask(), self._call.key, self._call.endpoint.view.name
        tokens = ask.input_tokens + min(ask.predicted_output, ask.max_output)
        found = limits.admit(monotonic(), key.principal_kind, key.principal, tokens)
        if isinstance(found, Charge):
            self._charge = found
            return None
        if found.limit == 0:
            raise closed(found, name)
        return refusal(found, ask, self.entity.core.rate_limited(ask), name)

    def reserve(self, dispatch: Dispatch) -> None:
        """The request goes to a replica. Raises JournalError: then it must not, and it has lost its slot."""
        self._in_flight = True
        self._queue_s = dispatch.queued_s
        self._work_reserved = dispatch.work
        self._line.replica = dispatch.replica
        if self._sequence:
            self.meter = Meter()
        call, endpoint, entity, now = self._call, self._call.endpoint.view, self.entity.view, monotonic()
        self._sent_at = self._streamed_at = self._progressed_at = now
        record = Reserved(  # by position: names cost as much as encoding it does
            self.rid,
            self._next(),
            self._wall_ms(now),
            self.arrived_ms,
            endpoint.id,
            endpoint.name,
            entity.id,
            entity.config_version,
            call.key.id,
            dispatch.replica,
            call.band,
            call.streams,
            self.limits.input_estimate,
            self.limits.max_output,
            dispatch.work,
            call.body.client_request_id or None,
            call.body.usage_context or None,
            call.body.user,
        )
        try:
            self._outbox.reserve(record)
        except JournalError:
            self._release(0, 0, 0, "refused")
            raise
        self._reserved = True

    def first_byte(self) -> None:
        """The first byte of content has come."""
        self.meter.first_byte_at = monotonic()

    def lost(self) -> None:
        """Its replica is lost; the core has it in its queue again."""
        self._in_flight = False

    def moves(self, outcome: Outcome) -> None:
        """It ended so at its entity, and goes on to another one; the journal hears only of its last end."""
        self._release(0, 0, 0, outcome)

    def advance(self, now: float) -> None:
        """Called often while the answer comes; limiter and journal hear of it at their own intervals."""
        if not self._in_flight or now - self._streamed_at < STREAM_S:
            return
        self._streamed_at = now
        meter = self.meter
        self.entity.stream(now, self.rid, meter.input_tokens, meter.output_tokens)
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

    def settle(self, status: int, outcome: Outcome, code: str | None = None) -> None:
        """The request has ended. The first call counts; one that was never reserved leaves only its access line, with
        the ``code`` of its error."""
        now = monotonic()
        line = self._line
        if line.status:
            return
        line.status = status
        e2e_s = now - self.arrived
        line.e2e_ms = e2e_ms = _milliseconds(e2e_s)
        entity = self.entity
        entity.statuses[status] = entity.statuses.get(status, 0) + 1
        if not self._reserved:
            if self._charge is not None:
                self._charge.settle(now, 0)
            line.outcome = line.outcome or code
            return
        meter = self.meter
        new, cached, out = self._used(now, outcome)
        if self._charge is not None:
            self._charge.settle(now, new + cached + out)
        self._work = work = self._release(new, cached, out, outcome)
        self._exact = exact = meter.exact or not (new or cached or out)
        if meter.exact:
            entity.bytes_per_token[self._call.shape].learn(self._call.prompt.text_bytes, new + cached)
        first_byte_at = meter.first_byte_at
        line.outcome = outcome
        line.input_tokens = new + cached
        line.output_tokens = out
        line.queue_ms = queue_ms = _milliseconds(self._queue_s)
        line.ttft_ms = ttft_ms = _milliseconds(first_byte_at - self.arrived) if first_byte_at is not None else None
        self._outbox.end(
            Settled(
                self.rid,
                self._next(),
                self._wall_ms(now),
                status,
                outcome,
                new + cached,
                cached,
                out,
                exact,
                work,
                queue_ms,
                ttft_ms,
                e2e_ms,
            )
        )
        if outcome == "ok":
            latency = entity.latency[self._call.shape]
            latency.answered(e2e_s, self._queue_s)
            if first_byte_at is not None and self._call.streams:
                latency.streamed(first_byte_at - self.arrived, e2e_s, out)

    def refuse(self, refusal: Refuse) -> None:
        """Not served before its deadline. One that was reserved before it lost its replica is settled instead."""
        self._queue_s, self._work_reserved = refusal.queued_s, refusal.work
        self._line.outcome = refusal.reason
        self._line.queue_ms = _milliseconds(refusal.queued_s)
        if self._reserved:
            return
        self._outbox.end(
            Rejected(
                rid=self.rid,
                seq=self._next(),
                at_ms=self._wall_ms(monotonic()),
                arrived_ms=self.arrived_ms,
                endpoint=self._call.endpoint.view.id,
                endpoint_name=self._call.endpoint.view.name,
                key=self._call.key.id,
                status=refusal.status,
                reason=refusal.reason,
                work=refusal.work,
            )
        )

    def _used(self, now: float, outcome: Outcome) -> tuple[int, int, int]:
        """New, cached and output tokens. An engine that gave nothing but an error, or was lost, has used nothing."""
        meter = self.meter
        if not self._in_flight or (
            meter.first_byte_at is None and outcome in ("engine_failed", "engine_error", "refused")
        ):
            return 0, 0, 0
        used = meter.input_used(self.limits.input_estimate)
        if not self._call.prompt.longest:  # several inputs are processed each by itself
            used = min(used, self.entity.view.context)
        if meter.first_byte_at is None and meter.input_tokens is None:
            used = self._processed_at_most(used, now - self._sent_at)
        cached = min(meter.cached_tokens, used)
        return used - cached, cached, meter.output_tokens

    def _processed_at_most(self, tokens: int, seconds: float) -> int:
        """How many of these input tokens a replica can have processed in so long, of which it has said nothing."""
        # Work over chunk is seconds of a whole replica. A token costs no less than those before it, so in a part of the
        # time no more than that part of the work is done.
        terms = self.entity.core.terms
        work = terms.weights.work(tokens, 0, 0)
        possible = seconds * terms.chunk
        return tokens if possible >= work else int(tokens * possible / work)

    def _release(self, new: int, cached: int, out: int, outcome: Outcome) -> float:
        """Give the slot back, where it holds one; returns the work."""
        if not self._in_flight:
            return 0.0
        self._in_flight = False
        return self.entity.settle(self.rid, new=new, cached=cached, out=out, outcome=outcome)

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def _wall_ms(self, now: float) -> int:
        """Unix time by the monotonic clock, so that a step of the wall clock cannot end a request before it came."""
        return self.arrived_ms + int((now - self.arrived) * 1e3 + 0.5)


def _milliseconds(seconds: float) -> float:
    """To the microsecond. (``round`` to digits goes by way of their text.)"""
    return int(seconds * 1e6 + 0.5) / 1e3
