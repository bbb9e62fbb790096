"""An HTTP/1.1 server: listening, limits, draining. What it serves is the handler's business."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from headrace.wire.exchange import ClientGone, Exchange
from headrace.wire.message import Header
from headrace.wire.request_parser import Limits
from headrace.wire.server_connection import ServerConnection, answer_handler_error

__all__ = ["ClientGone", "Exchange", "Handler", "Limits", "OnError", "Server"]

Handler = Callable[[Exchange], Coroutine[Any, Any, None] | None]
"""An ``async def``, or a plain function that has answered, or will answer by callbacks, when it returns None."""

OnError = Callable[[Exchange | None, int, str], tuple[list[Header], bytes]]
"""Headers and body of an answer that the server itself must give: (exchange or None, status, reason)."""


def plain_error(exchange: Exchange | None, status: int, reason: str) -> tuple[list[Header], bytes]:
    return [(b"content-type", b"text/plain; charset=utf-8")], f"{reason}\n".encode()


class Server:
    """Serves ``handler`` on any number of sockets until ``close``; belongs to the running event loop."""

    def __init__(self, handler: Handler, *, limits: Limits | None = None, on_error: OnError = plain_error) -> None:
        self.limits = limits or Limits()
        self.on_error = on_error
        self.draining = False
        """Answers that begin now say ``Connection: close``."""
        self.in_flight = 0
        """Exchanges whose answer is not complete or whose handler still runs."""
        self._handler = handler
        self._listeners: list[asyncio.Server] = []
        self._connections: set[ServerConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._sweep_s = min(1.0, self.limits.shortest_timeout_s / 4)  # one timer for all is cheaper than one each

    async def listen(
        self,
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        sock: socket.socket | None = None,
        path: str | None = None,
    ) -> None:
        """Serve on exactly one of a TCP port (0: any free one), an inherited listening socket, or a Unix socket path.

        Raises OSError where that is taken.
        """
        if sum(way is not None for way in (port, sock, path)) != 1:
            raise ValueError("listen on exactly one of port, sock and path")
        if path is not None:
            listener = await self._loop.create_unix_server(self._connect, path, backlog=1024)
        elif sock is not None and sock.family == socket.AF_UNIX:
            listener = await self._loop.create_unix_server(self._connect, sock=sock, backlog=1024)
        elif sock is not None:
            listener = await self._loop.create_server(self._connect, sock=sock, backlog=1024)
        else:
            listener = await self._loop.create_server(self._connect, host, port, backlog=1024)
        self._listeners.append(listener)
        if self._sweeper is None:
            self._sweep()

    @property
    def port(self) -> int:
        """Of the first TCP socket."""
        for listener in self._listeners:
            for sock in listener.sockets:
                if sock.family != socket.AF_UNIX:
                    return int(sock.getsockname()[1])
        raise RuntimeError("the server listens on no TCP socket")

    @property
    def connections(self) -> int:
        return len(self._connections)

    def close_listener(self) -> None:
        """Take no new connection; those open go on."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def drain(self, deadline_s: float) -> int:
        """Finish the exchanges in flight, each with ``Connection: close``; idle connections close now.

        After ``deadline_s`` the rest is cut: connections aborted, handlers cancelled. Returns how many exchanges were.
        """
        self.draining = True
        for connection in list(self._connections):
            connection.close_if_idle()
        try:
            async with asyncio.timeout(deadline_s):
                await self._idle.wait()
        except TimeoutError:
            pass
        cut = self.in_flight
        await self.close()
        return cut

    async def close(self) -> None:
        """Stop now: no listener, no connection, no handler is left."""
        self.draining = True
        self.close_listener()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in list(self._connections):
            connection.shut()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # The connections' side.

    def now(self) -> float:
        return self._loop.time()

    def admits(self, connection: ServerConnection) -> bool:
        """Count the connection in; False beyond the limit."""
        self._connections.add(connection)
        return len(self._connections) <= self.limits.connections

    def forget(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)

    def handle(self, exchange: Exchange) -> None:
        self.in_flight += 1
        self._idle.clear()
        try:
            coroutine = self._handler(exchange)
        except Exception as error:
            answer_handler_error(exchange, self, error)
            self._handler_over(exchange)
            return
        if coroutine is None:
            self._handler_over(exchange)
            return
        task = self._loop.create_task(self._run(exchange, coroutine))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def exchange_over(self) -> None:
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()

    async def _run(self, exchange: Exchange, coroutine: Coroutine[Any, Any, None]) -> None:
        error: BaseException | None = None
        try:
            await coroutine
        except (Exception, asyncio.CancelledError) as raised:
            error = raised
        finally:
            answer_handler_error(exchange, self, error)
            self._handler_over(exchange)
        if isinstance(error, asyncio.CancelledError):
            raise error

    def _handler_over(self, exchange: Exchange) -> None:
        exchange.handler_over = True
        if exchange.finished:
            self.exchange_over()

    def _connect(self) -> ServerConnection:
        return ServerConnection(self)

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in list(self._connections):
            connection.check_deadline(now)
        self._sweeper = self._loop.call_later(self._sweep_s, self._sweep)
