"""The scaling law: never outside the range, up at once, down after the window, and steady on noise."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import pairwise
from math import sin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.policy.scaling import Decision, Knobs, Observation, State, decide, replay, short_window, windows

KNOBS = Knobs()


def seen(now: float = 1000.0, **more: object) -> Observation:
    """A quiet endpoint of 1 to 4 chunks of 100 with one ready."""
    quiet = Observation(
        now=now,
        chunk=100,
        slots=1,
        min_chunks=1,
        max_chunks=4,
        scale_to_zero=False,
        ready=1,
        pending=0,
        draining=0,
        offered_fast=0,
        offered_slow=0,
        history_s=1000,
        backlog_work=0,
        queued=0,
        oldest_wait_s=0,
        in_flight=0,
        last_arrival_age_s=10,
        metrics_age_s=0.5,
    )
    return replace(quiet, **more)  # type: ignore[arg-type]


def run(rates: list[float], state: State = State(), **more: object) -> list[Decision]:  # noqa: B008
    """One decision a second, with every decision carried out at once."""
    decisions: list[Decision] = []
    for second, rate in enumerate(rates):
        ready = state.target if state.target is not None else 1
        now = 1000.0 + second
        decision = decide(
            seen(now, **{"offered_fast": rate, "offered_slow": rate, "ready": ready, **more}), KNOBS, state
        )
        state = decision.state
        decisions.append(decision)
    return decisions


observations = st.builds(
    Observation,
    now=st.floats(0, 1e6),
    chunk=st.floats(1, 1e4),
    slots=st.integers(1, 64),
    min_chunks=st.integers(0, 3),
    max_chunks=st.integers(3, 9),
    scale_to_zero=st.booleans(),
    ready=st.integers(0, 12),
    pending=st.integers(0, 12),
    draining=st.integers(0, 3),
    offered_fast=st.floats(0, 1e6),
    offered_slow=st.floats(0, 1e6),
    history_s=st.floats(0, 1e4),
    backlog_work=st.floats(0, 1e7),
    queued=st.integers(0, 100),
    oldest_wait_s=st.floats(0, 300),
    in_flight=st.integers(0, 100),
    last_arrival_age_s=st.floats(0, 1e4),
    requested=st.booleans(),
    request_work=st.floats(0, 1e5),
    offered_short=st.floats(0, 1e6),
    metrics_age_s=st.none() | st.floats(0, 100),
)


@given(st.lists(observations, min_size=1, max_size=8))
def test_scaling_never_leaves_the_range_and_its_inputs_decide_again(steps: list[Observation]) -> None:
    state = State()
    for obs in sorted(steps, key=lambda step: step.now):
        decision = decide(obs, KNOBS, state)
        lowest = obs.min_chunks if obs.min_chunks or obs.scale_to_zero else 1
        assert lowest <= decision.chunks <= obs.max_chunks
        assert replay(json.loads(json.dumps(decision.inputs))) == decision
        state = decision.state


def test_up_at_once_to_the_demand_with_headroom() -> None:
    decision = decide(seen(offered_fast=280), KNOBS, State(target=1))
    assert decision.chunks == 4
    assert decision.reason == (
        "1 -> 4 chunks: at least 280 reference tokens/s offered over the last 69 s, 0.0 s of backlog"
    )


def test_the_target_counts_chunks_that_are_starting() -> None:
    first = decide(seen(offered_fast=150, backlog_work=3000, queued=30), KNOBS, State(target=1))
    assert first.chunks == 4
    then = decide(seen(1001, offered_fast=150, backlog_work=3000, queued=30, pending=3), KNOBS, first.state)
    assert then.chunks == 4


@pytest.mark.parametrize(
    ("backlog", "chunks"), [(0, 1), (1000, 1), (1060, 2), (1500, 2), (2000, 2), (2600, 3), (1e6, 4)]
)
def test_backlog_adds_what_is_not_done_within_the_wait_target_beside_demand(backlog: float, chunks: int) -> None:
    # Of one chunk of 100, demand takes 45: the queue gets 550 in 10 s, and as much again of each chunk more.
    assert decide(seen(offered_fast=45, backlog_work=backlog, queued=100), KNOBS, State(target=1)).chunks == chunks


def test_backlog_asks_for_no_more_chunks_than_those_that_wait_would_fill() -> None:
    one_waits = seen(offered_fast=45, backlog_work=1e6, queued=1)
    assert decide(one_waits, KNOBS, State(target=1)).chunks == 2
    assert decide(replace(one_waits, slots=4), KNOBS, State(target=1)).chunks == 1


def test_chunks_that_serve_demand_do_not_count_for_the_backlog() -> None:
    busy = seen(offered_fast=300, backlog_work=4000, queued=40, ready=4, max_chunks=9)
    # 330 with headroom; of 4 chunks 1 is spare and the backlog needs 4 for its 10 s: 3 more.
    assert decide(busy, KNOBS, State(target=4)).chunks == 7


def test_what_chance_brings_into_the_fast_window_is_not_taken_for_a_rise() -> None:
    clump = seen(offered_fast=150, offered_slow=90, request_work=500)
    # 69 s of 150 with requests of 500 on average: one time in ten 58 more than their rate.
    assert decide(clump, KNOBS, State(target=2)).reason.startswith("2 chunks kept: at least 92 reference ")
    assert decide(replace(clump, offered_fast=300), KNOBS, State(target=2)).chunks == 3
    assert decide(replace(clump, request_work=5), KNOBS, State(target=1)).reason.startswith(
        "1 -> 2 chunks: at least 144 "
    )


def test_a_jump_is_seen_within_a_service_time_but_not_in_a_few_requests() -> None:
    # Requests of 10, and 23 s of 280: 644 of them are no chance. Of 1000 each, six and a half may well be.
    jump = seen(offered_fast=95, offered_slow=60, offered_short=280, request_work=10)
    assert decide(jump, KNOBS, State(target=1)).reason.startswith("1 -> 3 chunks: at least 241 ")
    assert decide(replace(jump, request_work=1000), KNOBS, State(target=1)).chunks == 1


def test_a_queue_that_chance_brings_of_a_steady_demand_asks_for_nothing() -> None:
    steady = seen(offered_fast=60, offered_slow=60, backlog_work=1200, queued=9)
    assert decide(steady, KNOBS, State(target=1)).chunks == 2
    assert decide(replace(steady, request_work=130), KNOBS, State(target=1)).chunks == 1
    assert decide(replace(steady, request_work=130, backlog_work=2400, queued=18), KNOBS, State(target=1)).chunks == 3


def test_words_say_over_which_window_and_whether_chance_was_taken_off() -> None:
    def said(**more: float) -> str:
        return decide(seen(request_work=5, **more), KNOBS, State(target=1)).reason

    assert "chunks: at least 281 reference tokens/s offered over the last 23 s, " in said(offered_short=310)
    assert "chunks: at least 292 reference tokens/s offered over the last 69 s, " in said(offered_fast=300)
    assert "chunks: 300 reference tokens/s offered over the last 150 s, " in said(offered_fast=300, offered_slow=300)


def test_down_only_after_fewer_sufficed_for_the_whole_window() -> None:
    counts = [decision.chunks for decision in run([280.0] * 5 + [50.0] * 40)]
    assert counts[:5] == [4] * 5
    assert counts[5:34] == [4] * 29
    assert counts[35:] == [1] * len(counts[35:])


def test_a_rise_within_the_window_begins_it_again() -> None:
    counts = [decision.chunks for decision in run([280.0] + [50.0] * 20 + [150.0] + [50.0] * 29)]
    assert counts[-1] == 2  # what the rise needed, not less


def test_a_demand_of_exactly_one_chunk_with_headroom_does_not_oscillate() -> None:
    for exact in (100.0, 100 / 1.1, 100 / 1.2):
        counts = [decision.chunks for decision in run([exact] * 300)]
        assert counts == [counts[0]] * 300


def test_a_demand_that_sways_around_a_threshold_moves_the_count_once_at_most() -> None:
    noise = random.Random(7)
    swaying = [100 / 1.1 * (1 + 0.05 * sin(second / 60) + noise.gauss(0, 0.01)) for second in range(3000)]
    counts = [decision.chunks for decision in run(swaying)]
    assert sum(a != b for a, b in pairwise(counts)) <= 1


def test_nothing_changes_on_stale_metrics_and_the_window_begins_again_after() -> None:
    decisions = run([280.0] * 2 + [50.0] * 25)
    stale = decide(seen(1028, offered_fast=0, metrics_age_s=30), KNOBS, decisions[-1].state)
    assert stale.chunks == 4
    assert stale.reason == "4 chunks kept: no gateway has reported for 30 s"
    after = decide(seen(1045, ready=4), KNOBS, stale.state)
    assert after.chunks == 4


def test_stale_metrics_do_not_keep_an_endpoint_below_its_minimum() -> None:
    decision = decide(seen(min_chunks=2, ready=0, metrics_age_s=None), KNOBS, State())
    assert decision.chunks == 2
    assert decision.reason == "0 -> 2 chunks: the range begins at 2 chunks; no gateway has reported yet"
    above = decide(seen(max_chunks=1, ready=3, metrics_age_s=20), KNOBS, State())
    assert above.reason == "3 -> 1 chunk: the range ends at 1 chunk; no gateway has reported for 20 s"


def test_a_controller_that_has_just_started_takes_nothing_away() -> None:
    state = State(target=3, decided_at=999, watching_since=900, enough=((950, 1),))
    assert decide(seen(ready=3, history_s=30), KNOBS, state).chunks == 3
    assert decide(seen(ready=3, history_s=70), KNOBS, state).chunks == 1


def test_zero_after_the_idle_time_and_back_on_the_first_request() -> None:
    sleeping = {"min_chunks": 0, "scale_to_zero": True}
    busy = decide(seen(last_arrival_age_s=299, **sleeping), KNOBS, State(target=1))
    assert busy.chunks == 1
    idle = decide(seen(last_arrival_age_s=300, offered_slow=1, **sleeping), KNOBS, busy.state)
    assert idle.chunks == 0
    assert idle.reason == "1 -> 0 chunks: no request for 300 s"
    woken = decide(seen(ready=0, queued=1, backlog_work=200, **sleeping), KNOBS, idle.state)
    assert woken.chunks == 1
    assert "an endpoint at zero has a request" in woken.reason


def test_a_chunk_of_a_new_endpoint_is_not_said_to_have_a_request() -> None:
    new = seen(ready=0, min_chunks=0, scale_to_zero=True, last_arrival_age_s=0.2, requested=False)
    decision = decide(new, KNOBS, State(target=0))
    assert decision.reason.startswith("0 -> 1 chunk: kept ready until it has been idle for 300 s; ")
    queued = decide(replace(new, queued=1), KNOBS, State(target=0))
    assert "an endpoint at zero has a request" in queued.reason


def test_a_decision_stored_before_requests_were_told_from_silence_decides_again() -> None:
    stored = decide(seen(offered_fast=280), KNOBS, State(target=1)).inputs
    for unknown in ("requested", "request_work", "offered_short"):
        del stored["observation"][unknown]
    assert replay(stored).chunks == 4


def test_an_arrival_between_two_reports_wakes_an_endpoint_too() -> None:
    obs = seen(ready=0, min_chunks=0, scale_to_zero=True, last_arrival_age_s=0.2)
    assert decide(obs, KNOBS, State(target=0)).chunks == 1


def test_requests_in_flight_keep_an_endpoint_awake() -> None:
    obs = seen(min_chunks=0, scale_to_zero=True, last_arrival_age_s=1000, in_flight=1)
    assert decide(obs, KNOBS, State(target=1)).chunks == 1


def test_without_scale_to_zero_one_chunk_stays() -> None:
    obs = seen(min_chunks=0, scale_to_zero=False, last_arrival_age_s=1e6)
    assert decide(obs, KNOBS, State(target=1)).chunks == 1


def test_another_range_applies_at_once() -> None:
    decision = decide(seen(max_chunks=2, ready=4), KNOBS, State(target=4))
    assert decision.chunks == 2
    assert decision.reason.startswith("4 -> 2 chunks: the range is 1 to 2 chunks")
    fixed = decide(seen(max_chunks=1, ready=4), KNOBS, State(target=4))
    assert fixed.reason.startswith("4 -> 1 chunk: the range is 1 chunk;")


def test_the_fast_window_holds_three_service_times() -> None:
    assert windows(KNOBS, chunk=100, slots=1)[0] == pytest.approx(69.12)
    assert windows(KNOBS, chunk=100, slots=4) == (pytest.approx(276.48), pytest.approx(276.48))
    assert windows(KNOBS, chunk=1e6, slots=1) == (10, 150)
    assert windows(Knobs(fast_window_s=5), chunk=100, slots=1)[0] == 5


@pytest.mark.parametrize(("fast_s", "short_s"), [(69.0, 23.0), (10.0, 5.0), (4.0, 4.0)])
def test_a_jump_is_looked_for_in_one_service_time(fast_s: float, short_s: float) -> None:
    assert short_window(fast_s) == short_s
