"""Closed and open loops, without HTTP: what is in flight, and when."""

from __future__ import annotations

import asyncio

import pytest

from headrace.bench.loops import Clock, closed_loop, constant_rate, open_loop


class Server:
    """Answers when told to."""

    def __init__(self) -> None:
        self.arrived: list[int] = []
        self.in_flight = 0
        self.most = 0
        self.cut = 0
        self.let_go = asyncio.Event()
        self.arrival = asyncio.Condition()

    async def send(self, number: int, scheduled_s: float) -> None:
        self.arrived.append(number)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        async with self.arrival:
            self.arrival.notify_all()
        try:
            await self.let_go.wait()
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cut += 1
            raise
        finally:
            self.in_flight -= 1


async def arrivals(server: Server, wanted: int) -> None:
    async with asyncio.timeout(5), server.arrival:
        await server.arrival.wait_for(lambda: len(server.arrived) >= wanted)


def test_a_constant_rate_is_evenly_spaced_from_zero() -> None:
    assert constant_rate(4.0, requests=3, duration_s=None) == [0.0, 0.25, 0.5]


@pytest.mark.parametrize(
    ("requests", "duration_s", "sent"), [(100, 2.0, 8), (5, 2.0, 5), (None, 2.0, 8), (None, 0.1, 1)]
)
def test_the_tighter_limit_counts(requests: int | None, duration_s: float, sent: int) -> None:
    assert len(constant_rate(4.0, requests=requests, duration_s=duration_s)) == sent


async def test_a_closed_loop_keeps_exactly_its_users_in_flight() -> None:
    server = Server()
    run = asyncio.ensure_future(
        closed_loop(server.send, users=3, requests=10, duration_s=None, clock=Clock(), stop=asyncio.Event())
    )
    await arrivals(server, 3)
    for _ in range(10):
        await asyncio.sleep(0)
    assert server.in_flight == 3
    server.let_go.set()
    await asyncio.wait_for(run, 5)
    assert sorted(server.arrived) == list(range(10))
    assert server.most == 3


async def test_an_open_loop_does_not_wait_for_answers() -> None:
    server = Server()
    run = asyncio.ensure_future(open_loop(server.send, due=[0.0] * 50, clock=Clock(), stop=asyncio.Event()))
    await arrivals(server, 50)
    assert server.in_flight == 50
    server.let_go.set()
    await asyncio.wait_for(run, 5)


async def test_requests_are_not_sent_before_they_are_due() -> None:
    clock = Clock()
    sent: list[float] = []

    async def send(number: int, scheduled_s: float) -> None:
        sent.append(clock.now() - scheduled_s)

    await open_loop(send, due=[0.0, 0.01, 0.02, 0.03], clock=clock, stop=asyncio.Event())
    assert len(sent) == 4
    assert min(sent) > -0.002  # the event loop counts in milliseconds


@pytest.mark.parametrize("loop", ["open", "closed"])
async def test_a_stop_cuts_off_what_is_in_flight(loop: str) -> None:
    server, stop = Server(), asyncio.Event()
    if loop == "open":
        run = open_loop(server.send, due=[0.0, 0.0, 3600.0], clock=Clock(), stop=stop)
    else:
        run = closed_loop(server.send, users=2, requests=None, duration_s=None, clock=Clock(), stop=stop)
    task = asyncio.ensure_future(run)
    await arrivals(server, 2)
    stop.set()
    await asyncio.wait_for(task, 5)
    assert server.cut == 2
    assert server.in_flight == 0


async def test_a_closed_loop_of_a_duration_lets_its_last_requests_end() -> None:
    server = Server()
    server.let_go.set()
    clock = Clock()
    await asyncio.wait_for(
        closed_loop(server.send, users=2, requests=None, duration_s=0.05, clock=clock, stop=asyncio.Event()), 5
    )
    assert clock.now() >= 0.05
    assert server.cut == 0


@pytest.mark.parametrize("loop", ["open", "closed"])
async def test_a_fault_of_the_sender_itself_is_raised_and_not_swallowed(loop: str) -> None:
    async def send(number: int, scheduled_s: float) -> None:
        raise ZeroDivisionError

    if loop == "open":
        run = open_loop(send, due=[0.0], clock=Clock(), stop=asyncio.Event())
    else:
        run = closed_loop(send, users=1, requests=1, duration_s=None, clock=Clock(), stop=asyncio.Event())
    with pytest.raises(ZeroDivisionError):
        await run
