"""``headrace serve``: a server on this machine, in the foreground, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
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
from headrace.fleet.listener import StartError, listen, lock
from headrace.fleet.supervisor import Service, Supervisor, SupervisorConfig
from headrace.gateway.config import GatewayConfig
from headrace.paths import DataDir
from headrace.wire.tls import TlsError, readable_by_all, server_context

GATEWAY_GRACE_S = 5.0
"""Beyond the time that the gateway has to drain; then it is killed."""
CONTROLLER_GRACE_S = 10.0
FIRST_SNAPSHOT_S = 5.0
"""A gateway that starts while the controller runs has its first snapshot long before."""


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
    measure: Annotated[
        bool | None,
        typer.Option(
            "--measure/--no-measure",
            help="Measure the first endpoint's model, which takes the machine for a minute or more. Default: yes.",
        ),
    ] = None,
    on_journal_failure: Annotated[
        str | None,
        typer.Option(
            metavar="refuse|serve",
            help="While usage cannot be recorded, as on a full disk: refuse requests or serve them unmetered.",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Serve https: the certificate and its chain, PEM.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate's key, PEM.")] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Pages of this origin may call the data plane from a browser, such as https://app.example.com; * for "
            "any. May be given again.",
        ),
    ] = None,
    sse_comments: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Streams that say nothing for so long get an SSE comment, for proxies that close what is silent. "
            "Commits status 200: what fails after it is told in the stream. Off by default.",
        ),
    ] = None,
    record_decisions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Append every scaling decision with its inputs, for `headrace decisions replay`. 256 MiB at most.",
        ),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR. Default INFO.")] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Start nothing: only say whether it could, with these settings on this port."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a server on this machine until Ctrl-C or SIGTERM."""
    flags = {
        "port": port,
        "host": host,
        "data_dir": None if data_dir is None else str(data_dir),
        "first_endpoint": None if first_endpoint is None else _first(first_endpoint),
        "measure_at_start": measure,
        "on_journal_failure": on_journal_failure,
        "tls_cert": None if tls_cert is None else str(tls_cert),
        "tls_key": None if tls_key is None else str(tls_key),
        "cors_origins": cors_origin or None,
        "sse_comment_s": sse_comments,
        "record_decisions": None if record_decisions is None else str(record_decisions),
        "log_level": log_level,
    }
    settings = load(flags, file=config)
    if check:
        _check(settings, as_json)
    else:
        _run(settings, as_json)


def _first(text: str) -> dict[str, str]:
    name, separator, model = text.partition("=")
    if not (name and separator and model):
        raise UsageError(f"--first-endpoint is {text!r}; expected NAME=MODEL, such as smollm2=smollm2-135m-instruct")
    return {"name": name, "model": model}


def _check(settings: ServerConfig, as_json: bool) -> None:
    """Raises CommandError where a server could not start."""
    data = DataDir(Path(settings.data_dir).absolute())
    _certificate(settings)
    _create(data)
    _decision_log(settings)
    try:
        held = lock(data.lock)
        try:
            listen(settings.host, settings.port).close()
        finally:
            os.close(held)
    except StartError as error:
        raise CommandError(str(error)) from None
    if as_json:
        print(msgspec.json.encode({"can_start": True, "host": settings.host, "port": settings.port}).decode())
    else:
        print(f"A server can start on {settings.host} port {settings.port}")


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

    cert = _certificate(settings)
    python = sys.executable
    services = (
        Service(
            kind="gateway",
            argv=(python, "-m", "headrace.gateway.main"),
            stdin=lambda token, fd: _gateway_config(settings, data, token, fd),
            listens=True,
            grace_s=settings.drain_s + GATEWAY_GRACE_S,
            successor=lambda token, fd: _gateway_config(settings, data, token, fd, takes_over=True),
            hand_over_s=settings.limits.total_timeout_s + GATEWAY_GRACE_S,
        ),
        Service(
            kind="controller",
            argv=(python, "-m", "headrace.controller.main"),
            stdin=lambda token, fd: _controller_config(settings, data, decisions),
            grace_s=CONTROLLER_GRACE_S,
        ),
    )
    _create(data)
    decisions = _decision_log(settings)
    logs.setup("supervisor", settings.log_level, data.logs / "supervisor.log")
    try:
        Supervisor(
            SupervisorConfig(
                data=data,
                host=settings.host,
                port=settings.port,
                services=services,
                tls_cert=cert,
                listening=listening,
            )
        ).run()
    except StartError as error:
        raise CommandError(str(error)) from None
    say("Stopped; nothing is left running")


def _create(data: DataDir) -> None:
    """Raises CommandError."""
    try:
        data.create()
    except OSError as error:
        raise CommandError(f"cannot use the data directory {data.root}: {error.strerror}") from None


def _certificate(settings: ServerConfig) -> Path | None:
    """The certificate to serve with, tried before anything is started. Raises CommandError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    cert, key = Path(settings.tls_cert).absolute(), Path(settings.tls_key).absolute()
    try:
        server_context(cert, key)
    except TlsError as error:
        raise CommandError(str(error)) from None
    if readable_by_all(key):
        print(f"Warning: every user of this machine can read {key}; chmod 600 '{key}'", file=sys.stderr)
    return cert


def _decision_log(settings: ServerConfig) -> str | None:
    """Where decisions are recorded, tried before anything is started. Raises CommandError."""
    if settings.record_decisions is None:
        return None
    path = Path(settings.record_decisions).absolute()
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError as error:
        raise CommandError(f"cannot record decisions in {path}: {error.strerror}") from None
    return str(path)


def _gateway_config(settings: ServerConfig, data: DataDir, token: str, fd: int, *, takes_over: bool = False) -> str:
    return _json(
        GatewayConfig(
            gateway_id=token,
            controller_socket=str(data.socket("controller")),
            link_socket=str(data.socket("link")),
            journal_dir=str(data.journal),
            listen_fd=fd,
            tls_cert=_absolute(settings.tls_cert),
            tls_key=_absolute(settings.tls_key),
            cors_origins=settings.cors_origins,
            limits=settings.limits,
            first_snapshot_s=FIRST_SNAPSHOT_S,
            takes_over=takes_over,
            drain_s=settings.drain_s,
            sse_comment_s=settings.sse_comment_s,
            serve_unmetered=settings.on_journal_failure == "serve",
            log_level=settings.log_level,
        )
    )


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _controller_config(settings: ServerConfig, data: DataDir, decisions: str | None) -> str:
    return _json(
        ControllerConfig(
            data_dir=str(data.root),
            price_micro=settings.price_micro,
            currency=settings.currency,
            database_url=settings.database_url,
            first_endpoint=settings.first_endpoint,
            measure_at_start=settings.measure_at_start,
            scaling=settings.scaling,
            record_decisions=decisions,
            log_level=settings.log_level,
        )
    )


def _json(document: msgspec.Struct) -> str:
    return msgspec.json.encode(document).decode()
