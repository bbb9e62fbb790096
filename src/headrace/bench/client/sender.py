"""Requests to one server: a pool of connections without limit, time-outs, and another try where it was asked for.

Connections that are open before the load begins spare its first requests the time to connect, as clients that keep
theirs are spared it. There is no limit to how many are open, but to how many are being made: a client that is short of
processor time would otherwise make one for every request that it is late with, and so be later still.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic

from headrace.bench.client.connection import Connection
from headrace.bench.client.flight import Flight
from headrace.bench.client.spec import Origin

MOST_OPENING = 128
"""Connections being made at a time. Further requests wait for the first that is made or free; they are sent then, so
that their wait counts as the client's own lateness."""
LOOKS_AT_ONCE = 4
"""Answers that are read in a row, of some 50 µs each, before what has come meanwhile is timed."""
OPEN_AHEAD_WITHIN_S = 1.0
"""What takes longer is left to the requests."""
LONGEST_WAIT_S = 60.0
"""Before a request is sent again, whatever the server says."""
_FIRST_WAIT_S = 0.5
"""Where the server says nothing; doubled with every attempt."""


class Sender:
    """Belongs to the running event loop. ``landed`` hears of every request once, when its fate is known."""

    def __init__(
        self,
        origin: Origin,
        addresses: Sequence[str],
        landed: Callable[[Flight], None],
        *,
        timeout_s: float,
        connect_timeout_s: float,
        retries: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._origin = origin
        self._addresses = addresses
        self._landed = landed
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._retries = retries
        self._tls = tls
        self._idle: dict[Connection, None] = {}  # the last one used comes first: the rest can age and go
        self._next_address = 0
        self._aloft: dict[Flight, Connection | asyncio.Task[None]] = {}  # in the order of their sending
        self._opening = 0
        self._to_look: deque[Connection] = deque()
        self._queue: deque[tuple[Flight, float]] = deque()  # requests without a connection, and since when
        self._waiting: dict[Flight, asyncio.TimerHandle] = {}
        self._closed = False

    async def open_ahead(self, count: int) -> None:
        """Have so many connections before the first request. Those that cannot be made are left to the requests, which
        tell why."""
        opening = [self._loop.create_task(self._open_idle()) for _ in range(count)]
        if opening:
            _, late = await asyncio.wait(opening, timeout=OPEN_AHEAD_WITHIN_S)
            for task in late:
                task.cancel()

    def send(self, flight: Flight) -> None:
        idle = self._idle
        while idle:
            connection, _ = idle.popitem()
            if connection.usable:
                self._aloft[flight] = connection
                connection.send(flight)
                return
        self._open_or_wait(flight)

    def sweep(self) -> None:
        """Give up what has taken too long; to be called now and then."""
        now = monotonic()
        late: list[Flight] = []
        for flight in self._aloft:
            if flight.sent + self._timeout_s > now:
                break
            late.append(flight)
        for flight in late:
            self._cut(flight, f"no complete answer within {self._timeout_s:g} s", timed_out=True)
        while self._queue and self._queue[0][1] + self._connect_timeout_s < now:
            flight, _ = self._queue.popleft()
            self._fail(flight, f"none was free within {self._connect_timeout_s:g} s, with {MOST_OPENING} being made")

    def cut_off(self) -> None:
        """The run ends: so does everything under way. Nothing is sent any more."""
        self._closed = True
        for flight, timer in list(self._waiting.items()):
            timer.cancel()
            del self._waiting[flight]
            self._cut_waiting(flight)
        while self._queue:
            self._cut_waiting(self._queue.popleft()[0])
        for flight in list(self._aloft):
            self._cut(flight, "cut off by the end of the run", cut_off=True)
        for connection in list(self._idle):
            connection.close()
        self._idle.clear()

    # The connections' side.

    def keep(self, connection: Connection) -> None:
        if self._queue:
            flight, _ = self._queue.popleft()
            self._aloft[flight] = connection
            connection.send(flight)
        else:
            self._idle[connection] = None

    def look_soon(self, connection: Connection) -> None:
        """It has something to be read, which can wait until what other connections bring has been timed."""
        if not self._to_look:
            self._loop.call_soon(self._look)
        self._to_look.append(connection)

    def forget(self, connection: Connection) -> None:
        self._idle.pop(connection, None)

    def resend(self, flight: Flight) -> None:
        """The connection that was kept for it had been closed by the server."""
        del self._aloft[flight]
        self._open_or_wait(flight)

    def settle(self, flight: Flight) -> None:
        """An attempt is over."""
        self._aloft.pop(flight, None)
        if flight.retries < self._retries and not self._closed and _turned_away(flight):
            wait_s = _wait_s(flight)
            flight.retries += 1
            self._waiting[flight] = self._loop.call_later(wait_s, self._again, flight)
            return
        self._landed(flight)

    # Inside.

    def _look(self) -> None:
        waiting = self._to_look
        for _ in range(min(LOOKS_AT_ONCE, len(waiting))):
            waiting.popleft().look()
        if waiting:
            self._loop.call_soon(self._look)

    def _again(self, flight: Flight) -> None:
        del self._waiting[flight]
        flight.begin()
        self.send(flight)

    def _open_or_wait(self, flight: Flight) -> None:
        if self._opening < MOST_OPENING:
            self._open_for(flight)
        else:
            self._queue.append((flight, monotonic()))

    def _open_for(self, flight: Flight) -> None:
        flight.sent = monotonic()
        self._opening += 1
        task = self._aloft[flight] = self._loop.create_task(self._open(flight))
        task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening -= 1
        if not task.cancelled():
            task.result()  # an error here is this program's own
        if self._queue:
            self._open_for(self._queue.popleft()[0])

    async def _open(self, flight: Flight) -> None:
        began = flight.sent
        try:
            connection = await self._connect()
        except TimeoutError:
            fault = f"it took longer than {self._connect_timeout_s:g} s"
        except OSError as error:
            fault = why_not_connected(error)
        else:
            if connection.usable:
                self._aloft[flight] = connection
                connection.send(flight)
                flight.sent = began  # the time it took to connect is the request's
                return
            fault = "the server closed it at once"
        self._fail(flight, fault)

    async def _open_idle(self) -> None:
        try:
            connection = await self._connect()
        except OSError:  # TimeoutError is one
            return
        if connection.usable:
            connection.open_ahead()
            self.keep(connection)

    def _fail(self, flight: Flight, why: str) -> None:
        """There is no connection for it."""
        flight.connected = False
        flight.fault = f"no connection to {self._origin.authority}: {why}"
        flight.end = monotonic()
        self.settle(flight)

    async def _connect(self) -> Connection:
        """Raises OSError and TimeoutError."""
        async with asyncio.timeout(self._connect_timeout_s):
            for left in reversed(range(len(self._addresses))):
                address = self._addresses[self._next_address % len(self._addresses)]
                self._next_address += 1
                try:
                    _, connection = await self._loop.create_connection(
                        lambda: Connection(self),
                        address,
                        self._origin.port,
                        ssl=self._tls,
                        server_hostname=self._origin.host if self._tls else None,
                    )
                    return connection
                except OSError:
                    if not left:
                        raise  # an error kept here would be a cycle, and the collector is off
        raise OSError("the server has no address")

    def _cut(self, flight: Flight, fault: str, *, timed_out: bool = False, cut_off: bool = False) -> None:
        carrier = self._aloft[flight]
        if isinstance(carrier, Connection):
            carrier.abandon(flight)
            if flight not in self._aloft:
                return  # it ended after all
        else:
            carrier.cancel()
        flight.fault, flight.timed_out, flight.cut_off, flight.end = fault, timed_out, cut_off, monotonic()
        self.settle(flight)

    def _cut_waiting(self, flight: Flight) -> None:
        flight.cut_off = True
        flight.end = monotonic()
        self.settle(flight)


def _turned_away(flight: Flight) -> bool:
    """Nothing was done for it, so it may be sent again."""
    return not flight.connected or (flight.head is not None and flight.head.status in (429, 503))


def _wait_s(flight: Flight) -> float:
    told = None if flight.head is None else flight.head.retry_after_s
    return min(LONGEST_WAIT_S, _FIRST_WAIT_S * 2**flight.retries if told is None else told)


def why_not_connected(error: OSError) -> str:
    """In words; where it is this machine's fault and not the server's, with what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error})"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "this process may open no more files, and connections are files; raise the limit (ulimit -n)"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no port left to connect from; put on less load, or let the server keep connections"
    return error.strerror or str(error)
