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
        core.replica_failed(0, "r0")
    for rid in "abcd":
        core.arrive(0, ask(rid))
    assert [d.replica for d in core.decide(0) if isinstance(d, Dispatch)] == ["r1", "r1"]
    if state == "blocked":
        assert core.wake_at(0) == 0.5
        assert [d.replica for d in core.decide(0.5) if isinstance(d, Dispatch)] == ["r0"]


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
    core.replica_failed(0, "r0")
    core.requeue(0, "a")
    core.settle(0.4, "b", new=300, cached=0, out=100, outcome="ok")
    (again,) = core.decide(0.4)
    assert (again.rid, again.replica) == ("a", "r1")  # type: ignore[union-attr]
    observed = core.observe(0.4)
    assert observed.limiter_debt == pytest.approx(800 - 0.4 * 200)
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


def test_only_what_would_be_sent_at_once_fits() -> None:
    core = core_with(slots=2)
    core.arrive(0, ask("a"))
    core.decide(0)
    assert core.fits(0, ask("b", 700, 100))
    assert not core.fits(0, ask("b", 701, 100))  # no room in the limiter
    core.arrive(0, ask("b"))
    core.decide(0)
    assert not core.fits(0, ask("c", 1, 1))  # no slot
    core.settle(1, "a", new=100, cached=0, out=100, outcome="ok")
    assert core.fits(1, ask("c", 1, 1))
    core.arrive(1, ask("large", 900, 100))
    assert core.decide(1) == []
    assert not core.fits(1, ask("c", 1, 1))  # somebody waits
    assert not EndpointCore(TERMS, 0).fits(0, ask("a"))  # no replica


def test_what_spills_over_was_demand_where_it_left() -> None:
    core = core_with(terms=replace(TERMS, overload="spill"))
    core.spilled(0, ask("a"))
    core.spilled(0, ask("b", retry=True))
    observed = core.observe(0)
    assert (observed.arrivals, observed.offered_work) == (2, 200)
    assert (observed.dispatched, observed.queued, observed.rejected) == (0, 0, 0)


def test_what_no_entity_can_take_waits_where_it_was_routed() -> None:
    core = core_with(slots=1, terms=replace(TERMS, overload="spill"))
    for rid in "ab":
        assert core.arrive(0, ask(rid)) is None
        core.decide(0)
    core.settle(1, "a", new=1, cached=0, out=1, outcome="ok")
    assert dispatched(core.decide(1)) == ["b"]


def test_the_same_head_goes_to_the_same_replica_while_that_costs_less_than_it_saves() -> None:
    core = core_with(4, slots=10, terms=replace(TERMS, slots=10, max_chunks=100))
    first = sent_to(core, ask("0", 100, 50, prefix=7))
    assert sent_to(core, ask("1", 160, 50, prefix=7)) == first  # 150 outstanding: less than its prefill of 160
    assert sent_to(core, ask("2", 300, 50, prefix=7)) != first  # 360 outstanding
    assert sent_to(core, ask("3", 400, 50, prefix=7)) == first
    assert sent_to(core, ask("4", 400, 50)) != first  # no preference: the least


def sent_to(core: EndpointCore, asked: Ask) -> str:
    assert core.arrive(0, asked) is None
    (decision,) = core.decide(0)
    assert isinstance(decision, Dispatch)
    return decision.replica


def test_keys_share_a_band_by_their_weights() -> None:
    core = core_with(slots=1, terms=replace(TERMS, max_chunks=1000))
    for index in range(40):
        core.arrive(0, ask(f"a{index}", key="a", weight=3.0))
        core.arrive(0, ask(f"b{index}", key="b", weight=1.0))
    served: list[str] = []
    for _ in range(40):
        (rid,) = dispatched(core.decide(0))
        served.append(rid[0])
        core.settle(0, rid, new=100, cached=0, out=100, outcome="ok")
    assert (served.count("a"), served.count("b")) == (30, 10)


def test_a_failed_replica_comes_back_with_one_request_at_a_time_until_it_answers() -> None:
    core = core_with(slots=3)
    core.arrive(0, ask("lost"))
    core.decide(0)
    core.replica_failed(0, "r0")
    core.requeue(0, "lost")
    for rid in "abc":
        core.arrive(0, ask(rid, 1, 1))
    assert core.decide(0) == []
    assert core.wake_at(0) == 0.5
    assert dispatched(core.decide(0.5)) == ["lost"]
    assert core.wake_at(0.5) == 30  # nobody knows when the trial ends
    assert core.replica_answered(1, "r0") is True
    assert dispatched(core.decide(1)) == ["a", "b"]
    assert core.replica_answered(1, "r0") is False


def test_a_replica_that_fails_its_trial_is_left_alone_for_longer() -> None:
    core = core_with(slots=3)
    core.replica_failed(0, "r0")
    core.arrive(0, ask("a", 1, 1))
    assert dispatched(core.decide(0.5)) == ["a"]
    core.replica_failed(1, "r0")
    core.requeue(1, "a")
    assert core.wake_at(1) == 2


def test_a_trial_whose_client_leaves_makes_room_for_the_next() -> None:
    core = core_with(slots=3)
    core.replica_failed(0, "r0")
    for rid in "ab":
        core.arrive(0, ask(rid, 1, 1))
    assert dispatched(core.decide(0.5)) == ["a"]
    core.settle(0.6, "a", new=0, cached=0, out=0, outcome="client_gone")
    assert dispatched(core.decide(0.6)) == ["b"]


def test_news_of_a_replica_that_is_gone_is_no_news() -> None:
    core = core_with()
    core.replica_failed(0, "gone")
    assert core.replica_answered(0, "gone") is False


def test_a_key_that_fills_the_queue_does_not_shut_out_others() -> None:
    core = core_with(slots=1, terms=replace(TERMS, max_queue=4))
    core.arrive(0, ask("running"))
    core.decide(0)
    for index in range(4):
        assert core.arrive(0, ask(f"a{index}", key="a")) is None
    assert core.arrive(0, ask("b0", key="b")) is None
    (displaced,) = refused(core.decide(0))
    assert (displaced.rid, displaced.status, displaced.reason) == ("a3", 429, "queue_full")
    assert "the queue is full (3 of 4 requests wait, 3 of them with its key)" in displaced.message
    answer = core.arrive(0, ask("a4", key="a"))
    assert answer is not None and answer.reason == "queue_full"
    assert core.observe(0).queued == 4


def test_a_stream_that_outruns_its_reservation_may_hand_the_head_to_another_key() -> None:
    core = core_with(slots=10)
    core.arrive(0, ask("a0", 600, 1, key="a"))
    core.decide(0)
    core.arrive(0, ask("b0", 390, 1, key="b"))
    core.decide(0)
    core.arrive(0, ask("b1", 500, 1, key="b"))
    core.arrive(0, ask("a1", 1, 1, key="a"))
    assert core.decide(0) == []  # b has had less, and b1 waits for room
    assert core.stream(0, "b0", None, 1) is False
    assert core.stream(1, "b0", None, 320) is True
    assert dispatched(core.decide(2)) == ["a1"]


def test_of_those_that_are_late_together_as_many_are_503_as_the_range_could_have_served() -> None:
    core = core_with(slots=1, terms=replace(TERMS, queue_deadline_s=10.0))
    for index in range(30):
        core.arrive(0, ask(f"{index}"))
    assert dispatched(core.decide(0)) == ["0"]
    late = refused(core.decide(10))
    # A burst of 1,000 and 10 s at 200/s: 15 requests of 200, one of which was served.
    assert [answer.status for answer in late] == [503] * 14 + [429] * 15
    assert {answer.reason for answer in late} == {"deadline", "rate"}


def test_a_storm_that_is_over_is_not_held_against_who_came_at_its_end() -> None:
    core = core_with(slots=1, terms=replace(TERMS, queue_deadline_s=10.0))
    for index in range(30):
        core.arrive(0, ask(f"{index}"))
    core.decide(0)
    core.arrive(9, ask("late"))
    core.decide(10)
    (answer,) = refused(core.decide(19))
    assert (answer.rid, answer.reason) == ("late", "deadline")  # the storm left room from 10 s on, but no slot


def test_what_was_predicted_too_long_is_not_held_against_who_is_late() -> None:
    core = core_with(slots=1, terms=replace(TERMS, queue_deadline_s=4.0))
    for index in range(9):
        core.arrive(0, ask(f"{index}", 10, 890))
        core.decide(0)
        if index < 8:
            core.settle(0, f"{index}", new=10, cached=0, out=0, outcome="ok")
    core.arrive(0, ask("late", 10, 90))
    (answer,) = refused(core.decide(4))
    assert (answer.rid, answer.reason) == ("late", "deadline")


def test_who_came_after_the_loss_of_the_last_replica_waited_for_a_start() -> None:
    core = core_with()
    core.set_replicas(10, [])
    core.arrive(20, ask("a"))
    (answer,) = refused(core.decide(310))
    assert answer.reason == "cold_start"


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


def test_the_prediction_learns_from_answers_that_came_to_their_end() -> None:
    core = core_with()
    assert core.predict_output("k", 10_000) == 100
    for index in range(40):
        core.arrive(index, ask(str(index), 1, 50))
        core.decide(index)
        cut = index % 2
        core.settle(index, str(index), new=1, cached=0, out=2 if cut else 30, outcome="client_gone" if cut else "ok")
    assert core.predict_output("k", 10_000) == 30
    assert core.predict_output("another", 10_000) == 30
    assert core.predict_output("k", 8) == 8


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
