"""When requests are sent: a closed loop of users, or an open loop on a schedule made up front.

Both call ``send(number, scheduled_s)`` and know nothing of HTTP. An open loop never waits for an answer: a request that
is due is sent whatever the server does, or the waits that users would feel go missing from the figures (coordinated
omission).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

Send = Callable[[int, float], Coroutine[Any, Any, None]]
"""Sends request ``number``, which was due at ``scheduled_s`` on the run's clock, and records what became of it."""


class Clock:
    """Seconds since it was made; monotonic."""

    def __init__(self) -> None:
        self._zero = time.perf_counter()

    def now(self) -> float:
        return time.perf_counter() - self._zero


def constant_rate(requests_per_s: float, *, requests: int | None, duration_s: float | None) -> list[float]:
    """Seconds at which requests are due, evenly spaced from 0; as many as the tighter of the two limits allows."""
    limits = []
    if requests is not None:
        limits.append(requests)
    if duration_s is not None:
        # A request due at the very end would be measured outside the duration.
        limits.append(max(1, int(duration_s * requests_per_s + 1e-9)))
    return [number / requests_per_s for number in range(min(limits))]


async def closed_loop(
    send: Send, *, users: int, requests: int | None, duration_s: float | None, clock: Clock, stop: asyncio.Event
) -> None:
    """``users`` at once, each sending its next request when the last is answered.

    Ends when ``requests`` were sent or ``duration_s`` have passed, and all are answered; at once on ``stop``.
    """
    numbers = iter(range(requests)) if requests is not None else iter(range(2**62))

    async def user() -> None:
        while not stop.is_set() and (duration_s is None or clock.now() < duration_s):
            number = next(numbers, None)
            if number is None:
                return
            await send(number, clock.now())

    await _until_done_or_stopped([asyncio.create_task(user()) for _ in range(users)], stop)


async def open_loop(send: Send, *, due: Sequence[float], clock: Clock, stop: asyncio.Event) -> None:
    """Send each request when it is due. Ends when all are answered; at once on ``stop``."""
    sent: list[asyncio.Task[None]] = []
    for number, scheduled_s in enumerate(due):
        await _wait_until(scheduled_s, clock, stop)
        if stop.is_set():
            break
        sent.append(asyncio.create_task(send(number, scheduled_s)))
    await _until_done_or_stopped(sent, stop)


async def _wait_until(at_s: float, clock: Clock, stop: asyncio.Event) -> None:
    wait_s = at_s - clock.now()
    if wait_s <= 0:
        # Late already: give the answers in flight a turn, then send.
        await asyncio.sleep(0)
        return
    try:
        await asyncio.wait_for(stop.wait(), wait_s)
    except TimeoutError:
        return


async def _until_done_or_stopped(tasks: list[asyncio.Task[None]], stop: asyncio.Event) -> None:
    """Wait for the tasks; on ``stop`` cancel them. Raises what a task raised."""
    stopped = asyncio.create_task(_wait(stop))
    pending = set(tasks)
    try:
        while pending and not stop.is_set():
            done, _ = await asyncio.wait({*pending, stopped}, return_when=asyncio.FIRST_COMPLETED)
            pending -= done
            for task in done:
                task.result()
    finally:
        leftovers = [*pending, stopped]
        for task in leftovers:
            task.cancel()
        await asyncio.gather(*leftovers, return_exceptions=True)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
