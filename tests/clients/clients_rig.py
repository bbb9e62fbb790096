"""The real client libraries against a gateway in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import openai
from databricks.sdk import WorkspaceClient
from databricks.sdk.clock import Clock
from databricks.sdk.config import Config
from gateway_rig import JSON, QUERY_KEY, Rig

from headrace.wire.server import Exchange, Server

MODEL = "smollm2"
HELLO: list[Any] = [{"role": "user", "content": "hello"}]

T = TypeVar("T")


@asynccontextmanager
async def openai_of(
    r: Rig, *, key: str = QUERY_KEY, retries: int = 0, base: str = "/v1"
) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{r.url}{base}", api_key=key, max_retries=retries, timeout=30) as client:
        yield client


class Watch(Clock):
    """Time that passes only where somebody sleeps, and is noted."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@asynccontextmanager
async def databricks_of(
    r: Rig, *, key: str = QUERY_KEY, retry_s: int = 1
) -> AsyncIterator[tuple[Callable[[Callable[[WorkspaceClient], T]], Any], Watch]]:
    """Runs a function of a ``WorkspaceClient`` in a thread; the client gives up after ``retry_s`` of its own time."""

    async def well_known(exchange: Exchange) -> None:
        exchange.respond(200, [JSON], b"{}")

    controller = Server(well_known)
    await controller.listen(path=str(r.controller.http_path))
    watch = Watch()
    config = await asyncio.to_thread(
        lambda: Config(host=r.url, token=key, clock=watch, retry_timeout_seconds=retry_s, http_timeout_seconds=30)
    )
    client = WorkspaceClient(config=config)

    async def run(function: Callable[[WorkspaceClient], T]) -> T:
        return await asyncio.to_thread(function, client)

    try:
        yield run, watch
    finally:
        await controller.close()
