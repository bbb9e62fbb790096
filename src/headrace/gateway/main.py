"""The gateway's process: ``python -m headrace.gateway.main`` with a ``GatewayConfig`` on standard input."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from pathlib import Path

import msgspec
import uvloop

from headrace import logs
from headrace.gateway.access import NO_LOG, AccessLog
from headrace.gateway.app import App
from headrace.gateway.config import GatewayConfig
from headrace.gateway.flight import TimeLimits
from headrace.gateway.link import Link
from headrace.gateway.live import Live
from headrace.gateway.outbox import Outbox
from headrace.gateway.proxy import Proxy
from headrace.journal.writer import JournalError, Writer
from headrace.wire.server import Limits, Server

LAST_WORDS_S = 1.0
"""For clients whose answers are cut at the end of the drain to hear of it."""

log = logging.getLogger(__name__)


class Gateway:
    """All of one gateway in the running event loop."""

    def __init__(self, config: GatewayConfig) -> None:
        """Raises JournalError."""
        self._config = config
        writer = Writer(Path(config.journal_dir), config.gateway_id)
        self._outbox = Outbox(writer, serve_unmetered=config.serve_unmetered)
        self._link = Link(config.link_socket, config.gateway_id, self._outbox)
        self._live = Live(self._link.nudge)
        self._proxy = Proxy(config.controller_socket)
        limits = TimeLimits(total_s=config.total_s, first_byte_floor_s=config.first_byte_floor_s)
        access = AccessLog(sys.stderr.fileno() if log.isEnabledFor(logging.INFO) else NO_LOG)
        self._app = App(self._live, self._outbox, self._proxy, limits, access)
        self._server = Server(
            self._app.handle, limits=Limits(body_bytes=config.max_body_bytes), on_error=self._app.refusal
        )
        self._linked: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen and connect to the controller; returns the port. Raises OSError."""
        config = self._config
        if config.listen_fd is not None:
            await self._server.listen(sock=socket.socket(fileno=config.listen_fd))
        else:
            await self._server.listen(host=config.host, port=config.port)
        self._linked = asyncio.create_task(self._link.run(self._live))
        return self._server.port

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
    """Until SIGTERM, and then until what is in flight has ended. Raises OSError and JournalError at the start."""
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    gateway = Gateway(config)
    port = await gateway.start()
    sys.stdout.buffer.write(msgspec.json.encode({"state": "ready", "port": port}) + b"\n")
    sys.stdout.flush()
    log.info("serving", extra={"fields": {"port": port}})
    await stopping.wait()
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
    except (OSError, JournalError) as error:
        log.error("cannot start", extra={"fields": {"reason": str(error)}})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
