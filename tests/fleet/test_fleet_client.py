"""The connection between a controller and the supervisor."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.fleet import ask_server
from headrace.fleet.ask_server import AskServer
from headrace.fleet.base import FleetError
from headrace.fleet.child import RunningChild
from headrace.fleet.client import SupervisorClient
from headrace.fleet.protocol import Child, ChildSpec


class NoChildren:
    """A supervisor with a list that tests write, and nothing to start."""

    def __init__(self) -> None:
        self.listed: tuple[Child, ...] = ()

    def start(self, spec: ChildSpec) -> RunningChild:
        raise ValueError("nothing starts here")

    def child(self, token: str) -> RunningChild | None:
        return None

    def children(self) -> tuple[Child, ...]:
        return self.listed

    def reserved(self, kind: str) -> bool:
        return False


def _child(token: str) -> Child:
    return Child(token=token, kind="replica", name=token, pid=1, cpus=(), started_ms=0)


async def test_a_lost_connection_is_made_again_and_the_list_is_asked_for_again(tmp_path: Path) -> None:
    path, children = tmp_path / "s.sock", NoChildren()
    lists: asyncio.Queue[tuple[Child, ...]] = asyncio.Queue()
    client = SupervisorClient(path, lambda child: None, lists.put_nowait)
    server = AskServer(children)
    await server.open(path)
    await client.open()
    assert await lists.get() == ()
    await server.close()
    children.listed = (_child("r1"),)
    again = AskServer(children)
    await again.open(path)
    assert await asyncio.wait_for(lists.get(), 5) == (_child("r1"),)
    with pytest.raises(FleetError, match="nothing starts here"):
        await client.start(ChildSpec("r2", "replica", "r2", ()))
    await client.close()
    await again.close()


async def test_every_connection_hears_of_a_change(tmp_path: Path) -> None:
    path, server = tmp_path / "s.sock", AskServer(NoChildren())
    await server.open(path)
    heard: asyncio.Queue[Child] = asyncio.Queue()
    clients = [SupervisorClient(path, heard.put_nowait, lambda children: None) for _ in range(3)]
    for client in clients:
        await client.open()
    server.push(_child("r1"))
    assert [await asyncio.wait_for(heard.get(), 5) for _ in clients] == [_child("r1")] * 3
    for client in clients:
        await client.close()
    await server.close()


async def test_without_a_supervisor_the_error_says_so(tmp_path: Path) -> None:
    client = SupervisorClient(tmp_path / "none.sock", lambda child: None, lambda children: None)
    with pytest.raises(FleetError, match="is the server running"):
        await client.open(timeout_s=0.05)


async def test_another_user_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = AskServer(NoChildren())
    await server.open(tmp_path / "s.sock")
    monkeypatch.setattr(ask_server.os, "getuid", lambda: 54321)  # we are now somebody else
    reader, writer = await asyncio.open_unix_connection(tmp_path / "s.sock")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    await server.close()
