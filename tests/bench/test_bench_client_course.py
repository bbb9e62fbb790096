"""When requests go out, and when a run is through; on a sender that sends nothing."""

from __future__ import annotations

import asyncio
import itertools
from time import monotonic
from typing import cast

import numpy as np
import pytest

from headrace.bench.client.course import ClosedCourse, OpenCourse
from headrace.bench.client.flight import Flight
from headrace.bench.client.prepared import Prepared
from headrace.bench.client.sender import Sender
from headrace.bench.client.shares import closed_share, open_share, useful_processes
from headrace.bench.client.timer import Timer
from headrace.bench.workload.spec import (
    Amount,
    Arrivals,
    ClosedLoop,
    Constant,
    LoadSpec,
    Poisson,
    Replay,
    Stage,
    Stages,
)


class Flights:
    """In place of both the sender and what is prepared for it."""

    def __init__(self) -> None:
        self.sent: list[Flight] = []
        self._numbers = itertools.count()
        self._changed = asyncio.Event()

    def take(self) -> Flight:
        return Flight(number=next(self._numbers), payload=b"", asked_stream=True, asked_input=1, asked_output=1)

    def send(self, flight: Flight) -> None:
        flight.sent = monotonic()
        self.sent.append(flight)
        self._changed.set()

    async def number(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.sent) < count:
                self._changed.clear()
                await self._changed.wait()


def open_course(flights: Flights, due_s: list[float], measured: int) -> OpenCourse:
    return OpenCourse(cast(Sender, flights), cast(Prepared, flights), np.asarray(due_s), measured)


def closed_course(
    flights: Flights, users: int, requests: int | None = None, duration_s: float | None = None
) -> ClosedCourse:
    return ClosedCourse(cast(Sender, flights), cast(Prepared, flights), [0.0] * users, requests, duration_s)


def land(course: OpenCourse | ClosedCourse, flight: Flight, *, connected: bool = True) -> None:
    flight.end = monotonic()
    flight.connected = connected
    course.landed(flight)


async def test_an_open_loop_sends_in_time_and_goes_on_after_what_is_measured() -> None:
    flights = Flights()
    course = open_course(flights, [0.0, 0.01, 0.02, 0.03], 2)
    zero = monotonic() + 0.01
    course.start(zero)
    await flights.number(4)
    assert [flight.scheduled - zero for flight in flights.sent] == pytest.approx([0.0, 0.01, 0.02, 0.03])
    assert all(flight.sent >= flight.scheduled for flight in flights.sent)
    assert [flight.measured for flight in flights.sent] == [True, True, False, False]
    land(course, flights.sent[0])
    land(course, flights.sent[3])
    assert not course.through.is_set()
    land(course, flights.sent[1])
    assert course.through.is_set()


async def test_a_schedule_that_is_late_is_caught_up_with_and_keeps_its_times() -> None:
    flights = Flights()
    course = open_course(flights, [number / 1000 for number in range(200)], 200)
    zero = monotonic() - 1.0
    course.start(zero)
    await flights.number(200)
    assert [flight.scheduled for flight in flights.sent] == pytest.approx(
        [zero + number / 1000 for number in range(200)]
    )


async def test_what_is_due_goes_out_between_two_answers_and_does_not_wait_for_the_timer() -> None:
    flights = Flights()
    course = open_course(flights, [0.0, 0.001], 2)
    course.start(monotonic())
    await flights.number(1)
    while monotonic() < flights.sent[0].scheduled + 0.002:
        pass  # the loop is busy, so no timer can ring
    land(course, flights.sent[0])
    assert len(flights.sent) == 2


async def test_a_share_without_requests_is_through_at_once() -> None:
    for course in (open_course(Flights(), [], 0), closed_course(Flights(), 1, requests=0)):
        course.start(monotonic())
        assert course.through.is_set()


async def test_after_a_stop_nothing_is_sent_and_what_is_under_way_is_waited_for() -> None:
    flights = Flights()
    course = open_course(flights, [0.0, 0.001, 0.002], 3)
    course.start(monotonic())
    await flights.number(1)
    course.stop()
    sent = len(flights.sent)
    assert not course.through.is_set()
    for flight in list(flights.sent):
        land(course, flight)
    assert course.through.is_set() and len(flights.sent) == sent


async def test_users_send_when_they_are_free_and_no_more_than_asked_for() -> None:
    flights = Flights()
    course = closed_course(flights, users=2, requests=3)
    course.start(monotonic())
    await flights.number(2)
    land(course, flights.sent[0])
    assert flights.sent[2].scheduled == flights.sent[0].end
    for flight in flights.sent[1:]:
        assert not course.through.is_set()
        land(course, flight)
    assert course.through.is_set() and len(flights.sent) == 3


async def test_users_go_on_after_the_duration_and_what_they_send_then_does_not_count() -> None:
    flights = Flights()
    course = closed_course(flights, users=2, duration_s=0.05)
    course.start(monotonic())
    await flights.number(2)
    first, second = flights.sent
    await asyncio.get_running_loop().run_in_executor(None, _until, first.scheduled + 0.06)
    land(course, first)
    assert not course.through.is_set() and not flights.sent[2].measured
    land(course, second)
    assert course.through.is_set() and len(flights.sent) == 4


async def test_a_user_who_finds_no_connection_comes_back_later() -> None:
    flights = Flights()
    course = closed_course(flights, users=1)
    course.start(monotonic())
    await flights.number(1)
    land(course, flights.sent[0], connected=False)
    assert len(flights.sent) == 1
    await flights.number(2)
    assert flights.sent[1].scheduled >= flights.sent[0].end + 0.09


async def test_the_timer_rings_when_it_is_time_and_only_then() -> None:
    rang = asyncio.Event()
    timer = Timer(rang.set)
    try:
        for delay_s in (0.0103, -1.0, 0.0):
            due = monotonic() + delay_s
            timer.at(due)
            async with asyncio.timeout(10):
                await rang.wait()
            assert monotonic() >= due
            rang.clear()
        timer.at(monotonic())
        timer.at(monotonic() + 60)  # before it was heard
        await asyncio.sleep(0)
        assert not rang.is_set()
    finally:
        timer.close()


def spec(arrivals: Arrivals, amount: Amount) -> LoadSpec:
    return LoadSpec(model="m", arrivals=arrivals, amount=amount)


def test_shares_of_an_open_loop_are_the_whole_schedule() -> None:
    load = spec(Poisson(50.0), Amount(requests=100))
    shares = [open_share(load, None, 60.0, share, 3) for share in range(3)]
    assert [measured for _, measured in shares] == [34, 33, 33]
    assert [len(due_s) for due_s, _ in shares] == [34, 33, 33], "exactly that many, and no more"
    whole, _ = open_share(load, None, 60.0, 0, 1)
    assert np.sort(np.concatenate([due_s for due_s, _ in shares])).tolist() == whole.tolist()


def test_load_is_kept_on_where_the_duration_decides() -> None:
    due_s, measured = open_share(spec(Constant(10.0), Amount(duration_s=2.0)), None, 30.0, 1, 2)
    assert measured == 10 and len(due_s) == 160
    due_s, measured = open_share(spec(Constant(10.0), Amount(duration_s=2.0, requests=5)), None, 30.0, 0, 1)
    assert measured == 5 == len(due_s), "the number of requests decided"


def test_stages_are_kept_on_at_their_last_rate_and_a_trace_comes_round_again() -> None:
    stages = Stages((Stage(2.0, 0.0, 100.0), Stage(2.0, 50.0, 50.0)))
    due_s, measured = open_share(spec(stages, Amount()), None, 10.0, 0, 1)
    assert (due_s[:measured] < 4.0).all() and (due_s[measured:] >= 4.0).all() and due_s[-1] < 14.0
    assert len(due_s) - measured == pytest.approx(10.0 * 50.0, abs=5 * np.sqrt(500))
    trace_s = np.array([0.0, 1.0, 3.0])
    due_s, measured = open_share(spec(Replay(), Amount()), trace_s, 4.0, 0, 1)
    assert measured == 3 and due_s.tolist() == [0.0, 1.0, 3.0, 4.5, 5.5]


def test_stages_that_end_in_silence_are_not_kept_on() -> None:
    due_s, measured = open_share(spec(Stages((Stage(2.0, 50.0, 0.0),)), Amount()), None, 10.0, 0, 1)
    assert measured == len(due_s) > 0


def test_shares_of_a_closed_loop_are_users_and_their_requests() -> None:
    load = spec(ClosedLoop(users=3, ramp_s=3.0), Amount(requests=10))
    assert [closed_share(load, share, 2) for share in range(2)] == [([0.0, 2.0], 5), ([1.0], 5)]
    assert useful_processes(load, 8) == 3


def _until(when: float) -> None:
    while monotonic() < when:
        pass
