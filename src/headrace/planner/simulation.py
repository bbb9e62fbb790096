"""The events of an endpoint on a virtual clock, and ``simulate``.

One gateway, one served entity. Requests arrive, are decided on by the production ``EndpointCore``, and go to replicas
that work by the iteration-time model. The gateway reports every ``TICK_S``, the controller decides every ``STEP_S``,
and at once when a request finds no replica, as the live ones do: so the law sees what it sees in production, as late.

Not simulated: the time of a network, of a tokenizer and of the gateway itself (tenths of a millisecond), prompt caches,
the limit of a replica's KV memory (its slots are what it was measured to hold), and failures.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from headrace.planner.laws import Law
from headrace.planner.replicas import Replica, Replicas
from headrace.planner.result import Request, Result, Scaled
from headrace.policy.endpoint import Ask, EndpointCore, Refuse, Terms
from headrace.policy.observing import Bought, Observer
from headrace.profiles.profile import IterationTime

TICK_S = 0.5
"""Between two reports of a gateway."""
STEP_S = 1.0
"""Between two looks of the reconcile loop."""
GATEWAY = "gateway"
KEY = "key"
PRICE_MICRO = 1_000_000
"""Of a chunk-hour, where nobody asks for money."""


class Arrival(NamedTuple):
    """A request of a workload."""

    at_s: float
    """Since the beginning."""
    input_tokens: int
    output_tokens: int


class UnfitError(ValueError):
    """A workload that the endpoint could never serve."""


def simulate(
    workload: Iterable[tuple[float, int, int]],
    terms: Terms,
    model: IterationTime,
    law: Law,
    *,
    starts_s: Sequence[float],
    ready: int | None = None,
    scale_to_zero: bool = False,
    until_s: float | None = None,
    price_micro: int = PRICE_MICRO,
    seed: int = 0,
) -> Result:
    """Serve a workload (arrival in seconds, input tokens, output tokens; in order of arrival) under a scaling law.

    ``starts_s``: measured start-up times of a replica, of which each start draws one. ``ready``: chunks that are ready
    at the beginning; the minimum of the range unless given. ``until_s``: end of what is billed; the last arrival unless
    given. Same arguments, same result. Raises UnfitError for a request without tokens, or that does not fit the
    context, or that comes before the one before.
    """
    arrivals = [Arrival(*one) for one in workload]
    _check(arrivals, terms)
    end_s = until_s if until_s is not None else arrivals[-1].at_s if arrivals else 0.0
    simulation = _Simulation(terms, model, law, starts_s, scale_to_zero, price_micro, seed)
    return simulation.run(arrivals, terms.min_chunks if ready is None else ready, end_s)


class _Simulation:
    def __init__(
        self,
        terms: Terms,
        model: IterationTime,
        law: Law,
        starts_s: Sequence[float],
        scale_to_zero: bool,
        price_micro: int,
        seed: int,
    ) -> None:
        self._terms = terms
        self._law = law
        self._starts_s = starts_s
        self._random = random.Random(seed)
        self._bought = Bought(
            chunk=terms.chunk,
            slots=terms.slots,
            min_chunks=terms.min_chunks,
            max_chunks=terms.max_chunks,
            scale_to_zero=scale_to_zero,
        )
        self._core = EndpointCore(terms, 0.0)
        self._observer = Observer(0.0)
        self._replicas = Replicas(terms, model, price_micro, self._start)
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._wake_at: float | None = None
        self._requests: dict[str, Request] = {}
        self._expected: dict[str, int] = {}
        """Output tokens that the gateway has reserved for, of each request that has not ended."""
        self._left = 0
        """Requests that have not ended."""
        self._decisions: list[Scaled] = []

    def run(self, arrivals: Sequence[Arrival], ready: int, end_s: float) -> Result:
        self._replicas.begin(ready)
        self._core.set_replicas(0.0, self._replicas.states())
        self._left = len(arrivals)
        self._observer.report(0.0, GATEWAY, self._core.observe(0.0))
        self._step()
        self._at(TICK_S, self._tick)
        self._at(STEP_S, self._steps)
        events = self._events
        coming = iter(arrivals)
        arrival = next(coming, None)
        while arrival is not None or self._left or self._now < end_s:
            if arrival is not None and (not events or arrival.at_s <= events[0][0]):
                self._now = arrival.at_s
                self._arrive(arrival)
                arrival = next(coming, None)
            else:
                self._now, _, action = heapq.heappop(events)
                action()
        return Result(
            end_s, tuple(self._requests.values()), self._decisions, self._replicas.moments, self._replicas.points
        )

    def _at(self, when: float, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (when, self._order, action))

    # Clients and the gateway

    def _arrive(self, arrival: Arrival) -> None:
        terms, core = self._terms, self._core
        rid = str(len(self._requests))
        work = terms.weights.work(arrival.input_tokens, 0, arrival.output_tokens)
        request = Request(arrival.at_s, arrival.input_tokens, arrival.output_tokens, work)
        self._requests[rid] = request
        # A client that wants more than the default says so.
        most = max(terms.default_max_tokens, arrival.output_tokens)
        expected = self._expected[rid] = core.predict_output(KEY, most)
        ask = Ask(rid, KEY, "default", arrival.input_tokens, most, expected)
        refused = core.arrive(self._now, ask)
        if refused is not None:
            self._refuse(refused)
            return
        self._decide()
        # A gateway without a replica for a request says so at once, and the controller looks at once.
        if request.dispatched_s is None and not self._replicas.chunks().ready:
            self._report()
            self._step()

    def _decide(self) -> None:
        """As the gateway does whenever something may have become possible."""
        now, core = self._now, self._core
        for decision in core.decide(now):
            if isinstance(decision, Refuse):
                self._refuse(decision)
                continue
            request, replica = self._requests[decision.rid], self._replicas[decision.replica]
            request.dispatched_s = now
            replica.in_flight += 1
            before = replica.batch.ends_at
            replica.batch.add(now, decision.rid, request.input_tokens, request.output_tokens)
            if replica.batch.ends_at != before:
                self._await(replica)
        wake = core.wake_at(now)
        if wake is not None and (self._wake_at is None or wake < self._wake_at or self._wake_at <= now):
            # At the instant itself a rounding of floats may leave nothing to decide.
            self._wake_at = max(wake, now + 1e-6)
            self._at(self._wake_at, self._woken)

    def _woken(self) -> None:
        if self._wake_at == self._now:
            self._wake_at = None
        self._decide()

    def _refuse(self, refused: Refuse) -> None:
        self._requests[refused.rid].refused = refused.reason
        del self._expected[refused.rid]
        self._left -= 1

    def _tick(self) -> None:
        """The gateway has followed the streams, and reports."""
        for replica in self._replicas:
            for rid, tokens in replica.batch.generated(self._now):
                if tokens > self._expected[rid]:  # what is within its reservation charges nothing
                    self._core.stream(self._now, rid, None, tokens)
        self._decide()
        self._report()
        self._at(self._now + TICK_S, self._tick)

    def _report(self) -> None:
        self._observer.report(self._now, GATEWAY, self._core.observe(self._now))

    # Replicas

    def _await(self, replica: Replica) -> None:
        """Go on with a replica when its run of iterations is over. One that is cut short is due earlier then."""
        due = replica.batch.ends_at
        if due is not None:
            self._at(due, lambda: self._iterated(replica, due))

    def _iterated(self, replica: Replica, due: float) -> None:
        batch = replica.batch
        if batch.ends_at != due:
            return
        firsts, lasts = batch.advance()
        for rid in firsts:
            self._requests[rid].first_s = self._now
        for rid in lasts:
            self._end(rid, replica)
        self._await(replica)
        if lasts:
            self._decide()

    def _end(self, rid: str, replica: Replica) -> None:
        request = self._requests[rid]
        request.ended_s = self._now
        replica.in_flight -= 1
        del self._expected[rid]
        self._left -= 1
        self._core.settle(self._now, rid, new=request.input_tokens, cached=0, out=request.output_tokens, outcome="ok")

    def _start(self, replica: Replica) -> None:
        self._at(self._now + self._random.choice(self._starts_s), lambda: self._ready(replica))

    def _ready(self, replica: Replica) -> None:
        if self._replicas.ready(self._now, replica):
            self._published()

    def _published(self) -> None:
        """The gateway hears which replicas take requests."""
        self._core.set_replicas(self._now, self._replicas.states())
        self._decide()

    # The controller

    def _steps(self) -> None:
        if self._replicas.end_drained(self._now):
            self._published()
        self._step()
        self._at(self._now + STEP_S, self._steps)

    def _step(self) -> None:
        """One look of the reconcile loop."""
        now, chunks = self._now, self._replicas.chunks()
        seen = self._observer.observe(
            now, self._bought, chunks, self._law.knobs, connected=(GATEWAY,), metrics_age_s=0.0
        )
        verdict = self._law.decide(seen)
        before = chunks.ready + chunks.pending
        if verdict.chunks != before:
            self._decisions.append(Scaled(now, before, verdict.chunks, verdict.reason, seen, verdict.inputs))
            if self._replicas.resize(now, verdict.chunks):
                self._published()


def _check(arrivals: Sequence[Arrival], terms: Terms) -> None:
    """Raises UnfitError."""
    before = 0.0
    for number, arrival in enumerate(arrivals):
        tokens = arrival.input_tokens + arrival.output_tokens
        if min(arrival.input_tokens, arrival.output_tokens) < 1 or tokens > terms.context:
            raise UnfitError(
                f"request {number} has {arrival.input_tokens} input and {arrival.output_tokens} output tokens; "
                f"expected at least 1 each way and at most {terms.context} together, the context: leave it out"
            )
        if arrival.at_s < before:
            raise UnfitError(
                f"request {number} arrives at {arrival.at_s} s, before the one before it ({before} s): sort them"
            )
        before = arrival.at_s
