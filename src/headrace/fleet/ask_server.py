"""The supervisor's Unix socket: answers each ``Ask``, and pushes every change of a child to every connection."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from pathlib import Path
from typing import Protocol

import msgspec

from headrace.fleet.child import RunningChild
from headrace.fleet.protocol import Ask, Child, ChildEvent, ChildSpec, Look, Reply, Start, Stop

LONGEST_LINE = 1 << 20
"""Bytes of one ask."""
MOST_UNREAD = 1 << 22
"""Bytes that a connection may leave unread before it is dropped; it can connect again and ask for the list."""

_ask = msgspec.json.Decoder(Ask)
_encode = msgspec.json.Encoder().encode


class Children(Protocol):
    """What the supervisor lets be asked of it."""

    def start(self, spec: ChildSpec) -> RunningChild: ...
    def child(self, token: str) -> RunningChild | None: ...
    def children(self) -> tuple[Child, ...]: ...
    def reserved(self, kind: str) -> bool: ...


class AskServer:
    def __init__(self, children: Children) -> None:
        self._children = children
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, path: Path) -> None:
        """Listen. A socket left over by a dead supervisor is replaced: the caller holds the data directory's lock."""
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, path, limit=LONGEST_LINE)
        finally:
            os.umask(before)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._connections:
            writer.close()
        for task in self._tasks:
            task.cancel()

    def push(self, child: Child) -> None:
        """Tell every connection."""
        line = _encode(ChildEvent(child)) + b"\n"
        for writer in self._connections:
            self._send(writer, line)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if _peer_uid(writer) != os.getuid():
            writer.close()
            return
        self._connections.add(writer)
        try:
            while line := await reader.readline():
                # Each in a task of its own: a stop takes as long as its child does, and others must not wait for it.
                task = asyncio.create_task(self._answer(line, writer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except (ValueError, ConnectionError):
            pass  # a line beyond the limit, or gone
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            ask = _ask.decode(line)
        except msgspec.DecodeError as error:
            self._send(writer, _encode(Reply(0, error=f"not an ask: {error}")) + b"\n")
            return
        try:
            reply = Reply(ask.id, children=await self._do(ask))
        except (OSError, ValueError) as error:
            reply = Reply(ask.id, error=str(error))
        self._send(writer, _encode(reply) + b"\n")

    async def _do(self, ask: Ask) -> tuple[Child, ...]:
        if isinstance(ask, Start):
            if self._children.reserved(ask.spec.kind):
                raise ValueError(f"children of kind {ask.spec.kind} are the supervisor's own")
            return (self._children.start(ask.spec).state,)
        if isinstance(ask, Stop):
            child = self._children.child(ask.token)
            if child is None:
                raise ValueError(f"no child has the token {ask.token!r}")
            if self._children.reserved(child.state.kind):
                raise ValueError(f"children of kind {child.state.kind} are the supervisor's own")
            await child.stop(ask.grace_s)
            return (child.state,)
        if isinstance(ask, Look):
            child = self._children.child(ask.token)
            if child is None:
                raise ValueError(f"no child has the token {ask.token!r}")
            return (msgspec.structs.replace(child.state, tail=child.tail()),)
        return self._children.children()

    def _send(self, writer: asyncio.StreamWriter, line: bytes) -> None:
        if writer.is_closing():
            return
        if writer.transport.get_write_buffer_size() > MOST_UNREAD:
            writer.transport.abort()
            return
        writer.write(line)


def _peer_uid(writer: asyncio.StreamWriter) -> int:
    """Who is at the other end, by the kernel's word (SO_PEERCRED: pid, uid, gid)."""
    peer: socket.socket = writer.get_extra_info("socket")
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
