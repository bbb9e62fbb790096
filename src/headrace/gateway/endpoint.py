"""One endpoint as it runs: its decisions (``EndpointCore``) on the loop's clock, and its replicas."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from headrace.gateway.prompt import BytesPerToken
from headrace.gateway.request import Shape
from headrace.gateway.snapshot import EndpointView, EntityTick, EntityView, ReplicaTick, ReplicaView, WorkWeights
from headrace.policy.endpoint import Ask, Dispatch, EndpointCore, Outcome, Refuse, ReplicaState, Terms
from headrace.policy.work import Weights
from headrace.wire.client import Client

FIRST_BLOCK_S = 0.5
LONGEST_BLOCK_S = 15.0
"""A replica that failed gets no request for this long, doubled with each failure in a row: a restart takes a second,
and a broken one must not eat the queue."""

IDLE_CONNECTION_S = 3.0
"""Below the 5 s after which common engines close an idle connection themselves: both at once is a race."""


SHORTEST_TIMER_S = 0.001
"""The resolution of the loop's timers: asking again sooner would only spin."""


class EndpointGone(Exception):
    """The endpoint was deleted while the request waited."""


class Replica:
    """A replica and the connections to it."""

    def __init__(self, view: ReplicaView) -> None:
        self.view = view
        parts = urlsplit(view.url)
        self.client = Client(f"{parts.scheme}://{parts.netloc}", idle_s=IDLE_CONNECTION_S)
        self.base_path = parts.path.rstrip("/")
        self.headers = [(b"content-type", b"application/json")]
        if view.secret:
            self.headers.append((b"authorization", f"Bearer {view.secret}".encode()))
        self.failures_in_a_row = 0

    def block_s(self) -> float:
        """How long to leave it alone after one more failure."""
        self.failures_in_a_row += 1
        return min(LONGEST_BLOCK_S, FIRST_BLOCK_S * 2.0 ** (self.failures_in_a_row - 1))


class LiveEndpoint:
    """Requests come with ``admit`` and end with ``settle`` (dispatched) or ``leave`` (not dispatched)."""

    def __init__(
        self, view: EndpointView, replicas: Iterable[ReplicaView], on_cold_arrival: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_cold_arrival = on_cold_arrival
        self._waiting: dict[str, asyncio.Future[Dispatch | Refuse]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.view = view
        self.entity = view.entities[0]
        self.core = EndpointCore(terms_of(view), self._loop.time())
        self.replicas: dict[str, Replica] = {}
        self.bytes_per_token = {shape: BytesPerToken() for shape in Shape}
        self.removed = False
        self._set_replicas(replicas)

    # What the snapshot says.

    def update(self, view: EndpointView, replicas: Iterable[ReplicaView]) -> None:
        """A new snapshot: terms and replicas from now on."""
        if view != self.view:
            self.view = view
            self.entity = view.entities[0]
            self.core.configure(self._loop.time(), terms_of(view))
        self._set_replicas(replicas)
        self._decide()

    def remove(self) -> None:
        """The endpoint was deleted: what waits ends with EndpointGone, what is in flight goes on."""
        self.removed = True
        for rid, future in list(self._waiting.items()):
            self.core.leave(self._loop.time(), rid)
            if not future.done():
                future.set_exception(EndpointGone())
        self._waiting.clear()
        self._set_replicas(())
        self._arm()

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
        self.core.set_replicas(self._loop.time(), states)

    @property
    def has_replica(self) -> bool:
        """A replica takes new requests."""
        return any(not replica.view.draining for replica in self.replicas.values())

    # Requests.

    async def admit(self, ask: Ask) -> Dispatch | Refuse:
        """Wait for a slot and for room in the range, or for the answer that there is none.

        Raises EndpointGone. Cancelled: the request has left the queue.
        """
        refused = self.core.arrive(self._loop.time(), ask)
        if refused is not None:
            return refused
        if not self.has_replica:
            self._on_cold_arrival()
        return await self._decision(ask.rid)

    async def readmit(self, rid: str) -> Dispatch | Refuse:
        """After the loss of its replica before the first byte: wait again, at the head. As ``admit`` otherwise."""
        self.core.requeue(self._loop.time(), rid)
        return await self._decision(rid)

    async def _decision(self, rid: str) -> Dispatch | Refuse:
        if self.removed:
            self.core.leave(self._loop.time(), rid)
            raise EndpointGone
        future: asyncio.Future[Dispatch | Refuse] = self._loop.create_future()
        self._waiting[rid] = future
        self._decide()
        try:
            return await future
        except asyncio.CancelledError:
            self._abandon(rid)
            raise

    def _abandon(self, rid: str) -> None:
        """The client left while it waited, or in the very moment of the decision."""
        self._waiting.pop(rid, None)
        now = self._loop.time()
        if not self.core.leave(now, rid):
            with contextlib.suppress(KeyError):  # refused: nothing of it is left
                self.core.settle(now, rid, new=0, cached=0, out=0, outcome="client_gone")
        self._decide()

    def stream(self, rid: str, input_tokens: int | None, output_tokens: int) -> None:
        """A stream has come this far."""
        self.core.stream(self._loop.time(), rid, input_tokens, output_tokens)

    def settle(self, rid: str, *, new: int, cached: int, out: int, outcome: Outcome) -> float:
        """A dispatched request has ended, with this usage in tokens; returns its work."""
        work = self.core.settle(self._loop.time(), rid, new=new, cached=cached, out=out, outcome=outcome)
        self._decide()
        return work

    def block(self, replica: Replica) -> None:
        """The replica failed: leave it alone for a while."""
        now = self._loop.time()
        self.core.block(now, replica.view.id, now + replica.block_s())

    def predicted_s(self, input_tokens: int, output_tokens: int) -> float:
        """Seconds that a replica with all its slots taken is predicted to need for this much of a request."""
        terms = self.core.terms
        return terms.weights.work(input_tokens, 0, output_tokens) * terms.slots / terms.chunk

    def limit_headers(self) -> list[tuple[bytes, bytes]]:
        """The limiter's state, in reference tokens; ``reset`` is the time until the burst is whole again."""
        burst, remaining, reset_s = self.core.limit_headers(self._loop.time())
        return [
            (b"x-ratelimit-limit-tokens", b"%d" % burst),
            (b"x-ratelimit-remaining-tokens", b"%d" % remaining),
            (b"x-ratelimit-reset-tokens", b"%.3fs" % reset_s),
        ]

    # Decisions.

    def _decide(self) -> None:
        for decision in self.core.decide(self._loop.time()):
            future = self._waiting.pop(decision.rid, None)
            if future is not None and not future.done():
                future.set_result(decision)
        self._arm()

    def _arm(self) -> None:
        """Wake when the core has something new to say although nothing happened."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        at = self.core.wake_at(now)
        if at is not None:
            self._timer = self._loop.call_at(max(at, now + SHORTEST_TIMER_S), self._decide)

    # What the controller is told.

    def ticks(self) -> tuple[EntityTick, list[ReplicaTick]]:
        seen = self.core.observe(self._loop.time())
        tick = EntityTick(
            endpoint=self.view.id,
            entity=self.entity.id,
            arrivals=seen.arrivals,
            offered_work=seen.offered_work,
            dispatched=seen.dispatched,
            served_work=seen.served_work,
            input_tokens=seen.input_tokens,
            output_tokens=seen.output_tokens,
            completed=seen.completed,
            rejected=seen.rejected,
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


def terms_of(view: EndpointView) -> Terms:
    """The terms of an endpoint with one served entity."""
    entity: EntityView = view.entities[0]
    return Terms(
        chunk=entity.chunk,
        min_chunks=entity.min_chunks,
        max_chunks=entity.max_chunks,
        weights=_weights(entity.weights),
        context=entity.context,
        slots=entity.slots,
        default_max_tokens=entity.default_max_tokens,
        overload="reject" if view.overload == "reject" else "queue",
        queue_deadline_s=view.queue_deadline_s,
        cold_start_deadline_s=view.cold_start_deadline_s,
        max_queue=view.max_queue,
    )


def _weights(weights: WorkWeights) -> Weights:
    return Weights(w_in=weights.w_in, w_out=weights.w_out, w_pp=weights.w_pp, w_dd=weights.w_dd, w_c=weights.w_c)
