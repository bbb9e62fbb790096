"""Other proxies in front of the same upstream, each with the settings that its documentation advises for speed.

What all of them share: one worker process, logs of errors only, no access log, no retries. ``settings`` says the rest.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from dataclasses import dataclass, field
from importlib import metadata

from environments import Environment
from load import Load, Shape, Target
from process import Child, Failed
from rows import HERE, MODEL, READY_S, SECRET, STREAMS, Place, Row

PEERS = HERE / "peers"
START_S = 90.0
POLL_S = 0.02
ENGINE_MODEL = f"simulated/{MODEL}"
"""As the upstream's own list of models calls it."""


class Script(Row):
    """A proxy of this folder, run by the Python that runs the benchmark; prints its port."""

    def __init__(self, name: str, file: str, settings: str) -> None:
        self.name = name
        self.settings = settings
        self._file = file

    @property
    def version(self) -> str:
        return f"{self.name} {metadata.version(self.name)}"

    async def start(self, place: Place) -> None:
        self.child = Child(
            [sys.executable, str(PEERS / self._file), str(place.upstream_port)],
            log=place.folder / f"{self.name}.log",
            cores=place.cores.proxy,
        )
        self.target = Target(int(await self.child.line(READY_S)), SECRET, MODEL)


@dataclass
class Peer(Row):
    """A program of an environment of its own. ``{port}``, ``{upstream}`` and so on are filled in."""

    name: str
    command: str
    arguments: tuple[str, ...]
    package: str
    """Whose version is told."""
    settings: str
    environment: dict[str, str] = field(default_factory=dict)
    key: str = SECRET
    model: str = MODEL
    slow: bool = False
    opens_ports: bool = False
    installed: bool = True

    @property
    def version(self) -> str:
        return self._environment.version(self.package)

    @property
    def _environment(self) -> Environment:
        return Environment(PEERS / f"{self.name}.txt")

    def prepare(self) -> None:
        self._environment.prepare()

    async def start(self, place: Place) -> None:
        port = free_port()
        places = {"port": port, "metrics": free_port(), "upstream": place.upstream_port, "folder": place.folder}
        self.child = Child(
            [
                self._environment.program(self.command),
                *(argument.format(**places, peers=PEERS) for argument in self.arguments),
            ],
            log=place.folder / f"{self.name}.log",
            env={name: value.format(**places) for name, value in self.environment.items()},
            cores=place.cores.proxy,
        )
        self.target = Target(port, self.key, self.model)
        await answers(self.target, self.child)


async def answers(target: Target, child: Child) -> None:
    """Until a request is answered as it should be. Raises Failed."""
    load, wrong = Load(target), "no answer"
    while child.age_s < START_S:
        if not child.alive:
            raise Failed(f"ended at its start; {child.last_words()}")
        outcome = await load.run(Shape(), users=1, requests=1, timeout_s=5.0)
        if outcome.requests:
            load.close()
            return
        wrong = next(iter(outcome.wrong), wrong)
        await asyncio.sleep(POLL_S)
    raise Failed(f"answers nothing good in {START_S:g} s: {wrong}; {child.last_words()}")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


AIOHTTP = Script(
    "aiohttp",
    "aiohttp_proxy.py",
    "the low-level server and the client of the development environment, on uvloop, no limit on connections, "
    "no access log; forwards what has arrived (iter_any)",
)
HTTPTOOLS = Script(
    "httptools", "httptools_proxy.py", "nothing but two parsers and a pool: no limits, time-outs or back-pressure"
)
VLLM_ROUTER = Peer(
    name="vllm-router",
    command="vllm-router",
    package="vllm-router",
    arguments=(
        *("--host", "127.0.0.1", "--port", "{port}", "--worker-urls", "http://127.0.0.1:{upstream}"),
        *("--prometheus-host", "127.0.0.1", "--prometheus-port", "{metrics}"),
        *("--policy", "round_robin", "--log-level", "error", "--disable-retries", "--disable-circuit-breaker"),
        *("--max-concurrent-requests", str(STREAMS)),
    ),
    settings="round_robin (the default, cache_aware, keeps a tree of prompts), no retries, no circuit breaker",
)
SMG = Peer(
    name="smg",
    command="smg",
    package="smg",
    arguments=(
        *("launch", "--host", "127.0.0.1", "--port", "{port}", "--worker-urls", "http://127.0.0.1:{upstream}"),
        *("--prometheus-host", "127.0.0.1", "--prometheus-port", "{metrics}", "--api-key", SECRET),
        *("--policy", "round_robin", "--log-level", "error", "--disable-retries", "--disable-circuit-breaker"),
        *("--disable-load-monitoring", "--history-backend", "none", "--max-concurrent-requests", str(STREAMS)),
    ),
    model=ENGINE_MODEL,
    settings="round_robin, no retries, no circuit breaker, no load monitoring, no history",
)
LITELLM_KEY = "sk-hr-bench0003-a-key-that-litellm-takes"
LITELLM = Peer(
    name="litellm",
    command="litellm",
    package="litellm",
    arguments=(
        *("--host", "127.0.0.1", "--port", "{port}", "--num_workers", "1"),
        *("--config", "{peers}/litellm.yaml"),
    ),
    environment={
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "AIOHTTP_CONNECTOR_LIMIT": str(STREAMS),
        "AIOHTTP_CONNECTOR_LIMIT_PER_HOST": str(STREAMS),
        "REPEATED_STREAMING_CHUNK_LIMIT": "1000000",  # the upstream says the same all the time, on purpose
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": LITELLM_KEY,
        "UPSTREAM": "http://127.0.0.1:{upstream}/v1",
        "UPSTREAM_KEY": SECRET,
    },
    key=LITELLM_KEY,
    slow=True,
    settings="production mode, one Uvicorn worker, room for all connections, no callbacks, no database",
)
RAY_SERVE = Peer(
    name="ray-serve",
    command="python",
    package="ray",
    arguments=("{peers}/ray_serve_app.py", "{port}", "{upstream}", "{folder}"),
    environment={
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_MAXCONN": str(STREAMS),
        "RAY_SERVE_HAPROXY_METRICS_PORT": "{metrics}",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": "{folder}/admin.sock",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "{folder}/metrics.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "{folder}",
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "{folder}/server-state",
        "RAY_USAGE_STATS_ENABLED": "0",
    },
    slow=True,
    opens_ports=True,
    settings="its HAProxy ingress and RAY_SERVE_THROUGHPUT_OPTIMIZED; one deployment of one replica forwards with "
    "aiohttp; all processes of Ray count",
)
