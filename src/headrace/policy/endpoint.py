"""One endpoint at one gateway: what waits, what is in flight, and every decision on both.

``EndpointCore`` joins the limiter, the fair queue and the routing. The gateway and the simulator drive the same
object: they tell it what happened, with the time, and do what it answers. After every event that may let something go
(``arrive``, ``settle``, ``leave``, ``requeue``, ``set_replicas``, ``configure``; ``stream`` and ``replica_answered``
where they say so), and at ``wake_at``, call ``decide``.

Which answer a request gets that was not served before its deadline: suppose that a slot had always been free, and
requests were let through in the order of their arrival. If the limiter would not have come to it before its deadline,
the range itself had no room: 429. Otherwise the range had room and the replicas did not: 503. So a request that waited
for slots of a range larger than what runs is never told that it asked for too much, and of those that are late together
as many are told 503 as the range could have served. The limiter of that other world is charged at every arrival.
"""

from __future__ import annotations

from collections.abc import Iterable

from headrace.policy.counters import Counters
from headrace.policy.deadlines import Deadlines
from headrace.policy.limiter import Limiter
from headrace.policy.prediction import OutputPrediction
from headrace.policy.queueing import Band, FairQueue
from headrace.policy.refusal import SOONEST_RETRY_S, refuse, room_in, slot_in
from headrace.policy.request import Request
from headrace.policy.routing import Load, Replicas, ReplicaState
from headrace.policy.terms import Ask, Dispatch, Observation, Outcome, Reason, Refuse, ReplicaObservation, Terms

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


class EndpointCore:
    """See the module. ``now`` is in seconds on one monotonic clock and never goes back between calls."""

    def __init__(self, terms: Terms, now: float) -> None:
        self.terms = terms
        self._limiter = Limiter(terms.rate, terms.burst, now)
        self._unhindered = Limiter(terms.rate, terms.burst, now)
        """The limiter as it would be if a slot had always been free."""
        self._queue: FairQueue[Request] = FairQueue()
        self._flights: dict[str, Request] = {}
        self._replicas = Replicas()
        self._prediction = OutputPrediction()
        self._deadlines = Deadlines(now)
        self._counters = Counters()
        self._in_flight_work = 0.0
        self._displaced: list[Dispatch | Refuse] = []
        """Refusals of requests whose place in the queue went to another key; the next ``decide`` gives them out."""

    # -- what is told to it -------------------------------------------------------------------------------------------

    def configure(self, now: float, terms: Terms) -> None:
        """Another config version. Debt and queue stay; what has arrived keeps the weights it arrived under."""
        if (terms.rate, terms.burst) != (self.terms.rate, self.terms.burst):
            for limiter in (self._limiter, self._unhindered):
                limiter.configure(now, terms.rate, terms.burst)
        self.terms = terms

    def set_replicas(self, now: float, replicas: Iterable[ReplicaState]) -> None:
        """The replicas that are ready or draining. One that is gone from the list keeps its requests until settled."""
        self._replicas.update(replicas)
        self._deadlines.set_ready(now, bool(self._replicas.ready))

    def replica_failed(self, now: float, replica: str, at_least_s: float = 0.0) -> None:
        """A request found the replica unreachable, silent or broken: nothing is sent to it for a while (``health``)."""
        load = self._replicas.get(replica)
        if load is not None:
            load.health.failed(now, at_least_s)

    def replica_answered(self, now: float, replica: str) -> bool:
        """A request got its first byte from the replica. True where more may now be sent to it: ask ``decide``."""
        load = self._replicas.get(replica)
        return load is not None and load.health.answered(now)

    def fits(self, now: float, ask: Ask) -> bool:
        """The request would be sent at once: nobody waits, a slot is free, and the limiter has room."""
        return (
            not self._queue and self._replicas.slot_at(now) == now and self._limiter.has_room(now, self._estimate(ask))
        )

    def spilled(self, now: float, ask: Ask) -> None:
        """A request that was routed here goes to another served entity, as it does not fit: it was demand here too."""
        self._counters.arrived(self._estimate(ask), retry=ask.retry)

    def arrive(self, now: float, ask: Ask) -> Refuse | None:
        """A request has come: it waits (None; ask ``decide``), or it is refused at once.

        Raises ValueError where a request with its id waits or is in flight.
        """
        queue, terms, rid = self._queue, self.terms, ask.rid
        if rid in self._flights or rid in queue:
            raise ValueError(f"request {rid} waits or is in flight already")
        work = self._estimate(ask)
        self._counters.arrived(work, retry=ask.retry)
        request = Request(ask, work, now, terms.weights)
        if terms.overload == "reject" and not self._fits_at_once(now, work):
            return self._refuse(now, request, "reject")
        if len(queue) >= terms.max_queue:
            displaced = queue.displaced_by(request)
            if displaced is None:
                return self._refuse(now, request, "queue_full")
            queue.remove(displaced.rid)
            self._displaced.append(self._refuse(now, displaced, "queue_full"))
        unhindered = self._unhindered
        if unhindered.ready_in(now, work) <= terms.queue_deadline_s:
            request.range_had_room = True
            unhindered.charge(now, work)
        queue.push(request)
        return None

    def rate_limited(self, ask: Ask) -> float:
        """A rate limit refuses the request before it asks for anything here: rejected, and no demand. Returns its
        estimated work."""
        self._counters.rejected += 1
        return self._estimate(ask)

    def stream(self, now: float, rid: str, input_tokens: int | None, output_tokens: int) -> bool:
        """A stream has come this far (``output_tokens`` since its beginning). Charges what outruns its reservation.

        True where that may have made another request the head: ask ``decide``. Raises KeyError where the request is
        not in flight.
        """
        request = self._flights[rid]
        if input_tokens is not None:
            request.input_tokens = input_tokens
        self._counters.output_tokens += output_tokens - request.output_tokens
        request.output_tokens = output_tokens
        excess = request.weights.work(request.input_tokens, 0, output_tokens) - request.reserved
        if excess <= 0:
            return False
        self._limiter.charge(now, excess)
        self._queue.charge(request, excess)
        request.reserved += excess
        self._in_flight_work += excess
        if request.load is not None:
            request.load.outstanding_work += excess
        return bool(self._queue)

    def settle(self, now: float, rid: str, *, new: int, cached: int, out: int, outcome: Outcome) -> float:
        """A request has ended, with this usage in tokens. Frees its slot; returns its exact work.

        Raises KeyError where the request is not in flight.
        """
        request = self._flights.pop(rid)
        work = request.weights.work(new, cached, out)
        self._limiter.settle(now, request.reserved, work)
        self._unhindered.settle(now, request.work if request.range_had_room else 0.0, work)
        self._queue.charge(request, work - request.reserved)
        self._release(request, failed=outcome in ("engine_failed", "engine_error", "timeout"))
        counters = self._counters
        counters.settled(request.work, work, outcome)
        counters.input_tokens += new + cached
        counters.output_tokens += out - request.output_tokens
        if outcome == "ok":
            ask = request.ask
            self._prediction.observe(ask.key, out, ask.max_output, self.terms.default_max_tokens)
        return work

    def leave(self, now: float, rid: str) -> bool:
        """The client has gone. True if the request was waiting; one in flight is settled by its driver instead."""
        request = self._queue.remove(rid)
        if request is None:
            return False
        self._give_back(now, request)
        self._counters.abandoned += 1
        return True

    def requeue(self, now: float, rid: str) -> None:
        """A dispatched request lost its replica before its first byte: back to the head of the queue.

        It keeps its deadline and its reservation, so it needs only a slot. Raises KeyError where it is not in flight.
        """
        request = self._flights.pop(rid)
        self._release(request, failed=True)
        self._counters.output_tokens -= request.output_tokens
        request.output_tokens = 0
        self._queue.push_returned(request)

    # -- what it decides ----------------------------------------------------------------------------------------------

    def decide(self, now: float) -> list[Dispatch | Refuse]:
        """All that can be decided at ``now``: requests to send, in fair order, and requests that are too late.

        The head waits for a slot and for its room, and nobody overtakes it. A request that can be sent at its very
        deadline is sent; one that is refused may have been the head, for which others waited.
        """
        decisions, self._displaced = self._displaced, []
        queue = self._queue
        while (head := queue.head()) is not None:
            load = self._admit(now, head)
            if load is not None:
                decisions.append(self._send(now, head, load))
                continue
            late = queue.oldest()
            if late is None or self._deadlines.of(late.arrived, self.terms) > now:
                break
            queue.remove(late.rid)
            decisions.append(self._refuse(now, late, self._late_reason(now, late)))
        return decisions

    def wake_at(self, now: float) -> float | None:
        """When ``decide`` may next have something to say although nothing happens; None where nothing waits."""
        head, oldest = self._queue.head(), self._queue.oldest()
        if head is None or oldest is None:
            return None
        wake = self._deadlines.of(oldest.arrived, self.terms)
        slot = self._replicas.slot_at(now)
        if slot is not None:
            room = now if head.reserved else self._limiter.ready_at(now, head.work)
            wake = min(wake, max(slot, room))
        return wake

    def predict_output(self, key: str, max_output: int) -> int:
        """Tokens to expect of a request of ``key`` that may produce ``max_output``."""
        return self._prediction.predict(key, max_output, self.terms.default_max_tokens)

    def limit_headers(self, now: float) -> tuple[float, float, float]:
        """Burst and what remains of it, in reference tokens, and the seconds until it is full again."""
        limiter = self._limiter
        debt = limiter.debt(now)
        return limiter.burst, max(0.0, limiter.burst - debt), debt / limiter.rate

    def observe(self, now: float) -> Observation:
        """Counters and gauges at ``now``."""
        oldest, counters = self._queue.oldest(), self._counters
        return Observation(
            arrivals=counters.arrivals,
            offered_work=counters.offered_work,
            dispatched=counters.dispatched,
            dispatched_work=counters.dispatched_work,
            served_work=counters.served_work,
            input_tokens=counters.input_tokens,
            output_tokens=counters.output_tokens,
            completed=counters.completed,
            rejected=counters.rejected,
            rejected_work=counters.rejected_work,
            abandoned=counters.abandoned,
            failed=counters.failed,
            queued=len(self._queue),
            queued_work=self._queue.work + self._queue.returned_work,
            oldest_wait_s=now - oldest.arrived if oldest else 0.0,
            in_flight=len(self._flights),
            in_flight_work=self._in_flight_work,
            limiter_debt=self._limiter.debt(now),
            replicas=tuple(
                ReplicaObservation(load.id, load.in_flight, load.outstanding_work, load.dispatched, load.failures)
                for load in self._replicas
            ),
        )

    # -- how ----------------------------------------------------------------------------------------------------------

    def _estimate(self, ask: Ask) -> float:
        """Reference tokens."""
        predicted = ask.predicted_output if ask.predicted_output < ask.max_output else ask.max_output
        return self.terms.weights.work(ask.input_tokens, 0, predicted)

    def _admit(self, now: float, head: Request) -> Load | None:
        """The replica that the head goes to, where it has a slot and room; the room is then reserved."""
        prefix = head.ask.prefix
        saving = 0.0 if prefix is None else head.weights.work(head.input_tokens, 0, 0)
        load = self._replicas.pick(now, prefix, saving)
        if load is None or head.reserved:
            return load
        if not self._limiter.reserve(now, head.work):
            return None
        self._counters.dispatched += 1
        self._counters.dispatched_work += head.work
        return load

    def _send(self, now: float, request: Request, load: Load) -> Dispatch:
        self._queue.serve(request)
        reserved = request.reserved = request.reserved or request.work
        request.load = load
        load.take(request.rid, reserved)
        self._in_flight_work += reserved
        self._flights[request.rid] = request
        return Dispatch(request.rid, load.id, reserved, now - request.arrived)

    def _release(self, request: Request, *, failed: bool) -> None:
        """Free the slot of a request that is no longer in flight."""
        self._in_flight_work = self._in_flight_work - request.reserved if self._flights else 0.0
        load, request.load = request.load, None
        if load is not None:
            load.release(request.rid, request.reserved, failed=failed)
            self._replicas.forget(load)

    def _give_back(self, now: float, request: Request) -> None:
        """A request that waits again after the loss of its replica ends unserved: it is not to pay for that."""
        if request.reserved:
            self._limiter.refund(now, request.reserved)
            self._queue.charge(request, -request.reserved)
            request.reserved = 0.0

    def _fits_at_once(self, now: float, work: float) -> bool:
        """Under ``reject``: no wait but that for a cold start, which is not overload."""
        if not self._replicas.ready:
            return self._limiter.ready_in(now, work, ahead=self._queue.work) <= 0
        return not self._queue and self._limiter.has_room(now, work) and self._replicas.slot_at(now) == now

    def _late_reason(self, now: float, request: Request) -> Reason:
        """Why a request was not served before its deadline; see the module."""
        if not self._replicas.ready:
            return self._deadlines.unready_reason(request.arrived)
        if self._replicas.all_blocked(now):
            return "no_replica"
        if request.reserved:
            return "deadline"  # the range had room for it once already
        return "deadline" if request.range_had_room else "rate"

    def _refuse(self, now: float, request: Request, reason: Reason) -> Refuse:
        """The answer to a request that is not waiting (any more)."""
        self._give_back(now, request)
        self._counters.rejected += 1
        self._counters.rejected_work += request.work
        work, ahead, terms, replicas = request.work, self._queue.work, self.terms, self._replicas
        room = room_in(now, work, ahead, terms, self._limiter)
        slot = slot_in(now, ahead, terms, replicas) if replicas.ready else NO_REPLICA_RETRY_S
        return refuse(
            request.ask,
            work,
            reason,
            waited=now - request.arrived,
            queued=len(self._queue),
            own=self._queue.waiting(request.band, request.key),
            ahead=ahead,
            free=max(0.0, terms.burst - self._limiter.debt(now)),
            retry=max(SOONEST_RETRY_S, room, slot),
            terms=terms,
        )
