"""A load that was interrupted goes on where all that was due before has ended, and its records become those of one
run."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_run import HEALTHY, changed, run, spec
from numpy.typing import NDArray

from headrace.bench.client.joined import Part, before, join
from headrace.bench.client.records import REQUEST, Outcome, Records
from headrace.bench.client.rest import rest_after
from headrace.bench.client.shares import closed_share, open_share, planned_s
from headrace.bench.client.spec import Rest
from headrace.bench.workload.spec import ClosedLoop, Constant, LoadSpec, Poisson

ALL = Rest()


def rows(
    numbers: Sequence[int], due_s: Sequence[float], unfinished: Sequence[int] = (), unmeasured: Sequence[int] = ()
) -> NDArray[np.void]:
    made = np.zeros(len(numbers), REQUEST)
    made["number"], made["scheduled_s"] = numbers, due_s
    made["outcome"][np.isin(numbers, unfinished)] = Outcome.UNFINISHED
    made["measured"] = ~np.isin(numbers, unmeasured)
    return made


def test_an_open_loop_goes_on_with_the_first_request_whose_end_is_not_on_record() -> None:
    load, due_s = spec(Constant(10.0), requests=10), np.arange(10) / 10
    rest = rest_after(load, due_s, 2, ALL, rows([0, 1, 2, 4, 5], due_s[[0, 1, 2, 4, 5]].tolist(), unfinished=[5]))
    assert rest == Rest(firsts=(4, 3), schedule_s=due_s[3])


def test_requests_that_were_cut_off_have_not_ended() -> None:
    load, due_s = spec(Constant(10.0), requests=10), np.arange(10) / 10
    rest = rest_after(load, due_s, 1, ALL, rows([0, 1, 2], [0.0, 0.1, 0.2], unfinished=[1]))
    assert rest is not None and rest.firsts == (1,)


def test_requests_that_are_due_at_the_same_time_go_together() -> None:
    due_s = np.array([0.0, 1.0, 1.0, 1.0, 2.0])
    rest = rest_after(spec(requests=5), due_s, 1, ALL, rows([0, 1, 2], [0.0, 1.0, 1.0]))
    assert rest == Rest(firsts=(1,), schedule_s=1.0)


def test_nothing_is_left_when_all_measured_requests_have_ended() -> None:
    due_s = np.arange(3.0)
    assert rest_after(spec(duration_s=3.0), due_s, 1, ALL, rows([0, 1, 2, 3], [0, 1, 2, 3], unfinished=[3])) is None


def test_a_rest_that_is_interrupted_leaves_a_rest_of_its_own() -> None:
    load, due_s = spec(Constant(10.0), requests=10), np.arange(10) / 10
    first = Rest(firsts=(4, 3), schedule_s=0.3)
    again = rest_after(load, due_s, 2, first, rows([3, 4, 5, 7], [0.0, 0.1, 0.2, 0.4]))
    assert again == Rest(firsts=(6, 7), schedule_s=due_s[6])
    assert rest_after(load, due_s, 2, first, rows([], [])) == first


def test_users_of_a_closed_loop_go_on_where_the_first_of_them_was_waiting() -> None:
    """Process 0 has ended 0, 2, 4 and is at 6, which is not on record; process 1 was quicker."""
    load = spec(ClosedLoop(users=2), requests=100)
    seen = rows([0, 2, 4, 1, 3, 5, 7, 9], [0.0, 1.0, 2.0, 0.0, 0.5, 1.0, 1.5, 2.5])
    rest = rest_after(load, None, 2, ALL, seen)
    assert rest == Rest(firsts=(4, 9), schedule_s=2.0), "6 was due after 4, and 4 goes again for want of knowing when"
    known = np.concatenate([seen, rows([6], [2.2], unfinished=[6])])
    assert rest_after(load, None, 2, ALL, known) == Rest(firsts=(6, 9), schedule_s=2.2)


def test_a_closed_loop_is_over_with_its_time_or_its_requests() -> None:
    timed = spec(ClosedLoop(users=1), duration_s=3.0)
    seen = rows([0, 1, 2, 3], [0.0, 1.0, 2.0, 3.5], unfinished=[3], unmeasured=[3])
    assert rest_after(timed, None, 1, ALL, seen) is None
    counted = spec(ClosedLoop(users=2), requests=4)
    assert rest_after(counted, None, 2, ALL, rows([0, 1, 2, 3], [0.0, 0.0, 1.0, 1.0])) is None
    assert rest_after(counted, None, 2, ALL, rows([0, 1, 2], [0.0, 0.0, 1.0])) is not None


def test_processes_send_the_rest_at_its_own_times() -> None:
    load = spec(Constant(10.0), duration_s=2.0)
    rest = Rest(firsts=(8, 7), schedule_s=0.7)
    for share in range(2):
        whole, measured = open_share(load, None, 30.0, share, 2)
        left, still = open_share(load, None, 30.0, share, 2, rest)
        done = (rest.firsts[share] - share) // 2
        assert still == measured - done == len(range(rest.firsts[share], 20, 2))
        assert left == pytest.approx(whole[done:] - 0.7)
    assert [closed_share(spec(ClosedLoop(users=2), requests=20), share, 2, rest)[1] for share in range(2)] == [6, 7]


@given(st.integers(0, 1000), st.integers(1, 3), st.lists(st.floats(0.05, 4.0), min_size=1, max_size=4))
def test_however_often_it_is_interrupted_each_request_counts_once_at_its_time(
    seed: int, processes: int, lives_s: list[float]
) -> None:
    """Clients that die so many seconds after they began, and lose what they had not written."""
    load, draw = spec(Poisson(20.0), duration_s=6.0), np.random.default_rng(seed)
    due_s = planned_s(load, None)
    assert due_s is not None
    takes_s = draw.exponential(0.5, len(due_s))
    rest: Rest | None = ALL
    parts: list[Part] = []
    for life_s in [*lives_s, 1e9]:
        if rest is None:
            break
        sent = np.arange(rest.begins, len(due_s))
        own = due_s[sent] - rest.schedule_s
        records = changed(run(own, output_tokens=1), number=sent, end_s=own + takes_s[sent])
        written = records.requests["end_s"] < life_s - 0.25 * draw.random(len(own))
        died = Records(records.requests[written], records.event_s, records.event_tokens, ())
        after = rest_after(load, due_s, processes, rest, died.requests)
        parts.append(Part(died if after is None else before(died, after), 0.0, rest.schedule_s))
        assert after is None or after.schedule_s >= rest.schedule_s
        rest = after
    assert rest is None
    joined = join(parts)
    assert joined.requests["number"].tolist() == list(range(len(due_s)))
    assert (np.diff(joined.requests["scheduled_s"]) >= -1e-9).all()
    starts = [segment.start_s for segment in joined.segments] or [0.0]
    shifts = np.array(starts) - ([segment.schedule_s for segment in joined.segments] or [0.0])
    of = np.searchsorted(starts, joined.requests["scheduled_s"] + 1e-9, side="right") - 1
    assert joined.requests["scheduled_s"] == pytest.approx(due_s + shifts[of])


@given(st.integers(0, 1000), st.integers(1, 3), st.lists(st.floats(0.05, 4.0), min_size=1, max_size=4))
def test_however_often_a_closed_loop_is_interrupted_each_request_counts_once(
    seed: int, processes: int, lives_s: list[float]
) -> None:
    draw = np.random.default_rng(seed)
    load, takes_s = spec(ClosedLoop(users=5), requests=60), draw.exponential(0.5, 60)
    rest: Rest | None = ALL
    parts: list[Part] = []
    for life_s in [*lives_s, 1e9]:
        if rest is None:
            break
        due_s, numbers = users_going_round(5, processes, rest, takes_s)
        records = changed(run(due_s, output_tokens=1, planned=False), number=numbers, end_s=due_s + takes_s[numbers])
        written = records.requests["end_s"] < life_s - 0.25 * draw.random(processes)[numbers % processes]
        died = replace(records, requests=records.requests[written])
        after = rest_after(load, None, processes, rest, died.requests)
        kept = died if after is None else before(died, after)
        assert after is None or (kept.requests["scheduled_s"] < after.schedule_s - rest.schedule_s).all()
        parts.append(Part(kept, 0.0, rest.schedule_s))
        rest = after
    joined = join(parts)
    assert rest is None and joined.requests["number"].tolist() == list(range(60))
    for segment in joined.segments:
        earlier = joined.requests["scheduled_s"] < segment.start_s - 1e-9
        assert (joined.requests["end_s"][earlier] <= segment.start_s + 1e-9).all()


def users_going_round(
    users: int, processes: int, rest: Rest, takes_s: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """When each request is due that the rest holds, and its number."""
    due_s, numbers = [], []
    for share in range(processes):
        free_s = [0.0] * len(range(share, users, processes))
        for number in range(rest.first(share), len(takes_s), processes):
            due_s.append(heapq.heappop(free_s))
            numbers.append(number)
            heapq.heappush(free_s, due_s[-1] + takes_s[number])
    order = np.argsort(numbers)
    return np.array(due_s)[order], np.array(numbers, np.int64)[order]


def two_parts(load: LoadSpec, records: Records, at: int) -> tuple[Records, list[Part]]:
    """``records`` of a whole run; and the same run, broken off and gone on with at that request."""
    schedule_s = records.requests["scheduled_s"].item(at)
    planned = records.planned_s or ()
    halves = []
    for rows_, start_s, own in (
        (records.requests[:at], 0.0, planned[:at]),
        (records.requests[at:], schedule_s, planned[at:]),
    ):
        requests = rows_.copy()
        for name in ("scheduled_s", "sent_s", "first_byte_s", "first_s", "last_s", "end_s"):
            requests[name] -= start_s
        halves.append(
            Records(
                requests, records.event_s - start_s, records.event_tokens, records.errors, (HEALTHY,),
                tuple(due_s - start_s for due_s in own),
            )
        )  # fmt: skip
    return records, [Part(halves[0], 1000.0, 0.0, told=False), Part(halves[1], 5000.0, schedule_s)]


def test_segments_follow_one_another_on_one_clock_that_stands_still_in_between() -> None:
    whole, parts = two_parts(spec(requests=60), run(np.arange(60.0) / 10, ttft_s=2.0), 40)
    joined = join(parts)
    first, second = joined.segments
    assert (first.start_s, first.schedule_s, first.told, second.schedule_s, second.told) == (0.0, 0.0, False, 4.0, True)
    assert second.start_s == pytest.approx(float(whole.requests["end_s"][39])), "when the last answer had come"
    later = joined.requests[40:]
    assert later["scheduled_s"] == pytest.approx(whole.requests["scheduled_s"][40:] + second.start_s - 4.0)
    assert joined.requests["end_s"][:40].max() <= later["sent_s"].min() + 1e-9
    assert joined.planned_s == pytest.approx(joined.requests["scheduled_s"])
    assert len(joined.processes) == 2
    for request in joined.requests:
        own = joined.event_s[request["first_event"] :][: request["events"]]
        assert own[0] == pytest.approx(request["first_s"]) and own[-1] == pytest.approx(request["last_s"])


def test_events_of_requests_that_are_sent_again_are_not_kept() -> None:
    records = run(np.arange(10.0))
    kept = before(records, Rest(firsts=(4,), schedule_s=4.0))
    joined = join([Part(kept, 0.0, 0.0), Part(changed(run(np.arange(6.0)), number=np.arange(4, 10)), 1.0, 4.0)])
    assert len(joined.event_s) == joined.requests["events"].sum() == 10 * 11


def test_a_client_that_ended_nothing_leaves_no_segment() -> None:
    nothing = Part(Records(run([]).requests, np.empty(0), np.empty(0, np.uint16), ()), 0.0, 0.0)
    alone = run(np.arange(10.0))
    assert join([nothing, Part(alone, 1.0, 0.0)]) is alone


def test_errors_of_all_segments_are_in_one_table() -> None:
    def failed(words: str) -> Records:
        made = changed(run([0.0]), outcome=Outcome.FAILED, error=0)
        return Records(made.requests, made.event_s, made.event_tokens, (words,))

    again = changed(failed("b"), number=1)
    joined = join([Part(failed("a"), 0.0, 0.0), Part(again, 1.0, 1.0), Part(changed(failed("a"), number=2), 2.0, 2.0)])
    assert [joined.errors[kind] for kind in joined.requests["error"]] == ["a", "b", "a"]
    assert joined.errors == ("a", "b")
