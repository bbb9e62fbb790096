"""A supervisor in a process of its own, and a client that hears of every change."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
from collections.abc import Callable

from fleet_toys import argv

from headrace.fleet.client import SupervisorClient
from headrace.fleet.protocol import Child, ChildSpec
from headrace.paths import DataDir

WAIT_S = 10.0


class Server:
    """Started by ``start``. ``seen`` holds every change of every child, in order."""

    def __init__(self, data: DataDir) -> None:
        self.data = data
        self.seen: list[Child] = []
        self.url = ""
        self._news = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self.client = SupervisorClient(data.socket("supervisor"), self._on_child, self._on_list)

    async def start(self, *roles: str) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *argv("serve", str(self.data.root), "0", *roles), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        self.url = json.loads(await asyncio.wait_for(self._process.stdout.readline(), WAIT_S))["url"]
        await self.client.open()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def end(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Signal the supervisor; its exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signum)
        return await asyncio.wait_for(self._process.wait(), WAIT_S)

    async def close(self) -> None:
        await self.client.close()
        if self._process is not None:
            await self.end(signal.SIGKILL)

    async def run(self, role: str, *, token: str | None = None, cpus: tuple[int, ...] = (), stdin: str = "") -> Child:
        """Start a toy as a replica."""
        token = token or role
        return await self.client.start(
            ChildSpec(token=token, kind="replica", name=token, argv=argv(role), stdin=stdin, cpus=cpus)
        )

    async def until(self, wanted: Callable[[Child], bool]) -> Child:
        """The first change, past or to come, that is the wanted one."""
        async with asyncio.timeout(WAIT_S):
            while True:
                for child in self.seen:
                    if wanted(child):
                        return child
                self._news.clear()
                await self._news.wait()

    async def ready(self, kind_or_token: str, *, but: tuple[str, ...] = ()) -> Child:
        """A child by kind or token, once it said that it is ready; not one of the tokens ``but``."""
        return await self.until(
            lambda c: (
                kind_or_token in (c.kind, c.token) and c.token not in but and (c.report or {}).get("state") == "ready"
            )
        )

    async def exited(self, token: str) -> Child:
        return await self.until(lambda c: c.token == token and c.exited_ms is not None)

    def _on_child(self, child: Child) -> None:
        self.seen.append(child)
        self._news.set()

    def _on_list(self, children: tuple[Child, ...]) -> None:
        self.seen.extend(children)
        self._news.set()


async def gone(pidfd: int, timeout_s: float = 2.0) -> bool:
    """Whether the process ends in time."""

    def wait() -> bool:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    try:
        return await asyncio.to_thread(wait)
    finally:
        os.close(pidfd)
