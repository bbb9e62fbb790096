"""When the turns of sessions go out: the first on the schedule, each other some time after the answer before it."""

from __future__ import annotations

import heapq
from time import monotonic
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.bench.client.answer import KeptAnswer
from headrace.bench.client.course import OpenCourse
from headrace.bench.client.flight import Flight
from headrace.bench.client.prepared import Prepared
from headrace.bench.client.records import Outcome, follow_up
from headrace.bench.client.sender import Sender
from headrace.bench.client.timer import Timer
from headrace.bench.client.verdict import verdict
from headrace.bench.workload.sessions import SessionWorkload


class _Turn(NamedTuple):
    due: float
    """By ``time.monotonic``."""
    number: int
    flight: Flight
    measured: bool


class SessionCourse(OpenCourse):
    """An open loop of sessions. One that gets no complete answer ends there, as its user would."""

    def __init__(
        self, sender: Sender, prepared: Prepared, sessions: SessionWorkload, due_s: NDArray[np.float64], measured: int
    ) -> None:
        super().__init__(sender, prepared, due_s, measured)
        self._sessions = sessions
        self._said: dict[int, tuple[int, list[str]]] = {}
        """Of the turns that are on their way, by number: session, and its answers so far."""
        self._thinking: list[_Turn] = []
        self._turn_timer = Timer(self._send_turns)

    def stop(self) -> None:
        self._turn_timer.close()
        self._measured_aloft -= sum(turn.measured for turn in self._thinking)
        self._thinking.clear()
        super().stop()

    def landed(self, flight: Flight) -> None:
        session, answers = self._said.pop(flight.number, (flight.number, []))
        if not self._stopped and verdict(flight)[0] == Outcome.OK and isinstance(flight.answer, KeptAnswer):
            answers.append(flight.answer.text)
            if len(answers) < self._sessions.turns(session):
                self._think(session, answers, flight)
        super().landed(flight)

    def _think(self, session: int, answers: list[str], before: Flight) -> None:
        number = follow_up(session, len(answers))
        flight = self._prepared.flight(number, self._sessions.follow(session, answers))
        self._said[number] = (session, answers)
        due = before.end + self._sessions.think_s(session, len(answers))
        heapq.heappush(self._thinking, _Turn(due, number, flight, before.measured))
        self._measured_aloft += before.measured  # the session goes on
        self._turn_timer.at(self._thinking[0].due)

    def _send_turns(self) -> None:
        while self._thinking and self._thinking[0].due <= monotonic():
            due, _, flight, measured = heapq.heappop(self._thinking)
            self._measured_aloft -= measured
            self._launch(flight, due, measured=measured)
        if self._thinking and not self._stopped:
            self._turn_timer.at(self._thinking[0].due)
