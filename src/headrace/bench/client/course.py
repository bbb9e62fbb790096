"""When requests are sent: an open loop on its schedule, or a closed loop of users.

An open loop never waits for an answer: a request that is due is sent whatever the server does, or the waits that users
would feel go missing from the figures (coordinated omission). Times are of ``time.monotonic``.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from headrace.bench.client.flight import Flight
from headrace.bench.client.prepared import Prepared
from headrace.bench.client.sender import Sender
from headrace.bench.client.timer import Timer

_AT_ONCE = 16
"""Requests that are late already go out in groups of this many, so that answers are read in between."""
AFTER_NO_CONNECTION_S = 0.1
"""A user who finds no connection comes back after this, rather than at once and in vain."""


class Course(ABC):
    """Which request goes out when. ``through`` is set when every measured request of this process has ended."""

    def __init__(self, sender: Sender, prepared: Prepared) -> None:
        self.through = asyncio.Event()
        self._sender = sender
        self._prepared = prepared
        self._measured_aloft = 0
        self._last_measured_sent = False
        self._stopped = False

    @abstractmethod
    def start(self, zero: float) -> None:
        """``zero``: of the run's clock."""

    def stop(self) -> None:
        """Send nothing any more."""
        self._stopped = True
        self._no_more_measured()

    def landed(self, flight: Flight) -> None:
        """Its fate is known."""
        if flight.measured:
            self._measured_aloft -= 1
            self._look_whether_through()

    def _send(self, scheduled: float, *, measured: bool) -> bool:
        """False where there are no requests left."""
        flight = self._prepared.take()
        if flight is None:
            return False
        self._launch(flight, scheduled, measured=measured)
        return True

    def _launch(self, flight: Flight, scheduled: float, *, measured: bool) -> None:
        flight.scheduled = scheduled
        flight.measured = measured
        self._measured_aloft += measured
        self._sender.send(flight)

    def _no_more_measured(self) -> None:
        self._last_measured_sent = True
        self._look_whether_through()

    def _look_whether_through(self) -> None:
        if self._last_measured_sent and not self._measured_aloft:
            self.through.set()


class OpenCourse(Course):
    """Each request when it is due."""

    def __init__(self, sender: Sender, prepared: Prepared, due_s: NDArray[np.float64], measured: int) -> None:
        """``due_s``: of this process's requests, from the run's zero; the first ``measured`` of them count."""
        super().__init__(sender, prepared)
        self._due_s = due_s
        self._measured = measured
        self._next = 0
        self._due = math.inf
        """Of the next one, by ``time.monotonic``."""
        self._zero = 0.0
        self._timer = Timer(self._ring)

    def start(self, zero: float) -> None:
        self._zero = zero
        if self._measured:
            self._due = zero + self._due_s.item(0)
            self._timer.at(self._due)
        else:
            self._no_more_measured()

    def stop(self) -> None:
        self._timer.close()
        super().stop()

    def landed(self, flight: Flight) -> None:
        super().landed(flight)
        if self._due <= monotonic() and not self._stopped:
            self._send_due()  # the timer's turn, which it has still, comes only after all other answers of this round

    def _ring(self) -> None:
        self._send_due()
        if self._due < math.inf and not self._stopped:
            self._timer.at(self._due)

    def _send_due(self) -> None:
        for _ in range(_AT_ONCE):
            if self._due > monotonic():
                break
            scheduled = self._due
            self._next += 1
            self._due = self._zero + self._due_s.item(self._next) if self._next < len(self._due_s) else math.inf
            self._send(scheduled, measured=self._next <= self._measured)
            if self._next == self._measured:
                self._no_more_measured()


class ClosedCourse(Course):
    """Each user sends the next request when the last is answered."""

    def __init__(
        self, sender: Sender, prepared: Prepared, starts_s: list[float], requests: int | None, duration_s: float | None
    ) -> None:
        """``starts_s``: of this process's users. ``requests``: of this process."""
        super().__init__(sender, prepared)
        self._starts_s = starts_s
        self._requests = requests
        self._duration_s = duration_s
        self._sent = 0
        self._zero = self._end = 0.0
        self._next_user = 0
        self._timer = Timer(self._start_users)
        self._end_timer = Timer(self._no_more_measured)

    def start(self, zero: float) -> None:
        self._zero = zero
        if self._requests == 0 or not self._starts_s:
            self._no_more_measured()
            return
        self._timer.at(zero + self._starts_s[0])
        self._end = float("inf") if self._duration_s is None else zero + self._duration_s
        if self._duration_s is not None:
            self._end_timer.at(self._end)

    def stop(self) -> None:
        self._timer.close()
        self._end_timer.close()
        super().stop()

    def landed(self, flight: Flight) -> None:
        if flight.connected:
            self._next_of_user(flight.end)
        else:
            asyncio.get_running_loop().call_later(AFTER_NO_CONNECTION_S, self._after_no_connection)
        super().landed(flight)

    def _after_no_connection(self) -> None:
        self._next_of_user(monotonic())

    def _start_users(self) -> None:
        for begins_s in self._starts_s[self._next_user : self._next_user + _AT_ONCE]:
            if self._zero + begins_s > monotonic():
                break
            self._next_user += 1
            self._next_of_user(self._zero + begins_s)
        if self._next_user < len(self._starts_s) and not self._stopped:
            self._timer.at(self._zero + self._starts_s[self._next_user])

    def _next_of_user(self, free: float) -> None:
        if self._stopped or (self._requests is not None and self._sent >= self._requests):
            return
        self._sent += 1
        self._send(free, measured=free < self._end)
        if self._sent == self._requests:
            self._no_more_measured()
