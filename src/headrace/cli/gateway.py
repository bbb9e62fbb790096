"""``headrace gateway``: the process that serves requests, replaced while it serves."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from pathlib import Path

import typer

from headrace.cli import connection
from headrace.cli.errors import CommandError
from headrace.cli.options import DataDirOption, JsonOption
from headrace.cli.output import console, print_json
from headrace.fleet.base import FleetError
from headrace.fleet.client import SupervisorClient
from headrace.fleet.keeper import READY_S
from headrace.fleet.protocol import Child
from headrace.fleet.supervisor import REPLACE

CONNECT_S = 2.0
PATIENCE_S = READY_S + 10.0

app = typer.Typer(help="The process that serves requests.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def restart(*, data_dir: DataDirOption = None, json_output: JsonOption = False) -> None:
    """Replace the gateway of the local server without a refused or lost request.

    A new process takes over the socket, with the certificate as the files have it now; the one before finishes what it
    has begun.
    """
    try:
        child = asyncio.run(_restart(connection.data_dir(data_dir).socket("supervisor")))
    except FleetError as error:
        raise CommandError(str(error)) from None
    if json_output:
        print_json({"gateway": child.token, "pid": child.pid})
    else:
        console().print(f"Process {child.pid} serves; the one before finishes what it has begun", markup=False)


async def _restart(path: Path) -> Child:
    """The gateway that serves now. Raises CommandError and FleetError."""
    gateways: dict[str, Child] = {}
    news = asyncio.Event()

    def changed(child: Child) -> None:
        if child.kind == "gateway":
            gateways[child.token] = child
            news.set()

    def listed(children: tuple[Child, ...]) -> None:
        for child in children:
            changed(child)

    supervisor = SupervisorClient(path, changed, listed)
    await supervisor.open(CONNECT_S)
    try:
        before = set(gateways)
        _ask(path)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for child in (gateways[token] for token in gateways.keys() - before):
                    if child.exited_ms is not None:
                        why = child.tail.strip() or f"exit code {child.exit_code}"
                        raise CommandError(f"the new gateway did not start, so the one before serves on: {why}")
                    if child.report is not None and child.report.get("state") == "ready":
                        return child
                news.clear()
                await news.wait()
    except TimeoutError:
        raise CommandError(
            f"no new gateway serves after {PATIENCE_S:.0f} s; the server's logs/supervisor.log says why"
        ) from None
    finally:
        await supervisor.close()


def _ask(path: Path) -> None:
    """Signal the process at the other end of the socket: whoever it is, it is the supervisor (SO_PEERCRED)."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(path))
        credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid = struct.unpack("3i", credentials)[0]
        os.kill(pid, REPLACE)  # the connection is open, so the process lives and the number is its own
