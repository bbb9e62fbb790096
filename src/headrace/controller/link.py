"""The controller's end of the link to the gateways: a Unix socket, one JSON document a line.

Snapshots go down as they change: always the newest, so a slow gateway skips what it missed. Acknowledgements and ticks
come up. A gateway that breaks the format is cut off and may come back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from headrace.controller.gateways import Gateways
from headrace.gateway.snapshot import Ack, FromGateway, Hello, Snapshot, Tick

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes of one document: room for the ticks of ten thousand replicas."""

LOOK_AGAIN_S = 0.2

log = logging.getLogger(__name__)


class Link:
    """Server of ``link.sock``."""

    def __init__(
        self, gateways: Gateways, on_tick: Callable[[Tick], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``on_tick`` is told of every tick, after ``gateways`` has it."""
        self._gateways = gateways
        self._on_tick = on_tick
        self._clock = clock
        self._snapshot: Snapshot | None = None
        self._changed = asyncio.Condition()
        self._heard = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, path: Path) -> None:
        self._server = await asyncio.start_unix_server(self._serve, path, limit=LONGEST_LINE)
        self._path = path

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def snapshot(self) -> Snapshot | None:
        """What was published last."""
        return self._snapshot

    async def publish(self, snapshot: Snapshot) -> None:
        """Send it to every gateway, and to every one that connects from now on."""
        async with self._changed:
            self._snapshot = snapshot
            self._changed.notify_all()

    async def acknowledged(self, version: int, timeout_s: float) -> bool:
        """Wait until every gateway decides by this snapshot or a newer one; whether that came about in time."""
        until = self._clock() + timeout_s
        while not self._gateways.acknowledged(version, self._clock()):
            if self._clock() >= until:
                return False
            # Looked at now and then too: a gateway that was cut off stops to count without a word.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_S), self._heard:
                    await self._heard.wait()
        return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        gateway = ""
        try:
            hello = _decode(await reader.readline())
            if not isinstance(hello, Hello):
                raise msgspec.ValidationError("the first line of a gateway must be a hello")
            gateway = hello.gateway
            self._gateways.hello(hello)
            log.info("gateway connected", extra={"fields": {"gateway": gateway, "pid": hello.pid}})
            sending = asyncio.create_task(self._send(writer))
            try:
                while line := await reader.readline():
                    await self._take(gateway, _decode(line))
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        except (msgspec.DecodeError, ValueError, ConnectionError) as error:
            log.warning("gateway cut off", extra={"fields": {"gateway": gateway, "why": str(error)}})
        except asyncio.CancelledError:
            pass  # the controller is closing; a server task that ends cancelled is logged as an error
        finally:
            if gateway:
                self._gateways.gone(gateway, self._clock())
                log.info("gateway gone", extra={"fields": {"gateway": gateway}})
            self._connections.discard(task)
            writer.close()
            async with self._heard:
                self._heard.notify_all()

    async def _take(self, gateway: str, message: FromGateway) -> None:
        match message:
            case Ack():
                self._gateways.ack(gateway, message)
                async with self._heard:
                    self._heard.notify_all()
            case Tick():
                self._gateways.tick(gateway, message, self._clock())
                self._on_tick(message)
            case Hello():
                raise msgspec.ValidationError("a gateway says hello once")

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        sent = 0
        while True:
            snapshot = await self._newer_than(sent)
            writer.write(_encode(snapshot) + b"\n")
            sent = snapshot.version
            await writer.drain()

    async def _newer_than(self, version: int) -> Snapshot:
        async with self._changed:
            while self._snapshot is None or self._snapshot.version <= version:
                await self._changed.wait()
            return self._snapshot


_encode = msgspec.json.Encoder().encode
_from_gateway: msgspec.json.Decoder[FromGateway] = msgspec.json.Decoder(FromGateway)


def _decode(line: bytes) -> FromGateway:
    return _from_gateway.decode(line)
