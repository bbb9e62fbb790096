"""Client of the supervisor's Unix socket: asks, hears of every change, connects again when the connection is lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from headrace.fleet.base import FleetError
from headrace.fleet.protocol import Ask, Child, ChildEvent, ChildSpec, FromSupervisor, List, Look, Reply, Start, Stop

RECONNECT_S = 0.2
ANSWER_S = 10.0
"""Most time for an answer that needs no waiting, connecting again included."""
LONGEST_LINE = 1 << 24

log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(FromSupervisor).decode
_encode = msgspec.json.Encoder().encode


class SupervisorClient:
    """One connection. An ask that lost its connection is repeated: a start is idempotent by token, a stop by nature."""

    def __init__(
        self, path: Path, changed: Callable[[Child], None], listed: Callable[[tuple[Child, ...]], None]
    ) -> None:
        """``listed`` gets all children after each connect, ``changed`` each change after that."""
        self._path = path
        self._changed = changed
        self._listed = listed
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Reply]] = {}
        self._connected = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self, timeout_s: float = ANSWER_S) -> None:
        """Connect and hear of all children. Raises FleetError."""
        self._task = asyncio.create_task(self._run())
        try:
            await asyncio.wait_for(self._connected.wait(), timeout_s)
        except TimeoutError:
            await self.close()
            raise FleetError(f"no supervisor answers at {self._path}; is the server running?") from None

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def start(self, spec: ChildSpec) -> Child:
        """Raises FleetError."""
        return (await self._ask(lambda number: Start(number, spec), ANSWER_S)).children[0]

    async def stop(self, token: str, grace_s: float) -> Child:
        """Returns when the child has ended. Raises FleetError."""
        return (await self._ask(lambda number: Stop(number, token, grace_s), grace_s + ANSWER_S)).children[0]

    async def look(self, token: str) -> Child:
        """The child with the last lines of its log until now. Raises FleetError."""
        return (await self._ask(lambda number: Look(number, token), ANSWER_S)).children[0]

    async def _ask(self, ask: Callable[[int], Ask], timeout_s: float) -> Reply:
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    await self._connected.wait()
                    try:
                        reply = await self._send(ask(next(self._ids)))
                        break
                    except ConnectionError:
                        continue
        except TimeoutError:
            raise FleetError(f"the supervisor at {self._path} did not answer in {timeout_s:g} s") from None
        if reply.error is not None:
            raise FleetError(reply.error)
        return reply

    async def _send(self, ask: Ask) -> Reply:
        if self._writer is None:
            raise ConnectionResetError
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._answers[ask.id] = answer
        try:
            self._writer.write(_encode(ask) + b"\n")
            return await answer
        finally:
            self._answers.pop(ask.id, None)

    async def _run(self) -> None:
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(self._path, limit=LONGEST_LINE)
                await self._read(reader)
            except (OSError, ValueError, msgspec.DecodeError) as error:
                log.debug("no connection", extra={"fields": {"socket": str(self._path), "reason": str(error)}})
            finally:
                self._lost()
            await asyncio.sleep(RECONNECT_S)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Read until the connection ends. The first answer is the list: what is pushed before it is older."""
        assert self._writer is not None
        first = next(self._ids)
        self._writer.write(_encode(List(first)) + b"\n")
        while line := await reader.readline():
            message = _decode(line)
            if isinstance(message, ChildEvent):
                if self._connected.is_set():
                    self._changed(message.child)
            elif message.id == first:
                self._listed(message.children)
                self._connected.set()
            else:
                answer = self._answers.get(message.id)
                if answer is not None and not answer.done():
                    answer.set_result(message)

    def _lost(self) -> None:
        self._connected.clear()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError())
