"""Accepts connections that are to speak TLS.

The loop's own server would hide them until their handshake is over, so that a client that connects and says nothing
would be counted nowhere.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)

_AT_ONCE = 64
"""Accepted in one turn of the loop, so that a crowd at the door keeps nobody inside waiting."""
_PAUSE_S = 1.0
"""After an error of accept(), such as too many open files."""


class TlsListener:
    """Hands each connection to ``accepted``, until ``close``."""

    def __init__(self, sock: socket.socket, accepted: Callable[[socket.socket], None]) -> None:
        self._sock = sock
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        self._resume()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        return (self._sock,)

    def close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _resume(self) -> None:
        self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("cannot accept a connection", extra={"fields": {"reason": str(error)}})
                self._loop.remove_reader(self._sock)
                self._pause = self._loop.call_later(_PAUSE_S, self._resume)
                return
            sock.setblocking(False)
            self._accepted(sock)
