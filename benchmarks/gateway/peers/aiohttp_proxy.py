"""A reverse proxy as one writes it with aiohttp: its low-level server and its client, bytes as they arrive.

``python aiohttp_proxy.py UPSTREAM_PORT`` prints the port that it listens on and serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import aiohttp
import uvloop
from aiohttp import web

OWN = {"host", "content-length", "connection", "transfer-encoding"}
"""Fields that each side writes for itself."""


async def serve(upstream_port: int) -> None:
    upstream = f"http://127.0.0.1:{upstream_port}"
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
    )

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in OWN}
        body = await request.read()
        async with session.request(request.method, upstream + request.path_qs, data=body, headers=headers) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in OWN}
            if answer.content_length is not None:
                return web.Response(status=answer.status, headers=kept, body=await answer.read())
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for data in answer.content.iter_any():
                await response.write(data)
            await response.write_eof()
            return response

    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    server = await loop.create_server(web.Server(handle, access_log=None), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stopping.wait()
    await session.close()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
