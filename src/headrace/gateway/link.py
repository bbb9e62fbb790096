"""The line to the controller: snapshots come down; acknowledgements and ticks go up.

Without a controller the gateway serves on by its last snapshot, and keeps knocking.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time

import msgspec

from headrace.gateway.live import Live
from headrace.gateway.outbox import Outbox
from headrace.gateway.snapshot import Ack, AnswersTick, Hello, Snapshot, Tick

TICK_S = 0.5
SHORTEST_TICK_S = 0.02
"""Between ticks, however many requests ask for a replica at once."""
ANSWERS_S = 2.0
"""Between ticks that tell how requests have ended: histograms are long, and are read every few seconds at most."""
RECONNECT_S = 0.5
LARGEST_SNAPSHOT = 64 * 1024 * 1024
"""Bytes: room for tens of thousands of keys and replicas."""

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode
_snapshot: msgspec.json.Decoder[Snapshot] = msgspec.json.Decoder(Snapshot)


class Link:
    """``run`` it in a task; ``nudge`` it when the controller should know at once."""

    def __init__(self, path: str, gateway_id: str, outbox: Outbox) -> None:
        self._path = path
        self._gateway_id = gateway_id
        self._outbox = outbox
        self._nudged = asyncio.Event()
        self.informed = asyncio.Event()
        """A snapshot has been applied since the start."""

    def nudge(self) -> None:
        """Send a tick now: a request has come that needs a replica."""
        self._nudged.set()

    async def run(self, live: Live) -> None:
        """Until cancelled."""
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path, limit=LARGEST_SNAPSHOT)
            except OSError:
                live.cut_off()
            else:
                await self._session(live, reader, writer)
            await asyncio.sleep(RECONNECT_S)

    async def _session(self, live: Live, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ticking = asyncio.create_task(self._tick(live, writer))
        try:
            writer.write(_encode(Hello(gateway=self._gateway_id, pid=os.getpid())) + b"\n")
            live.connected()
            log.info("connected to the controller")
            while line := await reader.readline():
                live.apply(_snapshot.decode(line))
                self.informed.set()
                writer.write(_encode(Ack(version=live.version)) + b"\n")
        except (OSError, ValueError) as error:
            log.warning("the link to the controller broke", extra={"fields": {"reason": str(error)}})
        except Exception:
            log.exception("a snapshot could not be applied")
        else:
            log.warning("the controller closed the link")
        finally:
            live.cut_off()
            ticking.cancel()
            writer.close()

    async def _tick(self, live: Live, writer: asyncio.StreamWriter) -> None:
        told: dict[str, int] = {}
        answers_at = 0.0
        with contextlib.suppress(OSError):  # the reading side notices, and says so
            while True:
                self._nudged.clear()
                answers: tuple[AnswersTick, ...] = ()
                if (now := time.monotonic()) >= answers_at or live.removing:
                    answers, answers_at = live.answers(told), now + ANSWERS_S
                entities, replicas = live.ticks()
                tick = Tick(
                    gateway=self._gateway_id,
                    at_ms=int(time.time() * 1000),
                    version=live.version,
                    entities=entities,
                    replicas=replicas,
                    journal=self._outbox.tick(),
                    answers=answers,
                )
                writer.write(_encode(tick) + b"\n")
                await writer.drain()
                await asyncio.sleep(SHORTEST_TICK_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await self._nudged.wait()
