"""The parent of every process of a server on one machine. It owns the listening socket, keeps gateway and controller
running, starts and stops replicas for whoever asks over its Unix socket, and tells what became of each. It decides
nothing: how many replicas there should be is the controller's to know.

Children die with it, however it ends; they do not die with the controller.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import socket
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headrace.fleet.ask_server import AskServer
from headrace.fleet.child import RunningChild, now_ms
from headrace.fleet.listener import StartError, listen, lock, url_of
from headrace.fleet.log_file import LogFile
from headrace.fleet.protocol import Child, ChildSpec
from headrace.paths import DataDir

KEEP_EXITED_MS = 600_000
"""Exited children stay listed this long."""
FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 5.0
"""A service that died is restarted at once; one that dies again soon, after a delay that doubles between these."""
HEALTHY_S = 60.0
"""A service that ran this long has its delays forgotten."""
REPLICA_GRACE_S = 5.0
CHILD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """A child that the supervisor keeps running: the gateway or the controller."""

    kind: str
    argv: tuple[str, ...]
    stdin: Callable[[str, int], str]
    """From (token of this start, descriptor of the listening socket) to what the process reads on standard input."""
    listens: bool = False
    """Inherits the listening socket."""
    grace_s: float = 10.0
    """Time to finish between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class SupervisorConfig:
    """One server. Services start in this order and are stopped in this order, before all replicas."""

    data: DataDir
    host: str
    port: int
    services: tuple[Service, ...]
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
        path = self.config.data.socket("supervisor")
        await self._asks.open(path)
        url = url_of(listening, self.config.host)
        self._write_note(url)
        self.config.listening(url)
        keepers = [asyncio.create_task(self._keep(service, listening)) for service in self.config.services]
        try:
            stopping = asyncio.create_task(self._stopping.wait())
            # A keeper ends before that only by an error of ours; then nothing may look as if it still ran.
            await asyncio.wait((stopping, *keepers), return_when=asyncio.FIRST_COMPLETED)
            self._stopping.set()
            listening.close()  # the gateway's copy is the last one: when it stops accepting, clients are refused
            for keeper in keepers:
                await keeper
            await asyncio.gather(*(child.stop(REPLICA_GRACE_S) for child in self._living()))
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

    async def _keep(self, service: Service, listening: socket.socket) -> None:
        """Run a service, again and again, until the server stops; then stop it."""
        delay = 0.0
        stopping = asyncio.create_task(self._stopping.wait())
        while not self._stopping.is_set():
            token = f"{service.kind}-{uuid.uuid4().hex[:12]}"
            fd = listening.fileno()
            spec = ChildSpec(
                token=token, kind=service.kind, name=service.kind, argv=service.argv, stdin=service.stdin(token, fd)
            )
            started_ms = now_ms()
            try:
                child = self.start(spec, (fd,) if service.listens else ())
            except (OSError, ValueError) as error:
                log.error("cannot start", extra={"fields": {"child": service.kind, "reason": str(error)}})
            else:
                exited = asyncio.create_task(child.exited.wait())
                await asyncio.wait((stopping, exited), return_when=asyncio.FIRST_COMPLETED)
                if self._stopping.is_set():
                    await self._stop_in_turn(service, child)
                    return
            if now_ms() - started_ms >= HEALTHY_S * 1000:
                delay = 0.0
            await asyncio.wait((stopping,), timeout=delay)
            delay = min(max(2 * delay, FIRST_DELAY_S), LONGEST_DELAY_S)

    async def _stop_in_turn(self, service: Service, child: RunningChild) -> None:
        """The gateway first, so that it finishes its requests while controller and replicas still run."""
        for earlier in self.config.services[: self.config.services.index(service)]:
            for other in self._living():
                if other.state.kind == earlier.kind:
                    await other.exited.wait()
        await child.stop(service.grace_s)

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
            what, level = "exited", logging.INFO if self._stopping.is_set() else logging.WARNING
        else:
            what, level = ("started", logging.INFO) if child.reported_ms is None else ("reported", logging.DEBUG)
        fields = {"child": child.name, "token": child.token, "pid": child.pid, "exit_code": child.exit_code}
        log.log(level, what, extra={"fields": fields})
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
        partial.write_text(json.dumps({"pid": os.getpid(), "url": url, "started_ms": now_ms()}) + "\n")
        partial.replace(note)


__all__ = ["Service", "StartError", "Supervisor", "SupervisorConfig"]
