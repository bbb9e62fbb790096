"""The parent of every process of a server on one machine. It owns the listening socket, keeps gateway and controller
running, starts and stops replicas for whoever asks over its Unix socket, and tells what became of each. It decides
nothing: how many replicas there should be is the controller's to know.

Children die with it, however it ends; they do not die with the controller.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headrace.fleet.ask_server import AskServer
from headrace.fleet.child import RunningChild, now_ms
from headrace.fleet.keeper import Keeper, Service
from headrace.fleet.listener import StartError, listen, lock, url_of
from headrace.fleet.log_file import LogFile
from headrace.fleet.protocol import Child, ChildSpec
from headrace.paths import DataDir

KEEP_EXITED_MS = 600_000
"""Exited children stay listed this long."""
REPLICA_GRACE_S = 5.0
CHILD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
REPLACE = signal.SIGUSR2
"""Asks for new processes of the services that can be replaced while they run. Not SIGHUP: a server in the foreground
ends with its terminal, as everybody expects."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SupervisorConfig:
    """One server. Services start in this order and are stopped in this order, before all replicas."""

    data: DataDir
    host: str
    port: int
    services: tuple[Service, ...]
    tls_cert: Path | None = None
    """Where the gateway speaks TLS: its certificate, for clients on this machine to know it by."""
    listening: Callable[[str], None] = lambda url: None
    """Told the base URL once the socket is bound."""
    changed: Callable[[Child], None] = lambda child: None
    """Told of every change of every child."""


class Supervisor:
    """``run`` returns when a signal has ended everything."""

    def __init__(self, config: SupervisorConfig) -> None:
        self.config = config
        self._children: dict[str, RunningChild] = {}
        self._logs: dict[str, LogFile] = {}
        self._stopping = asyncio.Event()
        self._keepers: list[Keeper] = []
        self._asks = AskServer(self)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises StartError before anything was started."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("the supervisor must run in the main thread: its children die with the thread")
        data = self.config.data
        data.create()
        held = lock(data.lock)
        try:
            with listen(self.config.host, self.config.port) as listening:
                asyncio.run(self._serve(listening))
        finally:
            data.server_note.unlink(missing_ok=True)
            os.close(held)

    async def _serve(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._on_signal, signum)
        loop.add_signal_handler(REPLACE, self._on_replace)
        path = self.config.data.socket("supervisor")
        await self._asks.open(path)
        url = url_of(listening, self.config.host, "http" if self.config.tls_cert is None else "https")
        self._write_note(url)
        self.config.listening(url)
        for service in self.config.services:
            passed = (listening.fileno(),) if service.listens else ()
            start = functools.partial(self.start, pass_fds=passed)
            self._keepers.append(Keeper(service, start, listening.fileno(), self._stopping))
        keepers = [asyncio.create_task(keeper.run()) for keeper in self._keepers]
        try:
            stopping = asyncio.create_task(self._stopping.wait())
            # A keeper ends before that only by an error of ours; then nothing may look as if it still ran.
            await asyncio.wait((stopping, *keepers), return_when=asyncio.FIRST_COMPLETED)
            self._stopping.set()
            listening.close()  # the gateway's copy is the last one: when it stops accepting, clients are refused
            for keeper in keepers:
                await keeper
            # The gateway first, so that it finishes its requests while controller and replicas still run.
            for service in self.config.services:
                await self._stop(service.kind, service.grace_s)
            await self._stop(None, REPLICA_GRACE_S)
        finally:
            for keeper in keepers:
                keeper.cancel()
            for child in self._living():
                child.send(signal.SIGKILL)
            await asyncio.gather(*(child.exited.wait() for child in self._living()))
            await self._asks.close()
            path.unlink(missing_ok=True)
            for file in self._logs.values():
                file.close()

    def _on_signal(self, signum: int) -> None:
        if self._stopping.is_set():  # asked twice: no more grace
            for child in self._living():
                child.send(signal.SIGKILL)
        log.info("stopping", extra={"fields": {"signal": signal.Signals(signum).name}})
        self._stopping.set()

    def _on_replace(self) -> None:
        for keeper in self._keepers:
            if keeper.service.successor is not None:
                keeper.replace()

    async def _stop(self, kind: str | None, grace_s: float) -> None:
        """All children of this kind, or all that are left."""
        await asyncio.gather(
            *(child.stop(grace_s) for child in self._living() if kind is None or child.state.kind == kind)
        )

    def start(self, spec: ChildSpec, pass_fds: tuple[int, ...] = ()) -> RunningChild:
        """Start a child; with a token that is known already, return that child. Raises OSError and ValueError."""
        self._forget_old()
        known = self._children.get(spec.token)
        if known is not None:
            return known
        if self._stopping.is_set():
            raise ValueError("the server is stopping")
        if not CHILD_NAME.fullmatch(spec.name):
            raise ValueError(f"{spec.name!r} is not a name for a child and its log; expected letters, digits, - _ or .")
        if spec.name not in self._logs:
            self._logs[spec.name] = LogFile(self.config.data.logs / f"{spec.name}.log")
        child = RunningChild(spec, self._logs[spec.name], self._announce, pass_fds)
        self._children[spec.token] = child
        return child

    def child(self, token: str) -> RunningChild | None:
        return self._children.get(token)

    def children(self) -> tuple[Child, ...]:
        """All that run, and those that exited not long ago."""
        self._forget_old()
        return tuple(child.state for child in self._children.values())

    def reserved(self, kind: str) -> bool:
        """Whether children of this kind are the supervisor's own, and nobody else's to start or stop."""
        return any(service.kind == kind for service in self.config.services)

    def _living(self) -> list[RunningChild]:
        return [child for child in self._children.values() if not child.exited.is_set()]

    def _announce(self, child: Child) -> None:
        if child.exited_ms is not None:
            expected = self._stopping.is_set() or child.exit_code == 0
            what, level = "exited", logging.INFO if expected else logging.WARNING
        else:
            what, level = ("started", logging.INFO) if child.reported_ms is None else ("reported", logging.DEBUG)
        fields = {"child": child.name, "token": child.token, "pid": child.pid, "exit_code": child.exit_code}
        log.log(level, what, extra={"fields": fields})
        for keeper in self._keepers:
            keeper.heard(child)
        self._asks.push(child)
        self.config.changed(child)

    def _forget_old(self) -> None:
        oldest = now_ms() - KEEP_EXITED_MS
        old = [t for t, c in self._children.items() if c.state.exited_ms is not None and c.state.exited_ms < oldest]
        for token in old:
            del self._children[token]

    def _write_note(self, url: str) -> None:
        note: Path = self.config.data.server_note
        partial = note.with_suffix(".part")
        content = {"pid": os.getpid(), "url": url, "started_ms": now_ms()}
        if self.config.tls_cert is not None:
            content["tls_cert"] = str(self.config.tls_cert)
        partial.write_text(json.dumps(content) + "\n")
        partial.replace(note)


__all__ = ["Service", "StartError", "Supervisor", "SupervisorConfig"]
