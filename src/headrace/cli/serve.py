"""``headrace serve``: a server on this machine, in the foreground, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from headrace import logs
from headrace.cli.errors import CommandError, UsageError
from headrace.cli.options import JsonOption
from headrace.cli.serve_view import Announcer
from headrace.config import ServerConfig, load
from headrace.controller.config import ControllerConfig
from headrace.fleet.listener import StartError
from headrace.fleet.supervisor import Service, Supervisor, SupervisorConfig
from headrace.gateway.config import GatewayConfig
from headrace.paths import DataDir

GATEWAY_GRACE_S = 25.0
"""The gateway drains for up to 20 s; a little more, and it is killed."""
CONTROLLER_GRACE_S = 10.0


def serve(
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 for any free one. Default 8080.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default 127.0.0.1.")] = None,
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Default ./headrace-data.")] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings in TOML. Default: headrace.toml here, if any.")
    ] = None,
    first_endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=MODEL",
            help="A server that never had an endpoint makes this one, of one to two chunks, and measures its model.",
        ),
    ] = None,
    on_journal_failure: Annotated[
        str | None,
        typer.Option(
            metavar="refuse|serve",
            help="While usage cannot be recorded, as on a full disk: refuse requests or serve them unmetered.",
        ),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR. Default INFO.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a server on this machine until Ctrl-C or SIGTERM."""
    flags = {
        "port": port,
        "host": host,
        "data_dir": None if data_dir is None else str(data_dir),
        "first_endpoint": None if first_endpoint is None else _first(first_endpoint),
        "on_journal_failure": on_journal_failure,
        "log_level": log_level,
    }
    _run(load(flags, file=config), as_json)


def _first(text: str) -> dict[str, str]:
    name, separator, model = text.partition("=")
    if not (name and separator and model):
        raise UsageError(f"--first-endpoint is {text!r}; expected NAME=MODEL, such as smollm2=smollm2-135m-instruct")
    return {"name": name, "model": model}


def _run(settings: ServerConfig, as_json: bool) -> None:
    data = DataDir(Path(settings.data_dir).absolute())

    def say(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    def tell(document: dict[str, Any]) -> None:
        if as_json:
            print(msgspec.json.encode(document).decode(), flush=True)

    def listening(url: str) -> None:
        announcer = Announcer(data, say, tell)
        threading.Thread(target=announcer.run, args=(url,), name="announcer", daemon=True).start()

    python = sys.executable
    services = (
        Service(
            kind="gateway",
            argv=(python, "-m", "headrace.gateway.main"),
            stdin=lambda token, fd: _gateway_config(settings, data, token, fd),
            listens=True,
            grace_s=GATEWAY_GRACE_S,
        ),
        Service(
            kind="controller",
            argv=(python, "-m", "headrace.controller.main"),
            stdin=lambda token, fd: _controller_config(settings, data),
            grace_s=CONTROLLER_GRACE_S,
        ),
    )
    try:
        data.create()
    except OSError as error:
        raise CommandError(f"cannot use the data directory {data.root}: {error.strerror}") from None
    logs.setup("supervisor", settings.log_level, data.logs / "supervisor.log")
    try:
        Supervisor(
            SupervisorConfig(data=data, host=settings.host, port=settings.port, services=services, listening=listening)
        ).run()
    except StartError as error:
        raise CommandError(str(error)) from None
    say("Stopped; nothing is left running")


def _gateway_config(settings: ServerConfig, data: DataDir, token: str, fd: int) -> str:
    return _json(
        GatewayConfig(
            gateway_id=token,
            controller_socket=str(data.socket("controller")),
            link_socket=str(data.socket("link")),
            journal_dir=str(data.journal),
            listen_fd=fd,
            serve_unmetered=settings.on_journal_failure == "serve",
            log_level=settings.log_level,
        )
    )


def _controller_config(settings: ServerConfig, data: DataDir) -> str:
    return _json(
        ControllerConfig(
            data_dir=str(data.root),
            price_micro=settings.price_micro,
            currency=settings.currency,
            database_url=settings.database_url,
            first_endpoint=settings.first_endpoint,
            scaling=settings.scaling,
            log_level=settings.log_level,
        )
    )


def _json(document: msgspec.Struct) -> str:
    return msgspec.json.encode(document).decode()
