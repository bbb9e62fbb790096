"""What is measured: each row is a way from the client to the same upstream."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import msgspec
from load import Target
from process import Child

from headrace.engines.base import ModelSettings, ReplicaReport, ReplicaSpec

HERE = Path(__file__).parent
MODEL = "bench"
SECRET = "hr-bench0001.the-benchmark-talks-to-itself"
"""Bearer token of every hop: also of the null engine, for proxies that pass it on."""
READY_S = 30.0
STREAMS = 6000
"""That the upstream takes at once."""


@dataclass(frozen=True)
class Cores:
    """The proxy has its own; load and upstream share another, so that a proxy is never in their way."""

    proxy: tuple[int, ...]
    rest: tuple[int, ...]

    @classmethod
    def of_this_machine(cls) -> Cores:
        mine = sorted(os.sched_getaffinity(0))
        return cls((mine[-1],), tuple(mine[:-1]) or tuple(mine))


@dataclass(frozen=True)
class Place:
    """What a row is started with."""

    folder: Path
    """For logs, sockets and journals."""
    upstream_port: int
    cores: Cores


class Row:
    """A proxy; ``start`` it, load ``target``, ``stop`` it."""

    name: str
    target: Target
    child: Child | None = None
    """None: nothing stands between."""
    settings = ""
    """What its figures are to be read with."""
    installed = False
    """In an environment of its own, which has to be made first."""
    slow = False
    """Milliseconds a request, not a fraction of one."""
    opens_ports = False
    """On all interfaces, with no option against it: it runs in a network namespace, or not at all."""

    @property
    def version(self) -> str:
        return ""

    def prepare(self) -> None:
        """Install what it needs. Raises Failed."""

    async def start(self, place: Place) -> None:
        """Until it answers. Raises Failed."""
        raise NotImplementedError

    async def stop(self) -> None:
        if self.child is not None:
            await self.child.stop()


async def start(row: Row, place: Place) -> None:
    """Raises Failed, and leaves nothing running then."""
    try:
        await row.start(place)
    except BaseException:
        await row.stop()
        raise


class Upstream:
    """The simulated engine in null mode."""

    def __init__(self, interval_ms: float) -> None:
        self._interval_ms = interval_ms

    async def start(self, folder: Path, cores: Cores) -> int:
        """Returns its port."""
        args = {"null": True, "null_interval_ms": self._interval_ms}
        model = ModelSettings(name=MODEL, engine="simulated", slots=STREAMS, engine_args=args)
        spec = ReplicaSpec(replica="null", model=model, secret=SECRET)
        self.child = Child(
            [sys.executable, "-m", "headrace.engines.simulated"],
            stdin=msgspec.json.encode(spec).decode(),
            log=folder / "upstream.log",
            cores=cores.rest,
        )
        while True:
            report = msgspec.json.decode(await self.child.line(READY_S), type=ReplicaReport)
            if report.state == "ready" and report.url is not None:
                return int(report.url.rpartition(":")[2])

    async def stop(self) -> None:
        await self.child.stop()


class Direct(Row):
    """No proxy: what the client and the upstream take by themselves."""

    name = "direct"

    async def start(self, place: Place) -> None:
        self.target = Target(place.upstream_port, SECRET, MODEL)


class Relay(Row):
    """The floor."""

    name = "relay"
    settings = "knows nothing of HTTP; a connection to the upstream for each of a client"

    @property
    def version(self) -> str:
        return f"uvloop {metadata.version('uvloop')}"

    async def start(self, place: Place) -> None:
        self.child = Child(
            [sys.executable, str(HERE / "relay.py"), str(place.upstream_port)],
            log=place.folder / "relay.log",
            cores=place.cores.proxy,
        )
        self.target = Target(int(await self.child.line(READY_S)), SECRET, MODEL)
