"""One served entity as it runs: its decisions (``EndpointCore``) on the real clock, and its replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Protocol

from headrace.gateway.body import Shape
from headrace.gateway.latency import Latency
from headrace.gateway.prompt import BytesPerToken
from headrace.gateway.replica import Replica
from headrace.gateway.snapshot import (
    AnswersTick,
    EndpointView,
    EntityTick,
    EntityView,
    ReplicaTick,
    ReplicaView,
    WorkWeights,
)
from headrace.policy.endpoint import Ask, Dispatch, EndpointCore, Outcome, Refuse, ReplicaState, Terms
from headrace.policy.work import Weights

SHORTEST_TIMER_S = 0.001
"""The resolution of the loop's timers: asking again sooner would only spin."""

OPERATIONS = {Shape.CHAT: "chat", Shape.COMPLETION: "text_completion", Shape.EMBEDDING: "embeddings"}
"""Their names in OpenTelemetry's semantic conventions."""


class Waiter(Protocol):
    """A request that asked to be admitted. Called back at once or later, and once for each time that it asked."""

    def decided(self, decision: Dispatch | Refuse) -> None:
        """It goes to a replica now, or it is refused. Must not raise."""
        ...

    def entity_gone(self) -> None:
        """The entity was taken out of the config while the request waited. Must not raise."""
        ...


class LiveEntity:
    """Requests come with ``admit`` and end with ``settle`` (dispatched) or ``leave`` (not dispatched)."""

    def __init__(
        self,
        endpoint: EndpointView,
        view: EntityView,
        replicas: Iterable[ReplicaView],
        on_cold_arrival: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_cold_arrival = on_cold_arrival
        self._waiting: dict[str, Waiter] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._deciding = False
        self._decide_again = False
        self._decides_soon = False
        self._endpoint = endpoint
        self.view = view
        self.core = EndpointCore(terms_of(endpoint, view), monotonic())
        self.replicas: dict[str, Replica] = {}
        self.has_replica = False
        """A replica takes new requests."""
        self.bytes_per_token = {shape: BytesPerToken() for shape in Shape}
        self.statuses: dict[int, int] = {}
        """Requests that have ended, by HTTP status."""
        self.latency = {shape: Latency() for shape in Shape}
        self.removed = False
        self.name_field = b""
        """The header line that names the entity."""
        self._burst = 0.0
        self._burst_field = b""
        """The header line for this burst."""
        self._set_view(view)
        self._set_replicas(replicas)

    @property
    def fails(self) -> bool:
        """It has no replica, and no start can be relied on."""
        return self.view.failing and not self.has_replica

    @property
    def shut_out(self) -> bool:
        """It has no replica, and there is no room for one."""
        return self.view.shut_out and not self.has_replica

    # What the snapshot says.

    def update(self, endpoint: EndpointView, view: EntityView, replicas: Iterable[ReplicaView]) -> None:
        """A new snapshot: terms and replicas from now on."""
        if (endpoint, view) != (self._endpoint, self.view):
            self._endpoint = endpoint
            self._set_view(view)
            self.core.configure(monotonic(), terms_of(endpoint, view))
        self._set_replicas(replicas)
        self.decide()

    def remove(self) -> None:
        """Taken out of the config: what waits is told, what is in flight goes on."""
        self.removed = True
        waiting, self._waiting = self._waiting, {}
        for rid in waiting:
            self.core.leave(monotonic(), rid)
        self._set_replicas(())
        self._arm(monotonic())
        for waiter in waiting.values():
            waiter.entity_gone()

    def _set_view(self, view: EntityView) -> None:
        self.view = view
        self.name_field = b"served-model-name: %b\r\n" % view.name.encode()

    def _set_replicas(self, views: Iterable[ReplicaView]) -> None:
        listed = {view.id: view for view in views}
        for replica_id, view in listed.items():
            known = self.replicas.get(replica_id)
            if known is None or known.view.url != view.url or known.view.secret != view.secret:
                self.replicas[replica_id] = Replica(view)
            else:
                known.view = view
        # Answers in flight hold on to the client that they came from; its idle connections end with the replica.
        for replica_id in self.replicas.keys() - listed.keys():
            del self.replicas[replica_id]
        states = [ReplicaState(id=view.id, slots=view.slots, draining=view.draining) for view in listed.values()]
        self.has_replica = not all(view.draining for view in listed.values())
        self.core.set_replicas(monotonic(), states)

    # Requests.

    def admit(self, waiter: Waiter, ask: Ask) -> None:
        """Wait for a slot and for room in the range, or for the answer that there is none."""
        refused = self.core.arrive(monotonic(), ask)
        if refused is not None:
            waiter.decided(refused)
            return
        if not self.has_replica:
            self._on_cold_arrival()
        self._waiting[ask.rid] = waiter
        self.decide()

    def readmit(self, waiter: Waiter, rid: str) -> None:
        """After the loss of its replica before the first byte: wait again, at the head. As ``admit`` otherwise."""
        self.core.requeue(monotonic(), rid)
        if self.removed:
            self.core.leave(monotonic(), rid)
            waiter.entity_gone()
            return
        self._waiting[rid] = waiter
        self.decide()

    def leave(self, rid: str) -> None:
        """The client of a waiting request has gone."""
        if self._waiting.pop(rid, None) is not None:
            self.core.leave(monotonic(), rid)
            self._decide_soon()

    def settle(self, rid: str, *, new: int, cached: int, out: int, outcome: Outcome) -> float:
        """A dispatched request has ended, with this usage in tokens; returns its work."""
        work = self.core.settle(monotonic(), rid, new=new, cached=cached, out=out, outcome=outcome)
        if outcome == "client_gone":
            self._decide_soon()
        else:
            self.decide()
        return work

    def answered(self, replica: Replica) -> None:
        """The first byte of an answer has come from it."""
        replica.errors_in_a_row = 0
        if self.core.replica_answered(monotonic(), replica.view.id):
            self.decide()

    def failed(self, replica: Replica, at_least_s: float = 0.0) -> None:
        """It was unreachable, silent or broken: leave it alone for a while."""
        self.core.replica_failed(monotonic(), replica.view.id, at_least_s)

    def stream(self, now: float, rid: str, input_tokens: int | None, output_tokens: int) -> None:
        """A stream has come this far."""
        if self.core.stream(now, rid, input_tokens, output_tokens):
            self.decide()

    def predicted_s(self, input_tokens: int, output_tokens: int) -> float:
        """Seconds that a replica with all its slots taken is predicted to need for this much of a request."""
        terms = self.core.terms
        return terms.weights.work(input_tokens, 0, output_tokens) * terms.slots / terms.chunk

    def limit_fields(self) -> bytes:
        """Header lines of the limiter's state, in reference tokens; ``reset`` is when the burst is whole again."""
        burst, remaining, whole_in_s = self.core.limit_headers(monotonic())
        if burst != self._burst:
            self._burst = burst
            self._burst_field = b"x-ratelimit-limit-tokens: %d\r\n" % burst
        return b"%bx-ratelimit-remaining-tokens: %d\r\nx-ratelimit-reset-tokens: %.3fs\r\n" % (
            self._burst_field,
            int(remaining),
            whole_in_s,
        )

    # Decisions.

    def decide(self) -> None:
        """Do what can be decided now. What follows from it may ask again: in a loop, and not ever deeper."""
        if self._deciding:
            self._decide_again = True
            return
        self._deciding = True
        try:
            while True:
                self._decide_again = False
                now = monotonic()
                for decision in self.core.decide(now):
                    waiter = self._waiting.pop(decision.rid, None)
                    if waiter is not None:
                        waiter.decided(decision)
                if not self._decide_again:
                    break
        finally:
            self._deciding = False
        self._arm(now)

    def _decide_soon(self) -> None:
        """After a client has left. Many leave together, and those that wait may be among them: what the loop has to
        tell of that now comes first, so that nothing is sent for a client that has left too."""
        if not self._decides_soon:
            self._decides_soon = True
            self._loop.call_soon(self._decide_now)

    def _decide_now(self) -> None:
        self._decides_soon = False
        self.decide()

    def _arm(self, now: float) -> None:
        """Wake when the core has something new to say although nothing happened."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self.core.wake_at(now)
        if at is not None:
            self._timer = self._loop.call_later(max(at - now, SHORTEST_TIMER_S), self.decide)

    # What the controller is told.

    def ticks(self) -> tuple[EntityTick, list[ReplicaTick]]:
        seen = self.core.observe(monotonic())
        tick = EntityTick(
            endpoint=self._endpoint.id,
            entity=self.view.id,
            arrivals=seen.arrivals,
            offered_work=seen.offered_work,
            dispatched=seen.dispatched,
            dispatched_work=seen.dispatched_work,
            served_work=seen.served_work,
            input_tokens=seen.input_tokens,
            output_tokens=seen.output_tokens,
            completed=seen.completed,
            rejected=seen.rejected,
            rejected_work=seen.rejected_work,
            abandoned=seen.abandoned,
            failed=seen.failed,
            queued=seen.queued,
            queued_work=seen.queued_work,
            oldest_wait_s=seen.oldest_wait_s,
            in_flight=seen.in_flight,
            in_flight_work=seen.in_flight_work,
            limiter_debt=seen.limiter_debt,
        )
        replicas = [
            ReplicaTick(
                id=replica.id,
                in_flight=replica.in_flight,
                outstanding_work=replica.outstanding_work,
                dispatched=replica.dispatched,
                failures=replica.failures,
            )
            for replica in seen.replicas
        ]
        return tick, replicas

    @property
    def ended(self) -> int:
        """Requests so far."""
        return sum(self.statuses.values())

    def answers(self) -> AnswersTick:
        """How they have ended."""
        latency = [
            self.latency[shape].tick(name) for shape, name in OPERATIONS.items() if any(self.latency[shape].e2e.counts)
        ]
        return AnswersTick(self._endpoint.id, self.view.id, dict(self.statuses), tuple(latency))


def terms_of(endpoint: EndpointView, entity: EntityView) -> Terms:
    """What the entity was sold with, and how its endpoint treats what it cannot serve at once."""
    return Terms(
        chunk=entity.chunk,
        min_chunks=entity.min_chunks,
        max_chunks=entity.max_chunks,
        weights=_weights(entity.weights),
        context=entity.context,
        slots=entity.slots,
        default_max_tokens=entity.default_max_tokens,
        overload="reject" if endpoint.overload == "reject" else "spill" if endpoint.overload == "spill" else "queue",
        queue_deadline_s=endpoint.queue_deadline_s,
        cold_start_deadline_s=endpoint.cold_start_deadline_s,
        max_queue=endpoint.max_queue,
    )


def _weights(weights: WorkWeights) -> Weights:
    return Weights(w_in=weights.w_in, w_out=weights.w_out, w_pp=weights.w_pp, w_dd=weights.w_dd, w_c=weights.w_c)
