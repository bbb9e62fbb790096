"""One endpoint: who is sent where and when, who is refused, and what the refusal says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.policy.endpoint import Ask, Dispatch, EndpointCore, Refuse, ReplicaState, Terms
from headrace.policy.work import RAW_TOKENS, Weights, largest_work

TERMS = Terms(
    chunk=100, min_chunks=1, max_chunks=2, weights=RAW_TOKENS, context=1000, slots=2, default_max_tokens=100
)  # rate 200/s, burst 1000


def ask(rid: str, tokens: int = 100, out: int = 100, key: str = "k", **more: object) -> Ask:
    return Ask(rid, key, "default", tokens, out, out, **more)  # type: ignore[arg-type]


def core_with(replicas: int = 1, terms: Terms = TERMS, slots: int | None = None) -> EndpointCore:
    core = EndpointCore(terms, 0.0)
    core.set_replicas(0.0, [ReplicaState(f"r{n}", slots or terms.slots, False) for n in range(replicas)])
    return core


def dispatched(decisions: list[Dispatch | Refuse]) -> list[str]:
    return [decision.rid for decision in decisions if isinstance(decision, Dispatch)]


def refused(decisions: list[Dispatch | Refuse]) -> list[Refuse]:
    return [decision for decision in decisions if isinstance(decision, Refuse)]


def test_the_burst_holds_the_largest_request_that_fits_the_context() -> None:
    weights = Weights(w_in=0.6, w_out=0.9, w_pp=2e-4, w_dd=8e-4, w_c=0.0)
    largest = largest_work(weights, 4096)
    assert replace(TERMS, weights=weights, context=4096, chunk=1).burst == largest
    assert all(weights.work(4096 - out, 0, out) <= largest + 1e-9 for out in range(4097))


def test_a_request_is_sent_when_a_slot_is_free() -> None:
    core = core_with()
    for rid in "abc":
        assert core.arrive(0, ask(rid)) is None
    assert dispatched(core.decide(0)) == ["a", "b"]
    core.settle(1, "a", new=100, cached=0, out=100, outcome="ok")
    assert dispatched(core.decide(1)) == ["c"]


def test_requests_go_to_the_replica_with_the_least_outstanding_work() -> None:
    core = core_with(2)
    core.arrive(0, ask("large", 400, 100))
    core.arrive(0, ask("small", 50, 50))
    core.arrive(0, ask("next", 50, 50))
    assert [(d.rid, d.replica) for d in core.decide(0) if isinstance(d, Dispatch)] == [
        ("large", "r0"),
        ("small", "r1"),
        ("next", "r1"),
    ]


@pytest.mark.parametrize("state", ["draining", "blocked", "gone"])
def test_nothing_is_sent_to_a_replica_that_is(state: str) -> None:
    core = core_with(2)
    others = [ReplicaState("r1", 2, False)]
    if state == "draining":
        core.set_replicas(0, [ReplicaState("r0", 2, True), *others])
    elif state == "gone":
        core.set_replicas(0, others)
    else:
        core.block(0, "r0", 5.0)
    for rid in "abcd":
        core.arrive(0, ask(rid))
    assert [d.replica for d in core.decide(0) if isinstance(d, Dispatch)] == ["r1", "r1"]
    if state == "blocked":
        assert core.wake_at(0) == 5.0
        assert [d.replica for d in core.decide(5.0) if isinstance(d, Dispatch)] == ["r0", "r0"]


def test_the_head_is_not_overtaken_by_smaller_requests_of_its_band() -> None:
    core = core_with(slots=10)
    for rid, tokens in (("first", 700), ("large", 800), ("small", 10)):
        core.arrive(0, ask(rid, tokens, 1, key=rid))
    assert dispatched(core.decide(0)) == ["first"]
    assert core.limit_headers(0)[1] == pytest.approx(299)
    wake = core.wake_at(0)
    assert wake == pytest.approx((701 + 801 - 1000) / 200)
    assert dispatched(core.decide(wake - 0.001)) == []
    assert dispatched(core.decide(wake)) == ["large"]


def test_an_admitted_stream_is_never_cut_for_rate_and_its_debt_is_carried() -> None:
    core = core_with(slots=10)
    core.arrive(0, Ask("long", "k", "default", 100, 900, 50))
    assert dispatched(core.decide(0)) == ["long"]
    for second in range(1, 10):
        core.stream(second * 0.1, "long", None, second * 100)
    observed = core.observe(0.9)
    assert observed.output_tokens == 900
    assert observed.limiter_debt == pytest.approx(1000 - 0.9 * 200)
    core.arrive(0.9, ask("next", 900, 100))
    assert core.decide(0.9) == []
    assert core.wake_at(0.9) == pytest.approx(5.0)


def test_settlement_replaces_the_reservation_by_the_exact_usage() -> None:
    core = core_with()
    core.arrive(0, ask("a", 100, 400))
    core.decide(0)
    assert core.settle(0, "a", new=90, cached=0, out=10, outcome="ok") == 100
    observed = core.observe(0)
    assert observed.limiter_debt == pytest.approx(100)
    assert observed.offered_work == observed.served_work == pytest.approx(100)
    assert (observed.input_tokens, observed.output_tokens, observed.completed, observed.in_flight) == (90, 10, 1, 0)


def test_what_an_engine_refuses_is_charged_nothing_and_held_against_nobody() -> None:
    core = core_with()
    core.arrive(0, ask("a", 100, 400))
    core.decide(0)
    assert core.settle(0, "a", new=0, cached=0, out=0, outcome="refused") == 0
    observed = core.observe(0)
    assert (observed.limiter_debt, observed.offered_work) == (0, 0)
    assert (observed.completed, observed.failed, observed.replicas[0].failures) == (1, 0, 0)


def test_a_client_that_goes_away_leaves_the_queue() -> None:
    core = core_with()
    for rid in "abcd":
        core.arrive(0, ask(rid))
    core.decide(0)
    assert core.leave(0, "c") is True
    assert core.leave(0, "c") is False
    assert core.leave(0, "a") is False  # in flight
    core.settle(1, "a", new=1, cached=0, out=1, outcome="client_gone")
    assert dispatched(core.decide(1)) == ["d"]
    assert core.observe(1).abandoned == 2


def test_a_full_queue_is_429_and_says_when_to_come_back() -> None:
    core = core_with(terms=replace(TERMS, max_queue=1))
    for rid in "abc":
        core.arrive(0, ask(rid))
        core.decide(0)
    answer = core.arrive(0, ask("d"))
    assert isinstance(answer, Refuse)
    assert (answer.status, answer.reason) == (429, "queue_full")
    assert "200 reference tokens (100 input and up to 100 output tokens)" in answer.message
    assert "of a burst of 1,000" in answer.message
    assert f"Try again in {answer.retry_after_s:.1f} s" in answer.message
    assert core.observe(0).rejected == 1


def test_work_that_the_range_had_no_room_for_is_429() -> None:
    core = core_with(slots=50, terms=replace(TERMS, queue_deadline_s=2.0, slots=50))
    for index in range(12):
        core.arrive(0, ask(f"{index}", 100, 100))
    assert len(dispatched(core.decide(0))) == 5
    now, late = 0.0, []
    while (wake := core.wake_at(now)) is not None:
        now = wake
        late += refused(core.decide(now))
    assert now == 2.0
    assert {(answer.status, answer.reason) for answer in late} == {(429, "rate")}
    assert len(late) == 12 - 5 - 2


def test_slots_that_were_busy_until_the_deadline_are_503_while_the_range_had_room() -> None:
    core = core_with()
    for rid in "abc":
        core.arrive(0, ask(rid))
    core.decide(0)
    assert core.wake_at(0) == 30
    (answer,) = refused(core.decide(30))
    assert (answer.rid, answer.status, answer.reason) == ("c", 503, "deadline")
    assert "although the range had room" in answer.message


def test_room_that_the_rate_made_while_a_request_waited_for_a_slot_counts_for_it() -> None:
    core = core_with(slots=1)
    core.arrive(0, ask("large", 500, 400))
    core.decide(0)
    core.arrive(0, ask("late", 100, 100))  # no room yet, but in half a second
    (answer,) = refused(core.decide(30))
    assert (answer.rid, answer.status, answer.reason) == ("late", 503, "deadline")


def test_a_cold_start_has_its_own_deadline() -> None:
    core = EndpointCore(TERMS, 0)
    core.arrive(0, ask("a"))
    assert core.decide(100) == []
    assert core.wake_at(100) == 290
    (answer,) = refused(core.decide(290))
    assert (answer.status, answer.reason) == (503, "cold_start")


def test_requests_held_for_a_cold_start_keep_the_queue_deadline_after_it() -> None:
    core = EndpointCore(TERMS, 0)
    for rid in "abc":
        core.arrive(0, ask(rid))
    core.set_replicas(100, [ReplicaState("r", 2, False)])
    assert dispatched(core.decide(100)) == ["a", "b"]
    assert core.wake_at(100) == 130


def test_the_loss_of_the_last_replica_is_no_replica() -> None:
    core = core_with(slots=1)
    core.arrive(0, ask("a"))
    core.arrive(0, ask("b"))
    core.decide(0)
    core.set_replicas(10, [])
    (answer,) = refused(core.decide(290))
    assert (answer.rid, answer.status, answer.reason) == ("b", 503, "no_replica")


def test_a_request_whose_replica_failed_goes_first_and_pays_once() -> None:
    core = core_with(2, slots=1)
    for rid in "abc":
        core.arrive(0, ask(rid, 300, 100))
    assert dispatched(core.decide(0)) == ["a", "b"]
    core.block(0, "r0", 60)
    core.requeue(0, "a")
    core.settle(1, "b", new=300, cached=0, out=100, outcome="ok")
    (again,) = core.decide(1)
    assert (again.rid, again.replica) == ("a", "r1")  # type: ignore[union-attr]
    observed = core.observe(1)
    assert observed.limiter_debt == pytest.approx(800 - 200)
    assert (observed.dispatched, observed.in_flight_work) == (2, 400)
    assert {replica.id: replica.failures for replica in observed.replicas} == {"r0": 1, "r1": 0}


def test_a_returned_request_that_leaves_gets_its_reservation_back() -> None:
    core = core_with()
    core.arrive(0, ask("a"))
    core.decide(0)
    core.requeue(0, "a")
    assert core.leave(0, "a")
    assert core.observe(0).limiter_debt == 0


def test_reject_answers_at_once_but_holds_for_a_cold_start() -> None:
    core = EndpointCore(replace(TERMS, overload="reject"), 0)
    assert core.arrive(0, ask("held", 500, 100)) is None
    early = core.arrive(0, ask("beyond", 500, 100))  # behind 600 a further 600 does not fit the burst of 1000
    assert early is not None and early.status == 429
    core.set_replicas(5, [ReplicaState("r", 1, False)])
    assert dispatched(core.decide(5)) == ["held"]
    answer = core.arrive(5, ask("busy", 1, 1))
    assert answer is not None and (answer.status, answer.reason) == (429, "reject")


@given(st.lists(st.integers(1, 900), max_size=20), st.integers(1, 900))
def test_the_retry_of_a_refusal_is_exact_where_a_slot_is_free(sizes: list[int], tokens: int) -> None:
    core = core_with(slots=100, terms=replace(TERMS, overload="reject", slots=100))
    for index, size in enumerate(sizes):
        core.arrive(0, ask(str(index), size, 1))
        core.decide(0)
    answer = core.arrive(0, ask("asked", tokens, 1))
    if answer is not None:
        for rid, at in (("early", answer.retry_after_s - 0.001), ("then", answer.retry_after_s)):
            again = core.arrive(at, ask(rid, tokens, 1))
            assert (again is None) == (rid == "then" or at <= 0)


def test_offered_work_counts_refused_requests_and_not_the_retries_of_clients() -> None:
    core = core_with(terms=replace(TERMS, overload="reject"), slots=1)
    core.arrive(0, ask("a"))
    core.decide(0)
    assert core.arrive(0, ask("b")) is not None
    assert core.observe(0).offered_work == 400
    assert core.arrive(1, ask("c", retry=True)) is not None
    assert core.observe(1).offered_work == 400


def test_a_config_update_keeps_the_queue_and_weighs_what_has_arrived_by_its_own_terms() -> None:
    core = core_with(slots=1)
    core.arrive(0, ask("a"))
    core.decide(0)
    double = Weights(w_in=2, w_out=2, w_pp=0, w_dd=0, w_c=2)
    core.arrive(0, ask("b"))
    core.configure(0, replace(TERMS, weights=double, max_chunks=4))
    assert core.settle(0, "a", new=100, cached=0, out=100, outcome="ok") == 200
    assert dispatched(core.decide(0)) == ["b"]
    assert core.limit_headers(0)[0] == 2000


def test_the_prediction_learns_the_lengths_of_answers_and_is_clipped() -> None:
    core = core_with()
    assert core.predict_output("k", 10_000) == 100
    for index in range(20):
        core.arrive(index, ask(str(index), 1, 50))
        core.decide(index)
        core.settle(index, str(index), new=1, cached=0, out=30 + index % 3, outcome="ok")
    assert core.predict_output("k", 10_000) == 32
    assert core.predict_output("k", 8) == 8


def test_answers_cut_by_a_short_limit_teach_nothing_of_longer_ones() -> None:
    core = core_with()
    for index in range(20):
        core.arrive(index, Ask(str(index), "k", "default", 1, 5, 5))
        core.decide(index)
        core.settle(index, str(index), new=1, cached=0, out=5, outcome="ok")
    assert core.predict_output("k", 1000) == 100


def test_the_same_request_id_twice_is_an_error() -> None:
    core = core_with()
    core.arrive(0, ask("a"))
    with pytest.raises(ValueError, match="a waits or is in flight"):
        core.arrive(0, ask("a"))
    core.decide(0)
    with pytest.raises(ValueError, match="a waits or is in flight"):
        core.arrive(0, ask("a"))
    with pytest.raises(KeyError):
        core.settle(0, "unknown", new=1, cached=0, out=1, outcome="ok")
