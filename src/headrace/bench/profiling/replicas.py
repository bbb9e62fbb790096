"""Replicas of a profile's own: its children, on distinct cores, gone when it ends.

They keep prompts, as when serving; what is sent shares nothing that is not meant to be found in a cache."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from headrace.bench.errors import BenchError
from headrace.engines.base import EngineTraits, ModelSettings
from headrace.engines.catalogue import engine_for
from headrace.engines.openai import OpenAIEngine
from headrace.fleet.gpus import visible_gpus
from headrace.fleet.spawn import start_replica


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica that is ready."""

    url: str
    secret: str = field(repr=False)
    traits: EngineTraits
    pid: int | None
    """None for a server that somebody else runs."""
    start_s: float | None
    """From the start of the process to ready."""
    engine_version: str | None


def replicas_that_fit(model: ModelSettings) -> int:
    """As many as there are cores for their threads and GPUs, but at least one."""
    if model.engine == "openai":
        return 1
    fit = len(os.sched_getaffinity(0)) // model.threads
    return max(1, min(fit, len(visible_gpus()) // model.gpus) if model.gpus else fit)


def cores_of_replicas(count: int, threads: int, cores: Sequence[int]) -> list[tuple[int, ...]]:
    """Distinct cores for each replica; none (free to run anywhere) where there are not enough for all."""
    if count * threads > len(cores):
        return [()] * count
    return [tuple(cores[start : start + threads]) for start in range(0, count * threads, threads)]


@asynccontextmanager
async def running_replicas(model: ModelSettings, count: int) -> AsyncIterator[list[Replica]]:
    """``count`` replicas, started one after another, all ready. Must be entered from the main thread.

    Raises EngineError where one does not start, with the reason it gave.
    """
    engine = engine_for(model.engine)
    if isinstance(engine, OpenAIEngine):
        engine.check(model)
        if count != 1:
            raise BenchError(f"model {model.name!r} is one server that already runs; it is one replica, not {count}")
        assert model.url is not None
        yield [Replica(model.url, engine.key(model), engine.traits(model), None, None, None)]
        return
    pins = cores_of_replicas(count, model.threads, sorted(os.sched_getaffinity(0)))
    gpus = visible_gpus()
    if count * model.gpus > len(gpus):
        raise BenchError(f"{count} replicas of {model.name!r} need {count * model.gpus} GPUs; there are {len(gpus)}")
    with tempfile.TemporaryDirectory(prefix="headrace-profile-") as folder:
        async with AsyncExitStack() as stack:
            replicas = []
            for number, cpus in enumerate(pins):
                own = await start_replica(
                    model,
                    cpus=cpus,
                    gpus=gpus[number * model.gpus : (number + 1) * model.gpus],
                    log=Path(folder) / f"replica-{number}.log",
                    cache_prompts=True,
                )
                stack.push_async_callback(own.stop)
                traits = engine.traits(model)
                replicas.append(Replica(own.url, own.secret, traits, own.pid, own.load_s, own.engine_version))
            yield replicas


def resident_bytes(pid: int) -> int | None:
    """Memory of a process that is in physical memory now; None where the process is gone."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None
