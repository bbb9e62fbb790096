"""The REST API of a toy controller on a free port of 127.0.0.1, and a small client."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from controller_world import World

from headrace.controller.api.app import create_app


@dataclass
class Http:
    """Calls with the admin key; each gives status and body."""

    world: World
    url: str
    key: str
    client: httpx.AsyncClient

    async def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, raw: bytes | None = None
    ) -> tuple[int, Any]:
        text = self.key if key is None else key
        headers = {"Authorization": f"Bearer {text}"} if text else {}
        content = raw if raw is not None else json.dumps(body).encode() if body is not None else None
        if content is not None:
            headers["Content-Type"] = "application/json"
        answer = await self.client.request(method, self.url + path, content=content, headers=headers)
        return answer.status_code, answer.json()

    async def get(self, path: str, *, key: str | None = None) -> tuple[int, Any]:
        return await self.call("GET", path, key=key)

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        return await self.call("POST", path, body)

    async def put(self, path: str, body: Any) -> tuple[int, Any]:
        return await self.call("PUT", path, body)

    async def patch(self, path: str, body: Any) -> tuple[int, Any]:
        return await self.call("PATCH", path, body)

    async def delete(self, path: str) -> tuple[int, Any]:
        return await self.call("DELETE", path)


@asynccontextmanager
async def served_over_http(world: World) -> AsyncIterator[Http]:
    """The loops do not run: the world's clock does not move by itself, and ``world.step`` takes each look."""
    controller = world.controller
    controller.keys.ensure_admin(world.data.admin_key, world.clock.ms)
    await controller.reconciler.step()
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(controller), log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve([listening]))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(timeout=30) as client:
            yield Http(world, url, world.data.admin_key.read_text().strip(), client)
    finally:
        server.should_exit = True
        await serving
        controller.database.close()
