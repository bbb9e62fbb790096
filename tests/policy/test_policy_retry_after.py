"""Retry-After on the virtual clock: a retry then is admitted, and one a millisecond earlier is not.

"Then" is the earliest instant at which the request would be sent at once if nothing else arrived: what is owed, all
that waits, and its own work, less the burst, over the rate. That is exact where the limiter decides and all that waits
is served. Where some of it is given up at its deadline, a retry then is admitted, but one somewhat earlier may be, too.
Where slots decide, the time is an estimate; but never is it before the limiter's, and with slots free it holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from headrace.policy.endpoint import Ask, Band, Dispatch, EndpointCore, Refuse, ReplicaState, Terms
from headrace.policy.queueing import BAND_WEIGHTS
from headrace.policy.work import RAW_TOKENS

MS = 0.001
PLENTY = 10_000
TERMS = Terms(
    chunk=100.0,
    min_chunks=1,
    max_chunks=2,
    weights=RAW_TOKENS,
    context=1000,
    slots=PLENTY,
    default_max_tokens=100,
    queue_deadline_s=1e6,
)


@dataclass(frozen=True)
class Event:
    """Seconds after the one before, a request of this key and band comes; some use more than predicted, some end."""

    gap: float
    key: str
    band: Band
    weight: float
    tokens: int
    beyond: int
    ends: bool


events = st.lists(
    st.builds(
        Event,
        gap=st.one_of(st.just(0.0), st.floats(0, 4)),
        key=st.sampled_from("abc"),
        band=st.sampled_from(list(BAND_WEIGHTS)),
        weight=st.sampled_from([0.5, 1.0, 3.0]),
        tokens=st.integers(1, 900),
        beyond=st.sampled_from([0, 0, 100]),
        ends=st.booleans(),
    ),
    max_size=25,
)


class Story:
    """A core after some events, the same every time."""

    def __init__(self, terms: Terms, events: list[Event], slots: int = PLENTY) -> None:
        self.terms = terms
        self.core = EndpointCore(terms, 0.0)
        self.core.set_replicas(0.0, [ReplicaState("r0", slots, False), ReplicaState("r1", slots, False)])
        self.now = 0.0
        self.sent: list[str] = []
        for number, event in enumerate(events):
            self.run(self.now + event.gap)
            self.core.arrive(
                self.now, Ask(str(number), event.key, event.band, event.tokens, 100, 0, weight=event.weight)
            )
            self._decide()
            if self.sent and event.beyond:
                self.core.stream(self.now, self.sent[0], None, event.beyond)
            if self.sent and event.ends:
                self.core.settle(self.now, self.sent.pop(0), new=event.tokens, cached=0, out=0, outcome="ok")
            self._decide()

    def _decide(self) -> list[Dispatch | Refuse]:
        decisions = self.core.decide(self.now)
        self.sent += [decision.rid for decision in decisions if isinstance(decision, Dispatch)]
        return decisions

    def run(self, until: float) -> None:
        """Nothing happens but what was to happen anyway."""
        while (wake := self.core.wake_at(self.now)) is not None and wake <= until:
            self.now = wake
            self._decide()
        self.now = max(self.now, until)

    def refuse_at_once(self) -> None:
        self.core.configure(self.now, replace(self.terms, overload="reject"))

    def ask(self, rid: str, tokens: int) -> Refuse | None:
        """A request that must be sent at once; the refusal, where it is not."""
        refused = self.core.arrive(self.now, Ask(rid, "a", "default", tokens, 100, 0))
        sent = any(isinstance(decision, Dispatch) and decision.rid == rid for decision in self._decide())
        assert sent == (refused is None)
        return refused


@settings(deadline=None)
@given(events, st.integers(1, 900))
def test_a_retry_at_the_instant_is_admitted_and_one_a_millisecond_earlier_is_not(
    events: list[Event], tokens: int
) -> None:
    story, early, punctual = (Story(TERMS, events) for _ in range(3))
    story.refuse_at_once()
    refused = story.ask("asked", tokens)
    assume(refused is not None)
    assert refused is not None
    retry = story.now + refused.retry_after_s
    for other, at, admitted in ((early, retry - MS, False), (punctual, retry, True)):
        other.run(at)
        other.refuse_at_once()
        assert (other.ask("again", tokens) is None) == admitted


@settings(deadline=None)
@given(events, st.integers(1, 900), st.floats(0, 20))
def test_where_some_of_what_waits_is_given_up_a_retry_at_the_instant_is_admitted_all_the_same(
    events: list[Event], tokens: int, deadline: float
) -> None:
    terms = replace(TERMS, queue_deadline_s=deadline)
    story, punctual = Story(terms, events), Story(terms, events)
    story.refuse_at_once()
    refused = story.ask("asked", tokens)
    assume(refused is not None)
    assert refused is not None
    punctual.run(story.now + refused.retry_after_s)
    punctual.refuse_at_once()
    assert punctual.ask("again", tokens) is None


@settings(deadline=None)
@given(events, st.integers(1, 900), st.integers(1, 3))
def test_where_slots_decide_the_instant_is_never_before_the_limiters_and_holds_with_slots_free(
    events: list[Event], tokens: int, slots: int
) -> None:
    story, punctual = Story(TERMS, events, slots), Story(TERMS, events, slots)
    story.refuse_at_once()
    refused = story.ask("asked", tokens)
    assume(refused is not None)
    assert refused is not None
    for other in (story, punctual):  # had slots been free from that moment on
        other.core.set_replicas(other.now, [ReplicaState("r0", PLENTY, False)])
        other._decide()
    limited = story.ask("with slots", tokens)
    if limited is not None:
        assert refused.retry_after_s >= limited.retry_after_s - 1e-6
    punctual.run(punctual.now + refused.retry_after_s)
    punctual.refuse_at_once()
    assert punctual.ask("again", tokens) is None


def test_a_debt_that_outlasts_the_deadline_of_all_that_waits_is_waited_for() -> None:
    core = EndpointCore(replace(TERMS, overload="reject", queue_deadline_s=1.0), 0.0)
    core.set_replicas(0.0, [ReplicaState("r", 10, False)])
    for rid in "ab":
        core.arrive(0.0, Ask(rid, "k", "default", 10, 900, 0))
        core.decide(0.0)
        core.stream(0.0, rid, None, 900)
    refused = core.arrive(0.0, Ask("c", "k", "default", 500, 100, 0))
    assert refused is not None
    assert refused.retry_after_s == pytest.approx((2 * 910 + 500 - 1000) / 200)


def test_a_slot_is_expected_after_the_share_of_one_in_what_is_outstanding() -> None:
    terms = replace(TERMS, overload="reject", slots=2, max_chunks=20)
    core = EndpointCore(terms, 0.0)
    core.set_replicas(0.0, [ReplicaState("r", 2, False)])
    for rid in "ab":
        core.arrive(0.0, Ask(rid, "k", "default", 200, 100, 0))
        core.decide(0.0)
    refused = core.arrive(0.0, Ask("c", "k", "default", 200, 100, 0))
    assert refused is not None
    assert refused.retry_after_s == pytest.approx(400 / 2 / 100)  # two of 200 share a chunk of 100 reference tokens/s


def test_a_slot_of_a_blocked_replica_is_expected_at_the_end_of_the_block() -> None:
    core = EndpointCore(replace(TERMS, overload="reject"), 0.0)
    core.set_replicas(0.0, [ReplicaState("r", 2, False)])
    core.replica_failed(10.0, "r")
    refused = core.arrive(10.1, Ask("a", "k", "default", 200, 100, 0))
    assert refused is not None
    assert refused.retry_after_s == pytest.approx(0.4)


def test_an_answer_never_says_now() -> None:
    core = EndpointCore(replace(TERMS, max_queue=0), 0.0)
    core.set_replicas(0.0, [ReplicaState("r", 2, False)])
    refused = core.arrive(0.0, Ask("a", "k", "default", 10, 100, 0))
    assert refused is not None
    assert refused.retry_after_s == MS
