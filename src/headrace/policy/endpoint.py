"""One endpoint at one gateway: what waits, what is in flight, and every decision on both.

``EndpointCore`` joins the limiter, the fair queue and the routing. The gateway and the simulator drive the same
object: they tell it what happened, with the time, and do what it answers. After every event that may let something go
(``arrive``, ``settle``, ``leave``, ``requeue``, ``set_replicas``, ``configure``), and at ``wake_at``, call ``decide``.

Which answer a request gets that was not served before its deadline: suppose that a slot had been free at every
instant since it arrived. If the limiter would still not have let it through, behind what was admitted since and what is
ahead of it, the range itself had no room: 429. Otherwise the range had room and the replicas did not: 503. So a
request that waited for slots of a range larger than what runs is never told that it asked for too much.

What counts as offered work: every request once, at its arrival, by its estimate, whether it is served, refused or
leaves; its settlement corrects the counter by (exact - estimate), so the counter can also go down, by a correction.
A request that never ran keeps its estimate: it was demand. A retry that the client marks as such is not demand again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from headrace.policy.limiter import Limiter
from headrace.policy.prediction import OutputPrediction
from headrace.policy.queueing import Band, FairQueue, Waiting
from headrace.policy.routing import Load, ReplicaState, pick
from headrace.policy.terms import Ask, Dispatch, Observation, Outcome, Reason, Refuse, ReplicaObservation, Terms
from headrace.policy.work import Weights

__all__ = [
    "Ask",
    "Band",
    "Dispatch",
    "EndpointCore",
    "Observation",
    "Outcome",
    "Refuse",
    "ReplicaObservation",
    "ReplicaState",
    "Terms",
]

NO_REPLICA_RETRY_S = 5.0
"""When to come back where no replica is ready, which the core cannot know: soon enough to see a start, rare enough to
bear."""

SOONEST_RETRY_S = 0.001
"""An answer never says "now": the least that ``retry-after-ms`` can carry."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Request(Waiting):
    """A request from its arrival to its end. It is weighed by the terms under which it arrived."""

    ask: Ask
    weights: Weights
    debt_then: float
    """The limiter's debt when it arrived, and ``charged_then`` what it had charged."""
    charged_then: float
    reserved: float = 0.0
    """Charged for it so far, top-ups included; not zero in the queue only after the loss of its replica."""
    input_tokens: int = 0
    """Best known."""
    output_tokens: int = 0
    """Streamed so far."""
    load: Load | None = None


class EndpointCore:
    """See the module. ``now`` is in seconds on one monotonic clock and never goes back between calls."""

    def __init__(self, terms: Terms, now: float) -> None:
        self.terms = terms
        self._limiter = Limiter(terms.rate, terms.burst, now)
        self._queue: FairQueue[_Request] = FairQueue()
        self._flights: dict[str, _Request] = {}
        self._loads: dict[str, Load] = {}
        self._prediction = OutputPrediction()
        self._ready = False
        self._ready_since = now
        """When the first replica became ready after a time without."""
        self._lost_at: float | None = None
        """When the last ready replica went."""
        self._in_flight_work = 0.0
        self._arrivals = self._dispatched = self._completed = self._rejected = self._abandoned = self._failed = 0
        self._offered_work = self._served_work = 0.0
        self._input_tokens = self._output_tokens = 0

    # -- what is told to it -------------------------------------------------------------------------------------------

    def configure(self, now: float, terms: Terms) -> None:
        """Another config version. Debt and queue stay; what has arrived keeps the weights it arrived under."""
        if (terms.rate, terms.burst) != (self.terms.rate, self.terms.burst):
            self._limiter.configure(now, terms.rate, terms.burst)
        self.terms = terms

    def set_replicas(self, now: float, replicas: Iterable[ReplicaState]) -> None:
        """The replicas that are ready or draining. One that is gone from the list keeps its requests until settled."""
        listed = {replica.id: replica for replica in replicas}
        for load in list(self._loads.values()):
            load.listed = load.id in listed
            if not load.listed and not load.in_flight:
                del self._loads[load.id]
        for replica in listed.values():
            load = self._loads.setdefault(replica.id, Load(replica.id, replica.slots, replica.draining))
            load.slots, load.draining = replica.slots, replica.draining
        was_ready, self._ready = self._ready, any(load.ready for load in self._loads.values())
        if self._ready and not was_ready:
            self._ready_since = now
        if was_ready and not self._ready:
            self._lost_at = now

    def block(self, now: float, replica: str, until: float) -> None:
        """Passive health: send nothing to the replica before ``until``; ``now`` ends a block."""
        load = self._loads.get(replica)
        if load is not None:
            load.blocked_until = max(now, until)

    def arrive(self, now: float, ask: Ask) -> Refuse | None:
        """A request has come: it waits (None; ask ``decide``), or it is refused at once.

        Raises ValueError where a request with its id waits or is in flight.
        """
        if ask.rid in self._flights or ask.rid in self._queue:
            raise ValueError(f"request {ask.rid} waits or is in flight already")
        terms = self.terms
        work = terms.weights.work(ask.input_tokens, 0, min(ask.predicted_output, ask.max_output))
        request = _Request(
            rid=ask.rid,
            key=ask.key,
            band=ask.band,
            work=work,
            arrived=now,
            ask=ask,
            weights=terms.weights,
            debt_then=self._limiter.debt(now),
            charged_then=self._limiter.charged,
            input_tokens=ask.input_tokens,
        )
        self._arrivals += 1
        if not ask.retry:
            self._offered_work += work
        if len(self._queue) >= terms.max_queue:
            return self._refuse(now, request, "queue_full")
        if terms.overload == "reject" and not self._fits_at_once(now, work):
            return self._refuse(now, request, "reject")
        self._queue.push(request)
        return None

    def stream(self, now: float, rid: str, input_tokens: int | None, output_tokens: int) -> None:
        """A stream has come this far (``output_tokens`` since its beginning). Charges what outruns its reservation.

        Raises KeyError where the request is not in flight.
        """
        request = self._flights[rid]
        if input_tokens is not None:
            request.input_tokens = input_tokens
        self._output_tokens += output_tokens - request.output_tokens
        request.output_tokens = output_tokens
        excess = request.weights.work(request.input_tokens, 0, output_tokens) - request.reserved
        if excess > 0:
            self._limiter.charge(now, excess)
            self._charge(request, excess)

    def settle(self, now: float, rid: str, *, new: int, cached: int, out: int, outcome: Outcome) -> float:
        """A request has ended, with this usage in tokens. Frees its slot; returns its exact work.

        Raises KeyError where the request is not in flight.
        """
        request = self._flights.pop(rid)
        work = request.weights.work(new, cached, out)
        self._limiter.settle(now, request.reserved, work)
        self._charge(request, work - request.reserved)
        self._release(request, failed=outcome in ("engine_failed", "engine_error", "timeout"))
        self._offered_work += work - request.work
        self._served_work += work
        self._input_tokens += new + cached
        self._output_tokens += out - request.output_tokens
        if outcome in ("ok", "refused"):
            self._completed += 1
        if outcome == "ok":
            self._prediction.observe(out, request.ask.max_output, self.terms.default_max_tokens)
        elif outcome == "client_gone":
            self._abandoned += 1
        elif outcome != "refused":
            self._failed += 1
        return work

    def leave(self, now: float, rid: str) -> bool:
        """The client has gone. True if the request was waiting; one in flight is settled by its driver instead."""
        request = self._queue.remove(rid)
        if request is None:
            return False
        self._give_back(now, request)
        self._abandoned += 1
        return True

    def requeue(self, now: float, rid: str) -> None:
        """A dispatched request lost its replica before its first byte: back to the head of the queue.

        It keeps its deadline and its reservation, so it needs only a slot. Raises KeyError where it is not in flight.
        """
        request = self._flights.pop(rid)
        self._release(request, failed=True)
        self._output_tokens -= request.output_tokens
        request.output_tokens = 0
        self._queue.push_returned(request)

    # -- what it decides ----------------------------------------------------------------------------------------------

    def decide(self, now: float) -> list[Dispatch | Refuse]:
        """All that can be decided at ``now``: requests to send, in fair order, and requests that are too late."""
        decisions: list[Dispatch | Refuse] = []
        while True:
            self._dispatch(now, decisions)
            late = self._queue.oldest()
            if late is None or self._deadline(late) > now:
                return decisions
            # A request that could be sent at its very deadline was sent above. The one that goes now may have been the
            # head, for which others waited, so they are tried again.
            reason = self._late_reason(now, late)
            self._queue.remove(late.rid)
            decisions.append(self._refuse(now, late, reason))

    def wake_at(self, now: float) -> float | None:
        """When ``decide`` may next have something to say although nothing happens; None where nothing waits."""
        head, oldest = self._queue.head(), self._queue.oldest()
        if head is None or oldest is None:
            return None
        wake = self._deadline(oldest)
        slot = self._slot_at(now)
        if slot is not None:
            room = now if head.reserved else self._limiter.ready_at(now, head.work)
            wake = min(wake, max(slot, room))
        return wake

    def predict_output(self, key: str, max_output: int) -> int:
        """Tokens to expect of a request that may produce ``max_output``. Learned per endpoint, not yet per ``key``."""
        return self._prediction.predict(max_output, self.terms.default_max_tokens)

    def limit_headers(self, now: float) -> tuple[float, float, float]:
        """Burst and what remains of it, in reference tokens, and the seconds until it is full again."""
        debt = self._limiter.debt(now)
        return self.terms.burst, max(0.0, self.terms.burst - debt), debt / self.terms.rate

    def observe(self, now: float) -> Observation:
        """Counters and gauges at ``now``."""
        oldest = self._queue.oldest()
        return Observation(
            arrivals=self._arrivals,
            offered_work=self._offered_work,
            dispatched=self._dispatched,
            served_work=self._served_work,
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            completed=self._completed,
            rejected=self._rejected,
            abandoned=self._abandoned,
            failed=self._failed,
            queued=len(self._queue),
            queued_work=self._queue.work,
            oldest_wait_s=now - oldest.arrived if oldest else 0.0,
            in_flight=len(self._flights),
            in_flight_work=self._in_flight_work,
            limiter_debt=self._limiter.debt(now),
            replicas=tuple(
                ReplicaObservation(load.id, load.in_flight, load.outstanding_work, load.dispatched, load.failures)
                for load in self._loads.values()
            ),
        )

    # -- how ----------------------------------------------------------------------------------------------------------

    def _dispatch(self, now: float, decisions: list[Dispatch | Refuse]) -> None:
        """Send from the head while it has a slot and room. The head waits for its room; nobody overtakes it."""
        while (request := self._queue.head()) is not None:
            load = pick(self._loads.values(), now)
            if load is None:
                return
            if not request.reserved:
                if not self._limiter.reserve(now, request.work):
                    return
                self._dispatched += 1
            self._queue.serve(request)
            request.reserved = request.reserved or request.work
            request.load = load
            load.in_flight += 1
            load.dispatched += 1
            load.outstanding_work += request.reserved
            self._in_flight_work += request.reserved
            self._flights[request.rid] = request
            decisions.append(Dispatch(request.rid, load.id, request.reserved, now - request.arrived))

    def _charge(self, request: _Request, work: float) -> None:
        """A request in flight is now known to weigh ``work`` more (less, where negative)."""
        request.reserved += work
        self._in_flight_work += work
        self._queue.charge(request.band, request.key, work)
        if request.load is not None:
            request.load.outstanding_work += work

    def _release(self, request: _Request, *, failed: bool) -> None:
        """Free the slot of a request that is no longer in flight."""
        self._in_flight_work = self._in_flight_work - request.reserved if self._flights else 0.0
        load, request.load = request.load, None
        if load is None:
            return
        load.in_flight -= 1
        load.outstanding_work = load.outstanding_work - request.reserved if load.in_flight else 0.0
        load.failures += failed
        if not load.listed and not load.in_flight:
            del self._loads[load.id]

    def _give_back(self, now: float, request: _Request) -> None:
        """A request that waits again after the loss of its replica ends unserved: it is not to pay for that."""
        if request.reserved:
            self._limiter.refund(now, request.reserved)
            self._queue.charge(request.band, request.key, -request.reserved)
            request.reserved = 0.0

    def _deadline(self, request: _Request) -> float:
        """Without a ready replica a request waits for a cold start. Those held so long get the queue's deadline from
        the moment the first replica is ready; but nobody waits longer than the larger of the two limits."""
        terms = self.terms
        if not self._ready:
            return request.arrived + terms.cold_start_deadline_s
        longest = request.arrived + max(terms.cold_start_deadline_s, terms.queue_deadline_s)
        return min(longest, max(request.arrived, self._ready_since) + terms.queue_deadline_s)

    def _slot_at(self, now: float) -> float | None:
        """When a slot is free if no request ends: now, at the end of a block, or never (None)."""
        ends = [
            max(now, load.blocked_until) for load in self._loads.values() if load.ready and load.in_flight < load.slots
        ]
        return min(ends, default=None)

    def _fits_at_once(self, now: float, work: float) -> bool:
        """Under ``reject``: no wait but that for a cold start, which is not overload."""
        if not self._ready:
            return self._limiter.ready_in(now, work, ahead=self._queue.work) <= 0
        return not self._queue and self._limiter.has_room(now, work) and self._slot_at(now) == now

    def _late_reason(self, now: float, request: _Request) -> Reason:
        """Why a request was not served before its deadline; see the module."""
        waited = now - request.arrived
        limiter = self._limiter
        if not self._ready:
            lost = self._lost_at is not None and self._lost_at >= request.arrived
            return "no_replica" if lost else "cold_start"
        if all(load.blocked_until > now for load in self._loads.values() if load.ready):
            return "no_replica"
        if request.reserved:
            return "deadline"  # the range had room for it once already
        # It is the oldest of its key, so none of its own key is ahead.
        ahead = self._queue.work_ahead(request.band, request.key, own=False)
        debt = request.debt_then + (limiter.charged - request.charged_then) - limiter.rate * waited
        return "rate" if debt + ahead + min(request.work, limiter.burst) > limiter.burst else "deadline"

    def _refuse(self, now: float, request: _Request, reason: Reason) -> Refuse:
        """The answer to a request that is not waiting (any more)."""
        self._give_back(now, request)
        self._rejected += 1
        terms, work = self.terms, request.work
        ahead = self._queue.work_ahead(request.band, request.key)
        retry = max(SOONEST_RETRY_S, self._limiter.ready_in(now, work, ahead), self._slot_in(now, ahead))
        free = max(0.0, terms.burst - self._limiter.debt(now))
        waited = now - request.arrived
        why = {
            "queue_full": f"the queue is full ({len(self._queue)} of {terms.max_queue} requests wait)",
            "rate": f"the range had no room for it in {waited:.1f} s",
            "reject": "it could not be served at once, and this endpoint is set to reject rather than queue",
            "deadline": f"no slot of a replica became free for it in {waited:.1f} s, although the range had room",
            "no_replica": f"no replica was ready at the end of {waited:.1f} s",
            "cold_start": f"no replica became ready in {waited:.1f} s",
        }[reason]
        message = (
            f"The request asks for about {work:,.0f} reference tokens ({request.ask.input_tokens:,} input and up to "
            f"{request.ask.max_output:,} output tokens); {why}. Free now: {free:,.0f} of a burst of {terms.burst:,.0f} "
            f"reference tokens, with {ahead:,.0f} queued ahead, at {terms.rate:,.0f} reference tokens/s at most. "
            f"Try again in {retry:.1f} s."
        )
        status: Literal[429, 503] = 503 if reason in ("deadline", "no_replica", "cold_start") else 429
        return Refuse(request.rid, status, reason, message, retry, work, waited)

    def _slot_in(self, now: float, ahead: float) -> float:
        """Seconds until a slot is likely to be free behind ``ahead`` reference tokens: what the limiter cannot know.

        An estimate at the speed of the chunk: k slots share it, so one ends after about a k-th of what is outstanding.
        """
        ready = [load for load in self._loads.values() if load.ready]
        if not ready:
            return NO_REPLICA_RETRY_S
        slot = self._slot_at(now)
        if slot is not None:
            return slot - now
        least = min(load.outstanding_work / load.slots for load in ready)
        return (least + ahead / len(ready)) / self.terms.chunk
