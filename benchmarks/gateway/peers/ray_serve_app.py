"""Ray Serve in front of the upstream. Serve has no reverse proxy of its own kind: its proxy hands requests to a
deployment, and the deployment here forwards them with aiohttp, bytes as they arrive.

``python ray_serve_app.py PORT UPSTREAM_PORT FOLDER`` serves on that port until SIGTERM; Ray writes into the folder.
"""

from __future__ import annotations

import signal
import sys

import aiohttp
import ray
from ray import serve
from ray.serve.schema import LoggingConfig
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

PORT, UPSTREAM_PORT, FOLDER = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
QUIET = LoggingConfig(enable_access_log=False, log_level="ERROR")
OBJECT_STORE_BYTES = 100 * 2**20


@serve.deployment(num_replicas=1, max_ongoing_requests=10_000, ray_actor_options={"num_cpus": 0}, logging_config=QUIET)
class Forward:
    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.session: aiohttp.ClientSession | None = None

    async def __call__(self, request: Request) -> Response:
        if self.session is None:
            self.session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
            )
        headers = {name: request.headers[name] for name in ("authorization", "content-type")}
        body = await request.body()
        answer = await self.session.post(self.upstream + request.url.path, data=body, headers=headers)
        if answer.content_length is not None:
            return Response(await answer.read(), answer.status, media_type=answer.content_type)
        return StreamingResponse(answer.content.iter_any(), answer.status, media_type=answer.content_type)


if __name__ == "__main__":
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1",
        _temp_dir=FOLDER,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": PORT}, logging_config=QUIET)
    serve.run(Forward.bind(f"http://127.0.0.1:{UPSTREAM_PORT}"), name="forward", route_prefix="/", logging_config=QUIET)
    signal.sigwait([signal.SIGTERM])
    serve.shutdown()
    ray.shutdown()
