"""An HTTP/1.1 server: listening, limits, draining. What it serves is the handler's business."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from headrace.wire.exchange import ClientGone, Exchange
from headrace.wire.limits import Limits
from headrace.wire.message import Header
from headrace.wire.server_connection import ServerConnection, answer_handler_error
from headrace.wire.tls_listener import TlsListener

__all__ = ["ClientGone", "Exchange", "Handler", "Limits", "OnError", "Server"]

Handler = Callable[[Exchange], Coroutine[Any, Any, None] | None]
"""An ``async def``, or a plain function that has answered, or will answer by callbacks, when it returns None."""

OnError = Callable[[Exchange | None, int, str], tuple[list[Header], bytes]]
"""Headers and body of an answer that the server itself must give: (exchange or None, status, reason)."""

BACKLOG = 2048
"""Connections that wait to be accepted."""
TOLD_AT_ONCE = 256
"""Connections beyond the limit that are being told that they are."""
TLS_END_S = 5.0
"""For a client's part in the end of TLS."""

log = logging.getLogger(__name__)


def plain_error(exchange: Exchange | None, status: int, reason: str) -> tuple[list[Header], bytes]:
    return [(b"content-type", b"text/plain; charset=utf-8")], f"{reason}\n".encode()


class Listener(Protocol):
    """A server of the loop's, or one of ours."""

    @property
    def sockets(self) -> Sequence[socket.socket]: ...

    def close(self) -> None: ...


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
        self._listeners: list[Listener] = []
        self._connections: set[ServerConnection] = set()
        self._turned_away: set[ServerConnection] = set()
        self._handshakes: dict[ServerConnection, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._drained = asyncio.Event()
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
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Serve on exactly one of a TCP port (0: any free one), an inherited listening socket, or a Unix socket path.

        ``tls``: of a TCP socket. Raises OSError where the address is taken.
        """
        if sum(way is not None for way in (port, sock, path)) != 1:
            raise ValueError("listen on exactly one of port, sock and path")
        listener: Listener
        if path is not None:
            listener = await self._loop.create_unix_server(self._connect, path, backlog=BACKLOG)
        elif sock is not None and sock.family == socket.AF_UNIX:
            listener = await self._loop.create_unix_server(self._connect, sock=sock, backlog=BACKLOG)
        elif tls is not None:
            bound = sock if sock is not None else socket.create_server((host, port or 0), backlog=BACKLOG)
            listener = TlsListener(bound, lambda accepted: self._secure(accepted, tls))
        elif sock is not None:
            listener = await self._loop.create_server(self._connect, sock=sock, backlog=BACKLOG)
        else:
            listener = await self._loop.create_server(self._connect, host, port, backlog=BACKLOG)
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
        """Open, those in their TLS handshake included."""
        return len(self._connections) + len(self._handshakes)

    def close_listener(self) -> None:
        """Take no new connection; those open go on."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def drain(self, deadline_s: float, *, last_request_s: float = 0.0) -> int:
        """Finish what is being received or answered, each answer with ``Connection: close``, and close the rest.

        ``last_request_s``: how long an idle connection stays open for a request that may be on its way. A client whose
        connection closes just as it sends cannot know whether it was heard.

        Cancelled, it stops to wait, and leaves what is in progress as it is; it may be called again.
        After ``deadline_s`` the rest is cut: connections aborted, handlers cancelled. Returns how many exchanges were.
        """
        self.draining = True
        if last_request_s:
            closing = self._loop.call_later(last_request_s, self._close_idle)
        else:
            closing = None
            self._close_idle()
        self._note_drained()
        try:
            async with asyncio.timeout(deadline_s):
                await self._drained.wait()
        except TimeoutError:
            pass
        finally:
            if closing is not None:
                closing.cancel()
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
        for connection in (*self._connections, *self._turned_away):
            connection.shut()
        tasks = (*self._tasks, *self._handshakes.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # The connections' side.

    def now(self) -> float:
        return self._loop.time()

    def admits(self, connection: ServerConnection) -> bool:
        """Count the connection in; False beyond the limit: it holds no place, and may be told so while it lasts."""
        self._handshakes.pop(connection, None)
        room = self.connections < self.limits.connections
        (self._connections if room else self._turned_away).add(connection)
        return room

    @property
    def turns_away_in_silence(self) -> bool:
        """So many that hold no place are being told so that more would be a load themselves."""
        return len(self._turned_away) > TOLD_AT_ONCE

    def forget(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)
        self._turned_away.discard(connection)
        if self.draining:
            self._note_drained()

    def handle(self, exchange: Exchange) -> None:
        self.in_flight += 1
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
        if self.draining:
            self._note_drained()

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

    def _secure(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        """Bring up TLS on a connection, counted from now on."""
        if self.connections >= self.limits.connections:
            sock.close()  # to be told 503 it would have to shake hands first
            return
        connection = ServerConnection(self)
        self._handshakes[connection] = self._loop.create_task(self._shake_hands(connection, sock, context))

    async def _shake_hands(self, connection: ServerConnection, sock: socket.socket, context: ssl.SSLContext) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=context,
                ssl_handshake_timeout=self.limits.handshake_timeout_s,
                ssl_shutdown_timeout=TLS_END_S,
            )
        except OSError as error:  # ssl.SSLError is one too: no TLS, none that both speak, or not in time
            log.debug("no TLS handshake", extra={"fields": {"reason": str(error)}})
        finally:
            self._handshakes.pop(connection, None)
            if self.draining:
                self._note_drained()

    def _close_idle(self) -> None:
        for handshake in list(self._handshakes.values()):
            handshake.cancel()
        for connection in list(self._connections):
            connection.close_if_idle()

    def _note_drained(self) -> None:
        if not (self.in_flight or self._connections or self._handshakes):
            self._drained.set()

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in (*self._connections, *self._turned_away):
            connection.check_deadline(now)
        self._sweeper = self._loop.call_later(self._sweep_s, self._sweep)
