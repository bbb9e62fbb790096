"""What the client libraries talk to: ``headrace serve`` as a user starts it, with simulated replicas for speed, and
models that are sold as if they had been measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from system_server import Server, until
from system_simulated import simulated_profile

from headrace.models.registry import Registry
from headrace.profiles.files import path_of, save
from headrace.profiles.profile import IterationTime

CHUNK = 1000
"""Reference tokens/s. A round figure, not what the timing below comes to: nothing here is loaded to its limit."""

QUICK = IterationTime(base_s=0.002, prefill_s=0.0, decode_s=0.0005, context_s=0.0)

SIMULATED = " sim"
"""What the simulated engine says for each token."""

CHAT = "talk"
"""The endpoint that runs from the start."""


def sell(
    data: Path,
    name: str,
    *,
    version: str = "1",
    chunk: int = CHUNK,
    units_per_chunk: int | None = None,
    at_once: bool = False,
) -> None:
    """Register a simulated model in a data directory, with a profile of this chunk. ``at_once``: without timing."""
    arguments = {"null": True} if at_once else {"iteration": msgspec.to_builtins(QUICK)}
    model = Registry(data / "models").add(
        name, version=version, simulated=True, slots=4, units_per_chunk=units_per_chunk, engine_args=arguments
    )
    profile = simulated_profile(model, QUICK)
    exact = {"chunk": chunk, "chunk_mean": float(chunk), "chunk_low": float(chunk), "chunk_high": float(chunk)}
    save(path_of(model, data / "profiles"), msgspec.structs.replace(profile, **exact))


def config(low: int = 0, high: int = 1, *, model: str = "llama", chunk: int = CHUNK, **more: Any) -> dict[str, Any]:
    """Of an endpoint with one served entity and a range of so many chunks. From 0 on, nothing is started for it."""
    entity = {
        "entity_name": model,
        "entity_version": "1",
        "min_provisioned_throughput": low * chunk,
        "max_provisioned_throughput": high * chunk,
        "scale_to_zero_enabled": low == 0,
    }
    return {"served_entities": [entity | more]}


def with_chat(server: Server, *, chunk: int = CHUNK) -> Server:
    """The server, once its endpoint ``talk`` has a replica."""
    server.call("POST", "/api/2.0/serving-endpoints", {"name": CHAT, "config": config(1, 2, chunk=chunk)})

    def ready() -> bool:
        state = server.get(f"/api/2.0/serving-endpoints/{CHAT}")["state"]
        return bool(state == state | {"ready": "READY", "config_update": "NOT_UPDATING"})

    until(ready, within_s=30, what="the endpoint is ready")
    return server
