"""Both event loops: uvloop is what runs, asyncio's own is what the protocols are written against."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvloop
from wire_peer import Connect, Peer, Serve
from wire_scripted import Script, Scripted, ScriptedOf

from headrace.wire.client import Client
from headrace.wire.request_parser import Limits
from headrace.wire.server import Handler, Server


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture
async def closing() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def serve(closing: AsyncExitStack) -> Serve:
    """Start a server on a free port of 127.0.0.1, closed at the end of the test."""

    async def start(handler: Handler, *, limits: Limits | None = None, **where: Any) -> Server:
        server = Server(handler, limits=limits)
        await server.listen(**(where or {"port": 0}))
        closing.push_async_callback(server.close)
        return server

    return start


@pytest.fixture
def client_of(closing: AsyncExitStack) -> Callable[[int], Client]:
    def make(port: int, **options: Any) -> Client:
        client = Client(f"http://127.0.0.1:{port}", **options)
        closing.push_async_callback(client.close)
        return client

    return make


@pytest.fixture
def scripted(closing: AsyncExitStack) -> ScriptedOf:
    async def start(script: Script) -> Scripted:
        peer = Scripted()
        server = await peer.start(script)
        closing.callback(server.close)
        return peer

    return start


@pytest.fixture
def connect(closing: AsyncExitStack) -> Connect:
    async def open_connection(port: int) -> Peer:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
        closing.callback(peer.close)
        return peer

    return open_connection
