"""An endpoint core under whatever may happen to it: arrivals, streams, losses, settlements, config changes, time.

Held against a plain account of the same events: the overshoot bound of the limiter, slots, order of ends, counters; and
that the same calls with the same times give the same decisions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.policy.endpoint import Ask, Dispatch, EndpointCore, Outcome, Refuse, ReplicaState, Terms
from headrace.policy.queueing import BAND_WEIGHTS
from headrace.policy.work import Weights

WEIGHTS = Weights(w_in=0.6, w_out=2.0, w_pp=1e-4, w_dd=5e-4, w_c=0.05)
TERMS = Terms(
    chunk=100.0,
    min_chunks=1,
    max_chunks=2,
    weights=WEIGHTS,
    context=1024,
    slots=3,
    default_max_tokens=200,
    queue_deadline_s=8.0,
    cold_start_deadline_s=20.0,
    max_queue=6,
)
ROUNDING = 1e-3
"""Reference tokens; more than the clock's slack and the rounding of floats can make."""


@dataclass
class Client:
    """A request as the world knows it; the endpoint sees only its estimates."""

    ask: Ask
    input_tokens: int
    weights: Weights
    best_known: int = 0
    """Input tokens, as the endpoint knows them."""
    charged: float = 0.0
    streamed: int = 0
    replica: str = ""
    ends: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.best_known = self.ask.input_tokens

    @property
    def limit(self) -> float:
        """Work at its token limit."""
        return self.weights.work(max(self.best_known, self.input_tokens), 0, self.ask.max_output)


class EndpointMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.terms = TERMS
        self.now = 1000.0
        self.core = EndpointCore(TERMS, self.now)
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any], Any]] = []
        self.clients: dict[str, Client] = {}
        self.waiting: dict[str, Client] = {}
        self.in_flight: dict[str, Client] = {}
        self.returned: set[str] = set()
        self.replicas: dict[str, ReplicaState] = {}
        self.arrivals = self.spilled = 0
        self.paid = 0.0  # what the rate has made room for
        self.allowed = self.terms.burst  # at the last reservation: the burst, and what streams may still use

    def tell(self, method: str, *args: Any, **named: Any) -> Any:
        got = getattr(self.core, method)(self.now, *args, **named)
        self.calls.append((method, (self.now, *args), named, got))
        return got

    def settled_work(self) -> float:
        return self.core.observe(self.now).served_work

    def charged(self) -> float:
        return self.settled_work() + sum(
            client.charged for client in (*self.in_flight.values(), *self.waiting.values())
        )

    # -- what happens -------------------------------------------------------------------------------------------------

    @initialize(count=st.integers(0, 3))
    def start(self, count: int) -> None:
        self._set_replicas({f"r{n}": ReplicaState(f"r{n}", 3, False) for n in range(count)})

    @rule(
        asks=st.lists(
            st.builds(
                dict,
                key=st.sampled_from("abc"),
                band=st.sampled_from(list(BAND_WEIGHTS)),
                input_tokens=st.integers(1, 700),
                max_output=st.integers(1, 300),
                retry=st.booleans(),
                prefix=st.one_of(st.none(), st.integers(0, 5)),
                weight=st.sampled_from([0.5, 1.0, 4.0]),
            ),
            min_size=1,
            max_size=5,
        ),
        error=st.floats(0.5, 1.5),
        spills=st.booleans(),
    )
    def arrive(self, asks: list[dict[str, Any]], error: float, spills: bool) -> None:
        for fields in asks:
            rid = f"{fields['key']}{len(self.clients)}"
            input_tokens = fields["input_tokens"]
            predicted = self.core.predict_output(fields["key"], fields["max_output"])
            assert 0 <= predicted <= fields["max_output"]
            fields |= {"rid": rid, "input_tokens": round(input_tokens * error), "predicted_output": predicted}
            self._arrive(Client(Ask(**fields), input_tokens, self.terms.weights), spills)

    def _arrive(self, client: Client, spills: bool) -> None:
        ask = client.ask
        fits = self.tell("fits", ask)
        self.arrivals += 1
        if spills and not fits:
            self.tell("spilled", ask)
            self.spilled += 1
            return
        self.clients[ask.rid] = client
        refused = self.tell("arrive", ask)
        if refused is not None:
            assert not fits
            assert refused.rid == ask.rid
            client.ends.append(refused.reason)
        else:
            self.waiting[ask.rid] = client
        self._decide()
        assert fits == (ask.rid in self.in_flight)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), part=st.floats(0, 1), exact_input=st.booleans())
    def stream(self, data: st.DataObject, part: float, exact_input: bool) -> None:
        client = self._one(data, self.in_flight)
        client.streamed += round(part * (client.ask.max_output - client.streamed))
        known = client.input_tokens if exact_input else None
        decide = self.tell("stream", client.ask.rid, known, client.streamed)
        client.best_known = known or client.best_known
        client.charged = max(client.charged, client.weights.work(client.best_known, 0, client.streamed))
        if decide:
            self._decide()

    @precondition(lambda self: self.in_flight)
    @rule(
        data=st.data(),
        part=st.floats(0, 1),
        cached=st.floats(0, 1),
        outcome=st.sampled_from(["ok", "ok", "client_gone", "engine_failed", "engine_error", "timeout", "refused"]),
    )
    def settle(self, data: st.DataObject, part: float, cached: float, outcome: Outcome) -> None:
        client = self._one(data, self.in_flight)
        rid = client.ask.rid
        old = round(cached * client.input_tokens)
        new, out = client.input_tokens - old, client.streamed + round(part * (client.ask.max_output - client.streamed))
        if outcome == "refused":
            old = new = out = 0
        work = self.tell("settle", rid, new=new, cached=old, out=out, outcome=outcome)
        assert work == client.weights.work(new, old, out)
        del self.in_flight[rid]
        client.ends.append(outcome)
        self._decide()

    @precondition(lambda self: any(not client.streamed for client in self.in_flight.values()))
    @rule(data=st.data(), ejected=st.booleans())
    def lose_the_replica_of(self, data: st.DataObject, ejected: bool) -> None:
        client = self._one(data, {rid: one for rid, one in self.in_flight.items() if not one.streamed})
        rid = client.ask.rid
        if ejected:
            self.tell("replica_failed", client.replica)
        self.tell("requeue", rid)
        del self.in_flight[rid]
        self.waiting[rid] = client
        self.returned.add(rid)
        self._decide()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        client = self._one(data, self.waiting)
        assert self.tell("leave", client.ask.rid) is True
        del self.waiting[client.ask.rid]
        self.returned.discard(client.ask.rid)
        client.charged = 0.0
        client.ends.append("left")
        self._decide()

    @precondition(lambda self: self.replicas)
    @rule(data=st.data(), answered=st.booleans())
    def hear_of_a_replica(self, data: st.DataObject, answered: bool) -> None:
        replica = data.draw(st.sampled_from(sorted(self.replicas)))
        if self.tell("replica_answered" if answered else "replica_failed", replica):
            self._decide()

    @rule(
        states=st.dictionaries(
            st.sampled_from(["r0", "r1", "r2", "r3"]), st.tuples(st.integers(1, 3), st.booleans()), max_size=4
        )
    )
    def change_the_replicas(self, states: dict[str, tuple[int, bool]]) -> None:
        self._set_replicas({name: ReplicaState(name, slots, drains) for name, (slots, drains) in states.items()})

    @rule(
        max_chunks=st.integers(1, 4),
        chunk=st.sampled_from([50.0, 100.0, 400.0]),
        overload=st.sampled_from(["queue", "reject", "spill"]),
        heavier=st.sampled_from([1.0, 1.5]),
        max_queue=st.integers(1, 8),
    )
    def configure(self, max_chunks: int, chunk: float, overload: Any, heavier: float, max_queue: int) -> None:
        weights = replace(WEIGHTS, w_in=WEIGHTS.w_in * heavier, w_out=WEIGHTS.w_out * heavier)
        self.terms = replace(
            TERMS, chunk=chunk, max_chunks=max_chunks, overload=overload, weights=weights, max_queue=max_queue
        )
        self.tell("configure", self.terms)
        self._decide()

    @rule(seconds=st.one_of(st.floats(0, 0.5), st.floats(0, 12)))
    def time_passes(self, seconds: float) -> None:
        until = self.now + seconds
        while (wake := self.core.wake_at(self.now)) is not None and wake <= until:
            self._pass(max(wake, self.now + 1e-6) - self.now)
            self._decide()
        if until > self.now:
            self._pass(until - self.now)

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        self.paid += self.terms.rate * seconds

    def _set_replicas(self, replicas: dict[str, ReplicaState]) -> None:
        self.replicas = replicas
        self.tell("set_replicas", list(replicas.values()))
        self._decide()

    @staticmethod
    def _one(data: st.DataObject, among: dict[str, Client]) -> Client:
        return among[data.draw(st.sampled_from(sorted(among)))]

    # -- what is decided ----------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        decisions: list[Dispatch | Refuse] = self.tell("decide")
        for decision in decisions:
            client = self.waiting.pop(decision.rid)
            if isinstance(decision, Refuse):
                assert decision.retry_after_s > 0
                client.charged = 0.0
                client.ends.append(decision.reason)
            else:
                self._sent(client, decision)
            self.returned.discard(decision.rid)
        if self.waiting:
            wake = self.core.wake_at(self.now)
            assert wake is not None
            assert wake > self.now  # all that could be decided now was

    def _sent(self, client: Client, dispatch: Dispatch) -> None:
        state = self.replicas[dispatch.replica]
        assert not state.draining
        client.replica = dispatch.replica
        self.in_flight[dispatch.rid] = client
        assert sum(one.replica == dispatch.replica for one in self.in_flight.values()) <= state.slots
        if dispatch.rid in self.returned:
            assert dispatch.work == client.charged  # it pays once
            return
        client.charged = dispatch.work
        largest = max(self.terms.burst, dispatch.work)
        held = [*self.in_flight.values(), *(self.waiting[rid] for rid in self.returned if rid in self.waiting)]
        self.allowed = largest + sum(max(0.0, one.limit - one.charged) for one in held)

    # -- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def the_overshoot_is_bounded_by_what_the_streams_in_flight_at_the_last_reservation_may_use(self) -> None:
        assert self.charged() <= self.paid + self.allowed + ROUNDING

    @invariant()
    def the_balance_is_never_above_the_burst(self) -> None:
        burst, remaining, reset_s = self.core.limit_headers(self.now)
        assert burst == self.terms.burst
        assert 0 <= remaining <= burst
        assert reset_s >= 0
        if not self.in_flight and not self.waiting and reset_s == 0:
            assert remaining == burst

    @invariant()
    def nobody_waits_while_there_is_a_slot_and_room(self) -> None:
        oldest = self.core.wake_at(self.now)
        assert (oldest is None) == (not self.waiting)
        if oldest is not None:
            assert oldest > self.now

    @invariant()
    def every_request_is_in_one_place_and_ends_once(self) -> None:
        for rid, client in self.clients.items():
            assert len(client.ends) + (rid in self.waiting) + (rid in self.in_flight) == 1

    @invariant()
    def the_counters_are_those_of_the_requests(self) -> None:
        seen = self.core.observe(self.now)
        ends = [client.ends[0] for client in self.clients.values() if client.ends]
        assert (seen.queued, seen.in_flight) == (len(self.waiting), len(self.in_flight))
        assert seen.arrivals == self.arrivals
        assert seen.completed == sum(end in ("ok", "refused") for end in ends)
        assert seen.abandoned == sum(end in ("left", "client_gone") for end in ends)
        assert seen.failed == sum(end in ("engine_failed", "engine_error", "timeout") for end in ends)
        assert seen.arrivals - self.spilled - seen.queued - seen.in_flight == (
            seen.completed + seen.abandoned + seen.failed + seen.rejected
        )
        assert abs(seen.in_flight_work - sum(client.charged for client in self.in_flight.values())) < ROUNDING
        by_replica = {replica.id: replica.in_flight for replica in seen.replicas}
        for name in {client.replica for client in self.in_flight.values()}:
            assert by_replica[name] == sum(client.replica == name for client in self.in_flight.values())

    def teardown(self) -> None:
        """The same calls at the same times give the same decisions."""
        again = EndpointCore(TERMS, 1000.0)
        for method, args, named, got in self.calls:
            assert getattr(again, method)(*args, **named) == got
        assert again.observe(self.now) == self.core.observe(self.now)


TestEndpointMachine = EndpointMachine.TestCase
TestEndpointMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
