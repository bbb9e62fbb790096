"""The gateway's process: ``python -m headrace.gateway.main`` with a ``GatewayConfig`` on standard input."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import signal
import socket
import sys
from pathlib import Path

import msgspec
import uvloop

from headrace import logs
from headrace.gateway import flight
from headrace.gateway.access import NO_LOG, AccessLog
from headrace.gateway.app import App
from headrace.gateway.config import GatewayConfig
from headrace.gateway.cors import Cors
from headrace.gateway.link import Link
from headrace.gateway.live import Live
from headrace.gateway.open_files import room_for
from headrace.gateway.outbox import Outbox
from headrace.gateway.proxy import Proxy
from headrace.gateway.time_limits import TimeLimits
from headrace.journal.writer import JournalError, Writer
from headrace.wire.server import Server
from headrace.wire.tls import TlsError, server_context

LAST_WORDS_S = 1.0
"""For clients whose answers are cut at the end of the drain to hear of it."""
LAST_REQUEST_S = 5.0
"""For a request that is on its way on an idle connection when another gateway takes over."""

log = logging.getLogger(__name__)


class NothingToServe(Exception):
    """This gateway was to take over from another one, and knows less than that."""


class Gateway:
    """All of one gateway in the running event loop."""

    def __init__(self, config: GatewayConfig) -> None:
        """Raises JournalError and TlsError."""
        self._config = config
        self._tls = None
        if config.tls_cert is not None and config.tls_key is not None:
            self._tls = server_context(Path(config.tls_cert), Path(config.tls_key))
        writer = Writer(Path(config.journal_dir), config.gateway_id)
        self._outbox = Outbox(writer, serve_unmetered=config.serve_unmetered)
        self._link = Link(config.link_socket, config.gateway_id, self._outbox)
        self._live = Live(self._link.nudge)
        self._proxy = Proxy(config.controller_socket, tls=self._tls is not None)
        limits = TimeLimits(
            total_s=config.limits.total_timeout_s,
            first_byte_floor_s=config.first_byte_floor_s,
            comment_s=config.sse_comment_s,
        )
        access = AccessLog(sys.stderr.fileno() if log.isEnabledFor(logging.INFO) else NO_LOG)
        cors = Cors(config.cors_origins)
        self._app = App(self._live, self._outbox, self._proxy, limits, access, cors)
        held = dataclasses.replace(config.limits.wire, connections=room_for(config.limits.connections))
        self._server = Server(self._app.handle, limits=held, on_error=self._app.refusal)
        self._linked: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Connect to the controller and listen; returns the port. Raises OSError and NothingToServe."""
        config = self._config
        self._linked = asyncio.create_task(self._link.run(self._live))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(config.first_snapshot_s):
                await self._link.informed.wait()
        if config.takes_over and not self._link.informed.is_set():
            raise NothingToServe(
                f"no snapshot came from the controller within {config.first_snapshot_s:g} s; `headrace status` tells "
                "what is wrong with it"
            )
        if config.listen_fd is not None:
            await self._server.listen(sock=socket.socket(fileno=config.listen_fd), tls=self._tls)
        else:
            await self._server.listen(host=config.host, port=config.port, tls=self._tls)
        return self._server.port

    async def hand_over(self) -> None:
        """Another gateway serves: take nothing new and finish all that was begun, for as long as a request may take.

        ``drain`` comes after it, or after its cancellation.
        """
        self._server.close_listener()
        await self._server.drain(self._config.limits.total_timeout_s + LAST_WORDS_S, last_request_s=LAST_REQUEST_S)

    async def drain(self) -> int:
        """Take nothing new, let what is in flight end, cut the rest; returns how many requests were cut."""
        self._server.close_listener()
        cut: list[int] = []
        timer = asyncio.get_running_loop().call_later(self._config.drain_s, lambda: cut.append(self._app.cut()))
        await self._server.drain(self._config.drain_s + LAST_WORDS_S)
        timer.cancel()
        if self._linked is not None:
            self._linked.cancel()
        await self._proxy.close()
        self._app.close()
        self._outbox.close()
        return sum(cut)


async def serve(config: GatewayConfig) -> None:
    """Until SIGTERM, or SIGUSR1 where another gateway has taken over, and then until what is in flight has ended.

    Raises OSError, JournalError, TlsError and NothingToServe at the start.
    """
    loop = asyncio.get_running_loop()
    stopping, replaced = asyncio.Event(), asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)
    loop.add_signal_handler(signal.SIGUSR1, replaced.set)
    gateway = Gateway(config)
    port = await gateway.start()
    sys.stdout.buffer.write(msgspec.json.encode({"state": "ready", "port": port}) + b"\n")
    sys.stdout.flush()
    log.info("serving", extra={"fields": {"port": port, "compiled": not str(flight.__file__).endswith(".py")}})
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait((stop, asyncio.create_task(replaced.wait())), return_when=asyncio.FIRST_COMPLETED)
    if not stopping.is_set():
        log.info("handing over")
        handing_over = asyncio.create_task(gateway.hand_over())
        await asyncio.wait((stop, handing_over), return_when=asyncio.FIRST_COMPLETED)
        handing_over.cancel()
    log.info("draining")
    cut = await gateway.drain()
    log.info("stopped", extra={"fields": {"cut": cut}})


def main() -> int:
    try:
        config = msgspec.json.decode(sys.stdin.buffer.read(), type=GatewayConfig)
    except msgspec.DecodeError as error:
        sys.stderr.write(f"gateway: the configuration on standard input is not usable: {error}\n")
        return 2
    logs.setup("gateway", config.log_level)
    try:
        uvloop.run(serve(config))
    except (OSError, JournalError, TlsError, NothingToServe) as error:
        log.error("cannot start", extra={"fields": {"reason": str(error)}})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
