"""Headrace's own row: the gateway's process as the supervisor starts it, and a controller that only says what there is.

Keys, queue, limiter, journal, ticks and access log are on. The range is far above the load, so that nothing waits.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from load import Target
from process import Child, Failed
from rows import MODEL, READY_S, SECRET, STREAMS, Place, Row

import headrace
import headrace.wire.exchange
from headrace import __version__
from headrace.gateway.config import GatewayConfig, LimitsConfig
from headrace.gateway.snapshot import (
    Ack,
    EndpointView,
    EntityView,
    FromGateway,
    Hello,
    KeyView,
    ReplicaView,
    Snapshot,
    WorkWeights,
)

KEY = "hr-bench0002.a-key-that-asks-and-nothing-else"
LAUNCHER = ("-m", "headrace.gateway.main")
COMPILED = Path(headrace.wire.exchange.__file__).suffix == ".so"
"""What runs here as ``headrace``."""
CHUNK = 1e9
"""Reference tokens/s: no limit that this load could reach."""


class Headrace(Row):
    """``python -m headrace.gateway.main``, or another launcher of it."""

    def __init__(self, name: str, settings: str, *, launcher: Sequence[str] = LAUNCHER, plain: bool = False) -> None:
        """``plain``: without what ``make compile`` has made."""
        self.name = name
        self.settings = settings
        self._launcher = launcher
        self._plain = plain
        self._controller: asyncio.Server | None = None

    @property
    def version(self) -> str:
        return f"headrace {__version__}, {'compiled' if COMPILED and not self._plain else 'plain Python'}"

    async def start(self, place: Place) -> None:
        folder = place.folder / self.name
        folder.mkdir()
        controller = Controller(snapshot(place.upstream_port))
        self._controller = await controller.listen(folder / "link.sock")
        config = GatewayConfig(
            gateway_id="bench",
            controller_socket=str(folder / "controller.sock"),
            link_socket=str(folder / "link.sock"),
            journal_dir=str(folder),
            port=0,
            limits=LimitsConfig(connections=STREAMS),
            drain_s=1.0,
        )
        self.child = Child(
            [sys.executable, *self._launcher],
            stdin=msgspec.json.encode(config).decode(),
            log=folder / "gateway.log",
            env={"PYTHONPATH": str(plain_copy(folder))} if self._plain else None,
            cores=place.cores.proxy,
        )
        ready = msgspec.json.decode(await self.child.line(READY_S))
        try:
            await asyncio.wait_for(controller.acknowledged.wait(), READY_S)
        except TimeoutError:
            raise Failed(f"the gateway took no snapshot; {self.child.last_words()}") from None
        self.target = Target(ready["port"], KEY, MODEL)

    async def stop(self) -> None:
        await super().stop()
        if self._controller is not None:
            self._controller.close()


def plain_copy(folder: Path) -> Path:
    """The package without its compiled modules, to be found before the installed one."""
    package = Path(headrace.__file__).parent
    copy = folder / "plain"
    shutil.copytree(package, copy / package.name, ignore=shutil.ignore_patterns("*.so"))
    return copy


def snapshot(upstream_port: int) -> Snapshot:
    """One endpoint, one replica with room for everything, one key."""
    entity = EntityView(
        id="entity",
        name=f"{MODEL}-1",
        model=MODEL,
        config_version=1,
        chunk=CHUNK,
        min_chunks=1,
        max_chunks=1,
        weights=WorkWeights(w_in=0.8, w_out=2.1, w_pp=1e-4, w_dd=3e-4, w_c=0.05),
        context=1_000_000,
        slots=STREAMS,
        default_max_tokens=1024,
    )
    replica = ReplicaView(
        id="replica",
        entity="entity",
        url=f"http://127.0.0.1:{upstream_port}",
        secret=SECRET,
        slots=STREAMS,
        draining=False,
    )
    key = KeyView(id="bench0002", digest=hashlib.sha256(KEY.encode()).hexdigest(), role="query")
    endpoint = EndpointView(id="endpoint", name=MODEL, entities=(entity,))
    return Snapshot(version=1, restored=True, endpoints=(endpoint,), replicas=(replica,), keys=(key,))


class Controller:
    """The other end of the link: answers a hello with the snapshot, and lets the ticks come."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._line = msgspec.json.encode(snapshot) + b"\n"
        self.acknowledged = asyncio.Event()

    async def listen(self, path: Path) -> asyncio.Server:
        return await asyncio.start_unix_server(self._serve, path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder: msgspec.json.Decoder[FromGateway] = msgspec.json.Decoder(FromGateway)
        try:
            while line := await reader.readline():
                message = decoder.decode(line)
                if isinstance(message, Hello):
                    writer.write(self._line)
                elif isinstance(message, Ack):
                    self.acknowledged.set()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
