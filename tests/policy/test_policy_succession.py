"""What a served entity knows of the demand when it takes over from another one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.policy.observing import Bought, Chunks, Counted, Observer
from headrace.policy.scaling import Knobs, Observation, State
from headrace.policy.succession import memory_of_heir, state_of_heir

KNOBS = Knobs(fast_window_s=10.0, slow_window_s=20.0)
BOUGHT = Bought(chunk=100.0, slots=1, min_chunks=1, max_chunks=8)
LONGER_S = 60.0


def counted(work: float, *, queued: int = 0, queued_work: float = 0.0) -> Counted:
    return Counted(
        arrivals=int(work // 10),
        offered_work=work,
        queued=queued,
        queued_work=queued_work,
        oldest_wait_s=0,
        in_flight=1,
    )


def look(observer: Observer, now: float, knobs: Knobs = KNOBS) -> Observation:
    has = Chunks(ready=1, pending=0, draining=0)
    return observer.observe(now, BOUGHT, has, knobs, connected=["g"], metrics_age_s=0.0)


def loaded(until: int, *, queued: int = 0, queued_work: float = 0.0) -> Observer:
    """300 reference tokens/s from 0 on."""
    observer = Observer(0.0)
    for second in range(until + 1):
        look(observer, float(second))
        observer.report(float(second), "g", counted(300.0 * second, queued=queued, queued_work=queued_work))
    return observer


def test_a_load_that_moves_to_the_heir_is_seen_without_a_gap() -> None:
    heir = Observer.restored(memory_of_heir(loaded(30).memory(), 30.5, 20.0))
    assert look(heir, 30.5).history_s == pytest.approx(30.5)
    for second in range(31, 51):
        heir.report(float(second), "g", counted(300.0 * (second - 30)))
        seen = look(heir, float(second))
        assert seen.offered_fast == pytest.approx(300.0)
        assert seen.offered_slow == pytest.approx(300.0)
        assert seen.requested


def test_what_waits_at_the_predecessor_and_arrives_at_the_heir_once_more_counts_once() -> None:
    heir = Observer.restored(memory_of_heir(loaded(30, queued=90, queued_work=900.0).memory(), 30.5, 20.0))
    assert look(heir, 30.5).backlog_work == 0.0
    heir.report(31.0, "g", counted(900.0 + 300.0, queued=90, queued_work=900.0))
    seen = look(heir, 31.0)
    assert (seen.offered_fast, seen.backlog_work) == (pytest.approx(300.0), 900.0)


def test_a_gateway_that_starts_meanwhile_counts_from_its_first_report() -> None:
    heir = Observer.restored(memory_of_heir(loaded(30).memory(), 30.5, 20.0))
    heir.report(31.0, "later", counted(5000.0))
    assert look(heir, 31.0).offered_fast <= 300.0


def test_a_longer_window_knows_no_more_than_the_shorter_one_kept() -> None:
    heir = Observer.restored(memory_of_heir(loaded(100).memory(), 100.0, LONGER_S))
    seen = look(heir, 100.0, replace(KNOBS, slow_window_s=LONGER_S))
    assert seen.history_s == pytest.approx(20.0)
    assert seen.offered_slow == pytest.approx(300.0 * 20 / LONGER_S)


def test_a_predecessor_that_never_looked_leaves_what_it_has() -> None:
    heir = Observer.restored(memory_of_heir(Observer(5.0).memory(), 9.0, 20.0))
    seen = look(heir, 10.0)
    assert (seen.offered_fast, seen.history_s, seen.last_arrival_age_s) == (0.0, 0.0, 5.0)


def test_chunks_that_would_have_been_enough_are_counted_in_those_of_the_heir() -> None:
    state = State(target=4, decided_at=9.0, watching_since=1.0, enough=((8.0, 3), (9.0, 1)))
    heir = state_of_heir(state, 100.0, 200.0)
    assert heir == State(target=None, decided_at=9.0, watching_since=1.0, enough=((8.0, 2), (9.0, 1)))
