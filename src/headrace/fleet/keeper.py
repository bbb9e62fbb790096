"""One service of the supervisor, kept running: started again when it dies, and replaced while it runs."""

from __future__ import annotations

import asyncio
import logging
import signal
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from headrace.fleet.child import RunningChild, now_ms
from headrace.fleet.protocol import Child, ChildSpec

FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 5.0
"""A service that died is started again at once; one that dies again soon, after a delay that doubles between these."""
HEALTHY_S = 60.0
"""A service that ran this long has its delays forgotten."""
READY_S = 60.0
"""For a successor to say that it serves."""
HAND_OVER = signal.SIGUSR1
"""To a service whose successor serves: take nothing new, finish all that was begun, and end."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """A child that the supervisor keeps running: the gateway or the controller."""

    kind: str
    argv: tuple[str, ...]
    stdin: Callable[[str, int], str]
    """From (token of this start, descriptor of the listening socket) to what the process reads on standard input."""
    listens: bool = False
    """Inherits the listening socket."""
    grace_s: float = 10.0
    """Time to finish between SIGTERM and SIGKILL."""
    successor: Callable[[str, int], str] | None = None
    """As ``stdin``, for a process that takes over from one that runs: it says ``ready`` once it serves, or ends. None:
    two of this service must not run at once."""
    hand_over_s: float = 10.0
    """Time to finish between ``HAND_OVER`` and SIGTERM."""


class Keeper:
    """``run`` it in a task; it returns when the server stops, and leaves the stopping of children to its caller."""

    def __init__(
        self, service: Service, start: Callable[[ChildSpec], RunningChild], socket_fd: int, stopping: asyncio.Event
    ) -> None:
        """``start``: may raise OSError and ValueError."""
        self.service = service
        self._start = start
        self._socket_fd = socket_fd
        self._stopping = stopping
        self._current: RunningChild | None = None
        self._handed_over = asyncio.Event()
        self._successor = ""
        """Token of the one that is not ready yet."""
        self._ready = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        delay = 0.0
        while not self._stopping.is_set():
            started_ms = now_ms()
            try:
                self._current = self._launch(self.service.stdin)
            except (OSError, ValueError) as error:
                log.error("cannot start", extra={"fields": {"child": self.service.kind, "reason": str(error)}})
            else:
                started_ms = await self._watch()
            if now_ms() - started_ms >= HEALTHY_S * 1000:
                delay = 0.0
            await _first(self._stopping, timeout_s=delay)
            delay = min(max(2 * delay, FIRST_DELAY_S), LONGEST_DELAY_S)

    async def _watch(self) -> int:
        """Until the one that serves has died, or the server stops; returns when that one was started."""
        while True:
            assert self._current is not None
            self._handed_over.clear()
            current = self._current
            await _first(current.exited, self._handed_over, self._stopping)
            if current is self._current or self._stopping.is_set():
                return current.state.started_ms

    def replace(self) -> None:
        """Start a successor on the same socket; once it serves, the one that runs takes nothing new and finishes.

        Where that cannot be, or the successor does not get ready, the one that runs stays; the log says why.
        """
        task = asyncio.create_task(self._replace())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def heard(self, child: Child) -> None:
        """A child of the supervisor has changed."""
        if child.token == self._successor and child.report is not None and child.report.get("state") == "ready":
            self._ready.set()

    async def _replace(self) -> None:
        fields = {"child": self.service.kind}
        if self.service.successor is None or self._current is None or self._current.exited.is_set():
            log.warning("not replaced: it does not run, or cannot run twice", extra={"fields": fields})
            return
        if self._successor:
            log.warning("not replaced: another successor is being started", extra={"fields": fields})
            return
        self._ready.clear()
        try:
            successor = self._launch(self.service.successor, successor=True)
            await _first(self._ready, successor.exited, self._stopping, timeout_s=READY_S)
            if not self._ready.is_set():
                log.error("not replaced: its successor did not get ready", extra={"fields": fields})
                await successor.stop(self.service.grace_s)
                return
        except (OSError, ValueError) as error:
            log.error("not replaced: cannot start", extra={"fields": fields | {"reason": str(error)}})
            return
        finally:
            self._successor = ""
        before, self._current = self._current, successor
        self._handed_over.set()
        log.info("replaced", extra={"fields": fields | {"pid": successor.state.pid, "before": before.state.pid}})
        before.send(HAND_OVER)
        await _first(before.exited, self._stopping, timeout_s=self.service.hand_over_s)
        await before.stop(self.service.grace_s)

    def _launch(self, stdin: Callable[[str, int], str], *, successor: bool = False) -> RunningChild:
        token = f"{self.service.kind}-{uuid.uuid4().hex[:12]}"
        if successor:
            self._successor = token
        service = self.service
        given = stdin(token, self._socket_fd)
        return self._start(ChildSpec(token=token, kind=service.kind, name=service.kind, argv=service.argv, stdin=given))


async def _first(*events: asyncio.Event, timeout_s: float | None = None) -> None:
    """Until one of them is set, or the time is over."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
