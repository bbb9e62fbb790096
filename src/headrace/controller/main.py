"""The controller process: ``python -m headrace.controller.main``, its ControllerConfig as JSON on standard input."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import uvicorn

from headrace import logs
from headrace.controller.api.app import create_app
from headrace.controller.bootstrap import first_endpoint, measure_first, quick_profile, to_measure
from headrace.controller.config import ControllerConfig
from headrace.controller.controller import Controller
from headrace.controller.fleets import Fleets
from headrace.fleet.base import FleetError, FleetReplica
from headrace.fleet.local import LocalFleet, fleet_key
from headrace.fleet.static import StaticFleet
from headrace.ledger.database import DatabaseError
from headrace.paths import DataDir

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Says when it serves, and ends by returning."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn's own raises the signal again once it has ended, and the process would die before it tidied up."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self.handle_exit, signum, None)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print('{"state":"ready"}', flush=True)


async def serve(config: ControllerConfig) -> None:
    """Until SIGTERM or SIGINT. Raises DatabaseError and FleetError before anything was started."""
    wake: list[asyncio.Event] = []

    def changed(_: FleetReplica) -> None:
        for event in wake:
            event.set()

    # The umask holds for every socket and file that is made from here on.
    os.umask(0o077)
    data = DataDir(Path(config.data_dir))
    local = LocalFleet(data.socket("supervisor"), fleet_key(data.run / "fleet.key"), changed=changed)
    fleets = Fleets(local, StaticFleet(changed=changed))
    await fleets.open()
    controller = Controller(config, fleets, processes=local.processes)
    wake.append(controller.wake)
    if config.first_endpoint is not None:
        await first_endpoint(controller, config.first_endpoint)
    await controller.start()
    # What is there now stays: looking through all of it for garbage would stop a look of the loop for 60 ms and more.
    gc.collect()
    gc.freeze()
    measuring = None
    first = config.first_endpoint
    if first is not None and config.measure_at_start and (endpoint := to_measure(controller, first)) is not None:
        measuring = asyncio.create_task(measure_first(controller, endpoint, first.model, quick_profile))
    path = data.socket("controller")
    path.unlink(missing_ok=True)
    # Bound here, as uvicorn would open it to everybody.
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    server = _Server(
        uvicorn.Config(
            create_app(controller), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=3
        )
    )
    try:
        await server.serve([listening])
    finally:
        if measuring is not None:
            measuring.cancel()
            await asyncio.gather(measuring, return_exceptions=True)
        await controller.close()
        await fleets.close()
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def main() -> None:
    config = msgspec.json.decode(sys.stdin.buffer.read(), type=ControllerConfig)
    logs.setup("controller", config.log_level)
    try:
        asyncio.run(serve(config))
    except (DatabaseError, FleetError) as error:
        log.critical(str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
