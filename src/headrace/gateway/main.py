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
from headrace.gateway.app import App
from headrace.gateway.config import GatewayConfig
from headrace.gateway.flight import TimeLimits
from headrace.gateway.link import Link
from headrace.gateway.live import Live
from headrace.gateway.outbox import Outbox
from headrace.gateway.proxy import Proxy
from headrace.journal.writer import JournalError, Writer
from headrace.wire.server import Limits, Server

CUT_S = 1.0
"""For the last words to clients whose answers are cut at the end of the drain."""

log = logging.getLogger(__name__)


async def serve(config: GatewayConfig) -> None:
    """Until SIGTERM, and then until what is in flight has ended. Raises OSError and JournalError at the start."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)
    outbox = Outbox(Writer(Path(config.journal_dir), config.gateway_id))
    link = Link(config.link_socket, config.gateway_id)
    live = Live(link.nudge)
    proxy = Proxy(config.controller_socket)
    app = App(live, outbox, proxy, TimeLimits(config.total_s, config.first_byte_floor_s))
    server = Server(app.handle, limits=Limits(body_bytes=config.max_body_bytes), on_error=app.refusal)
    if config.listen_fd is not None:
        await server.listen(sock=socket.socket(fileno=config.listen_fd))
    else:
        await server.listen(host=config.host, port=config.port)
    linked = asyncio.create_task(link.run(live))
    sys.stdout.write('{"state":"ready","port":%d}\n' % server.port)
    sys.stdout.flush()
    log.info("serving", extra={"fields": {"port": server.port}})

    await stopping.wait()
    log.info("draining", extra={"fields": {"in_flight": server.in_flight}})
    app.draining = True
    server.close_listener()
    loop.call_later(config.drain_s, app.cut)
    cut = await server.drain(config.drain_s + CUT_S)
    linked.cancel()
    await proxy.close()
    outbox.close()
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
