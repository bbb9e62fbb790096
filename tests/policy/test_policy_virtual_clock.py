"""Queue, admission, routing, scaling and billing together on a virtual clock.

An event heap drives the same objects as the live gateway and controller do. Chunk, weights, minimum and arrivals are
random by seed; the load goes from half of the maximum to twice the maximum and then stops.
"""

from __future__ import annotations

import heapq
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from headrace.policy.billing import CapacityPoint, hourly_lines
from headrace.policy.demand import Demand
from headrace.policy.endpoint import Ask, Dispatch, EndpointCore, Refuse, ReplicaState, Terms
from headrace.policy.scaling import Decision, Knobs, Observation, State, decide, replay, windows
from headrace.policy.work import Weights

CALM_S, OVERLOAD_S, QUIET_S = 400.0, 800.0, 800.0
START_S = 15.0
PRICE_MICRO = 1_234_567
KNOBS = Knobs(down_window_s=30)


@dataclass
class Request:
    """A request as the world knows it; the endpoint sees only estimates."""

    ask: Ask
    input_tokens: int
    output_tokens: int
    arrived: float
    dispatch: Dispatch | None = None
    ends: list[str] = field(default_factory=list)


@dataclass
class Replica:
    id: str
    draining: bool = False
    in_flight: int = 0


class World:
    """Clients, replicas of one endpoint, and a controller."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        chunk = self.random.choice([60, 100, 250])
        weights = Weights(
            w_in=self.random.uniform(0.4, 1),
            w_out=self.random.uniform(0.5, 3),
            w_pp=self.random.uniform(0, 2e-4),
            w_dd=self.random.uniform(0, 8e-4),
            w_c=0.0,
        ).scaled()
        self.slots = self.random.randint(1, 3)
        self.terms = Terms(
            chunk=chunk,
            min_chunks=2,
            max_chunks=5,
            weights=weights,
            context=1024,
            slots=self.slots,
            default_max_tokens=256,
        )
        self.core = EndpointCore(self.terms, 0.0)
        self.demand = Demand(windows(KNOBS, chunk, self.slots)[1])
        self.state = State()
        self.decisions: list[Decision] = []
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = 0
        self.requests: dict[str, Request] = {}
        self.waiting: Counter[str] = Counter()  # by key
        self.in_flight: dict[str, Request] = {}
        self.wake = float("inf")
        self.replicas: dict[str, Replica] = {}
        self.pending = 0
        self.last_arrival = 0.0
        self.points: list[CapacityPoint] = []
        self.billed_ms = 0  # integrated here, event by event
        self.billed_until = 0
        self.excess = 0.0  # what requests in flight at the last dispatch may use beyond their reservation
        self.shares: Counter[str] = Counter()  # exact work by key while both keys wait

    def at(self, when: float, action: Callable[[], None]) -> None:
        self.order += 1
        # Whole milliseconds, so that the bill can be checked exactly.
        heapq.heappush(self.events, (max(self.now, round(when, 3)), self.order, action))

    def run(self, until: float) -> None:
        while self.events and self.events[0][0] <= until:
            when, _, action = heapq.heappop(self.events)
            self.now = when
            self._integrate_bill()
            action()
            self._check_rate()

    # -- clients ------------------------------------------------------------------------------------------------------

    def clients(self, key: str, start: float, end: float, load: float) -> None:
        """Random arrivals of ``load`` times the maximum of the range."""
        mean_work = self.terms.weights.work(250, 0, 60)
        gap = mean_work / (load * self.terms.rate)

        def arrive() -> None:
            self._arrive(key)
            following = self.now + self.random.expovariate(1 / gap)
            if following < end:
                self.at(following, arrive)

        self.at(start + self.random.expovariate(1 / gap), arrive)

    def _arrive(self, key: str) -> None:
        rid = f"{key}{len(self.requests)}"
        input_tokens = self.random.randint(100, 400)
        output_tokens = self.random.randint(20, 100)
        max_output = self.random.choice([output_tokens, 100, 500])
        ask = Ask(
            rid,
            key,
            "default",
            round(input_tokens * self.random.uniform(0.9, 1.1)),
            max_output,
            self.core.predict_output(key, max_output),
        )
        request = self.requests[rid] = Request(ask, input_tokens, output_tokens, self.now)
        self.last_arrival = self.now
        answer = self.core.arrive(self.now, ask)
        if answer is not None:
            request.ends.append(answer.reason)
            return
        self.waiting[key] += 1
        if self.random.random() < 0.02:
            self.at(self.now + self.random.uniform(0, 20), lambda: self._leave(rid))
        self.decide()

    def _leave(self, rid: str) -> None:
        if self.core.leave(self.now, rid):
            request = self.requests[rid]
            request.ends.append("left")
            self.waiting[request.ask.key] -= 1
            self.decide()

    # -- gateway and replicas -----------------------------------------------------------------------------------------

    def decide(self) -> None:
        both_wait = self.waiting["a"] > 0 and self.waiting["b"] > 0
        for decision in self.core.decide(self.now):
            request = self.requests[decision.rid]
            self.waiting[request.ask.key] -= 1
            if isinstance(decision, Refuse):
                assert decision.status == 429 or decision.reason in ("deadline", "no_replica", "cold_start")
                request.ends.append(decision.reason)
                continue
            assert request.dispatch is None and not request.ends
            request.dispatch = decision
            self.in_flight[decision.rid] = request
            replica = self.replicas[decision.replica]
            assert not replica.draining
            replica.in_flight += 1
            assert replica.in_flight <= self.slots
            exact = self.terms.weights.work(request.input_tokens, 0, request.output_tokens)
            if both_wait:
                self.shares[request.ask.key] += exact  # type: ignore[assignment]
            seconds = self.slots * exact / self.terms.chunk * self.random.uniform(0.8, 1.0)
            self.at(self.now + seconds / 2, lambda request=request: self._half(request))  # type: ignore[misc]
            self.at(self.now + seconds, lambda request=request: self._end(request))  # type: ignore[misc]
            self._dispatched()
        wake = self.core.wake_at(self.now)
        if wake is not None:
            assert wake > self.now  # all that could be decided now was
            if not self.now < self.wake <= wake + 0.001:
                self.wake = round(wake + 0.001, 3)
                self.at(self.wake, self.decide)

    def _half(self, request: Request) -> None:
        self.core.stream(self.now, request.ask.rid, request.input_tokens, request.output_tokens // 2)

    def _end(self, request: Request) -> None:
        assert request.dispatch is not None
        self.core.settle(
            self.now,
            request.ask.rid,
            new=request.input_tokens,
            cached=0,
            out=request.output_tokens,
            outcome="ok",
        )
        request.ends.append("ok")
        del self.in_flight[request.ask.rid]
        replica = self.replicas[request.dispatch.replica]
        replica.in_flight -= 1
        if replica.draining and not replica.in_flight:
            del self.replicas[replica.id]
            self._replicas_changed()
        self.decide()

    def _dispatched(self) -> None:
        """The law of the limiter at a dispatch, and what later top-ups may add to it."""
        observed = self.core.observe(self.now)
        charged = observed.served_work + observed.in_flight_work
        self.excess = 0.0
        for request in self.in_flight.values():
            assert request.dispatch is not None
            most = self.terms.weights.work(request.input_tokens, 0, request.ask.max_output)
            self.excess += max(0.0, most - request.dispatch.work)
        assert charged <= self.terms.rate * self.now + self.terms.burst + 1

    def _check_rate(self) -> None:
        observed = self.core.observe(self.now)
        charged = observed.served_work + observed.in_flight_work
        assert charged <= self.terms.rate * self.now + self.terms.burst + self.excess + 1
        assert observed.in_flight == sum(replica.in_flight for replica in self.replicas.values())

    # -- controller ---------------------------------------------------------------------------------------------------

    def control(self) -> None:
        observed = self.core.observe(self.now)
        self.demand.sample(self.now, "gateway", observed.offered_work)
        fast, slow = windows(KNOBS, self.terms.chunk, self.slots)
        serving = [replica for replica in self.replicas.values() if not replica.draining]
        decision = decide(
            Observation(
                now=self.now,
                chunk=self.terms.chunk,
                slots=self.slots,
                min_chunks=self.terms.min_chunks,
                max_chunks=self.terms.max_chunks,
                scale_to_zero=False,
                ready=len(serving),
                pending=self.pending,
                draining=len(self.replicas) - len(serving),
                offered_fast=self.demand.rate(self.now, fast),
                offered_slow=self.demand.rate(self.now, slow),
                history_s=self.demand.history_s(self.now),
                backlog_work=observed.queued_work,
                queued=observed.queued,
                oldest_wait_s=observed.oldest_wait_s,
                in_flight=observed.in_flight,
                last_arrival_age_s=self.now - self.last_arrival,
                metrics_age_s=0.0,
            ),
            KNOBS,
            self.state,
        )
        self.state = decision.state
        self.decisions.append(decision)
        for _ in range(decision.chunks - len(serving) - self.pending):
            self.pending += 1
            self.at(self.now + START_S, self._ready)
        for replica in serving[decision.chunks :]:
            replica.draining = True
            if not replica.in_flight:
                del self.replicas[replica.id]
            self._replicas_changed()
        self.at(self.now + 1, self.control)

    def _ready(self) -> None:
        self.pending -= 1
        replica = Replica(f"r{self.order}")
        self.replicas[replica.id] = replica
        self._replicas_changed()

    def _replicas_changed(self) -> None:
        self.core.set_replicas(self.now, [ReplicaState(r.id, self.slots, r.draining) for r in self.replicas.values()])
        ready = sum(not replica.draining for replica in self.replicas.values())
        self.points.append(
            CapacityPoint(
                at_ms=self.now_ms,
                ready=ready,
                draining_own=len(self.replicas) - ready,
                min_chunks=self.terms.min_chunks,
                endpoint_ready=ready > 0,
                price_micro_per_chunk_hour=PRICE_MICRO,
                config_version=1,
            )
        )
        self.decide()

    @property
    def now_ms(self) -> int:
        return round(self.now * 1000)

    def _integrate_bill(self) -> None:
        serving = any(not replica.draining for replica in self.replicas.values())
        chunks = max(self.terms.min_chunks if serving else 0, len(self.replicas))
        self.billed_ms += chunks * (self.now_ms - self.billed_until)
        self.billed_until = self.now_ms


@pytest.fixture(scope="module", params=[1, 5, 7])
def world(request: pytest.FixtureRequest) -> World:
    """A world after its whole story; what holds at every moment was asserted on the way."""
    world = World(request.param)
    world.at(0, world.control)
    world.clients("a", 0, CALM_S, 0.3)
    world.clients("b", 0, CALM_S, 0.2)
    world.clients("a", CALM_S, CALM_S + OVERLOAD_S, 1.4)
    world.clients("b", CALM_S, CALM_S + OVERLOAD_S, 0.7)
    world.run(CALM_S + OVERLOAD_S + QUIET_S)
    return world


def test_every_request_ends_exactly_once(world: World) -> None:
    assert {len(request.ends) for request in world.requests.values()} == {1}
    ends = Counter(request.ends[0] for request in world.requests.values())
    observed = world.core.observe(world.now)
    assert (observed.completed, observed.abandoned) == (ends["ok"], ends["left"])
    assert observed.arrivals == len(world.requests) == observed.completed + observed.rejected + observed.abandoned
    assert (observed.queued, observed.in_flight, observed.queued_work, observed.in_flight_work) == (0, 0, 0, 0)
    assert ends["ok"] > 0.4 * len(world.requests)


def test_served_work_and_tokens_are_those_of_the_requests(world: World) -> None:
    served = [request for request in world.requests.values() if request.ends == ["ok"]]
    observed = world.core.observe(world.now)
    assert observed.input_tokens == sum(request.input_tokens for request in served)
    assert observed.output_tokens == sum(request.output_tokens for request in served)
    assert observed.served_work == pytest.approx(
        sum(world.terms.weights.work(request.input_tokens, 0, request.output_tokens) for request in served)
    )


def test_the_endpoint_scales_over_its_range_and_back(world: World) -> None:
    counts = [decision.chunks for decision in world.decisions]
    assert set(counts) <= {2, 3, 4, 5}
    assert max(counts) == 5
    assert counts[-1] == 2
    assert len([replica for replica in world.replicas.values() if not replica.draining]) == 2


def test_the_recorded_inputs_of_each_decision_make_it_again(world: World) -> None:
    for decision in world.decisions:
        assert replay(json.loads(json.dumps(decision.inputs))) == decision


def test_the_bill_is_the_price_of_an_independent_integration(world: World) -> None:
    lines = hourly_lines(world.points, 0, world.now_ms)
    assert sum(line.chunk_ms for line in lines) == world.billed_ms
    total = sum(line.amount_micro for line in lines)
    assert total == pytest.approx(world.billed_ms * PRICE_MICRO / 3_600_000, abs=len(lines))


def test_two_keys_that_wait_get_equal_shares(world: World) -> None:
    assert world.shares["a"] + world.shares["b"] > 50 * world.terms.weights.work(250, 0, 60)
    assert world.shares["a"] / world.shares["b"] == pytest.approx(1, abs=0.1)
