"""A profile of a model on this machine: what ``headrace profile`` does.

Replicas of its own fill the machine, and go through the course.

With one request in flight, replica seconds are the time from one completion to the next. With k in flight, requests
overlap; what is measured then is the time over which whole turns of k requests completed, from completion to completion
in a steady state, so that the ramp of a block and the drain into the next one are outside (``plan.Block.windows``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from headrace.bench.errors import BenchError
from headrace.bench.profiling.asking import Asked, Server, ask
from headrace.bench.profiling.clock import Clock, WallClock
from headrace.bench.profiling.course import Runner, run_course
from headrace.bench.profiling.disturbance import MOST, CoreWatch
from headrace.bench.profiling.effort import Effort
from headrace.bench.profiling.outcome import Measured, Measurement, evaluate
from headrace.bench.profiling.prompts import Prompts
from headrace.bench.profiling.replicas import (
    Replica,
    replicas_that_fit,
    resident_bytes,
    running_replicas,
)
from headrace.bench.profiling.shapes import REFERENCE, Shape
from headrace.bench.profiling.station import Measure
from headrace.bench.slo import Slo
from headrace.engines.base import ModelSettings
from headrace.wire.client import Client

ANSWER_WITHIN_S = 600.0
"""Of one request; the whole measurement has its own limit."""

STARTS = 4
"""Of replicas, where there is time for more of them than are loaded."""

Progress = Callable[[str, float], None]
"""Told what is being done, and the part of the time that has passed, 0 to 1."""


async def measure_profile(
    model: ModelSettings,
    effort: Effort,
    *,
    replicas: int | None = None,
    seed: int = 0,
    slo: Slo | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Measure. Must run in the main thread, whose death ends the replicas.

    Raises BenchError and EngineError, with what was wrong and what to do.
    """
    if model.context < REFERENCE.tokens:
        raise BenchError(
            f"the context of {model.name!r} is {model.context} tokens and the reference request needs "
            f"{REFERENCE.tokens}; set a larger one"
        )
    clock = WallClock()
    many = replicas_that_fit(model) if replicas is None else replicas
    if many < 1:
        raise BenchError(f"replicas is {many}; expected 1 or more")
    async with AsyncExitStack() as stack:
        reporter = stack.enter_context(_Reporter(effort, clock, progress))
        running = await stack.enter_async_context(running_replicas(model, many))
        starts_s = [replica.start_s for replica in running if replica.start_s is not None]
        watch = _watch(model, running)
        began = None if watch is None else watch.look()
        memory = _Memory(running)

        def between(words: str) -> None:
            reporter.doing(words)
            memory.look()

        servers = [_server(model, replica) for replica in running]
        for server in servers:
            stack.push_async_callback(server.client.close)
        prompts = Prompts(seed)
        measures = [_measure(server, prompts, clock) for server in servers]
        runner = Runner(measures, clock, effort, seed=seed, watch=watch, between=between)
        course = await run_course(runner, slots=model.slots, context=model.context, slo=slo)
        memory.look()
        others = None if watch is None or began is None else watch.others(began)
    starts_s += await _more_starts(model, starts_s, effort, clock)
    return evaluate(
        Measurement(
            model=model,
            effort=effort,
            course=course,
            replicas=running,
            starts_s=starts_s,
            memory_bytes=memory.most,
            others=others,
            duration_s=clock.now(),
        )
    )


async def _more_starts(model: ModelSettings, starts_s: Sequence[float], effort: Effort, clock: Clock) -> list[float]:
    """Starts of a replica that does nothing else, for the spread of the time; none where there is no time."""
    more: list[float] = []
    while starts_s and not effort.quick and len(starts_s) + len(more) < STARTS:
        if clock.now() + 2 * max(starts_s) > effort.again_s:
            break
        async with running_replicas(model, 1) as (replica,):
            if replica.start_s is not None:
                more.append(replica.start_s)
    return more


def _watch(model: ModelSettings, replicas: Sequence[Replica]) -> CoreWatch | None:
    """None for a server that somebody else runs: what it uses of this machine, if anything, cannot be told from what
    others use."""
    pids = [replica.pid for replica in replicas if replica.pid is not None]
    if len(pids) < len(replicas):
        return None
    # A simulated engine waits for timers and needs little of a core: nobody is in its way.
    return CoreWatch(pids, 1.0 if model.engine == "simulated" else MOST)


def _server(model: ModelSettings, replica: Replica) -> Server:
    try:
        client = Client(replica.url)
    except ValueError:
        raise BenchError(f"cannot put load on {replica.url}; expected http://HOST:PORT") from None
    return Server(
        client,
        replica.traits.upstream_model or model.name,
        replica.secret,
        timeout_s=ANSWER_WITHIN_S,
        reuse=replica.traits.reuse_after_stream,
        progress=replica.traits.stream_upstream,
    )


def _measure(server: Server, prompts: Prompts, clock: Clock) -> Measure:
    async def measure(shape: Shape, number: int) -> Asked:
        return await ask(server, shape, prompts.tokens(shape, number), clock)

    return measure


class _Memory:
    """The most memory that each replica was seen with."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._most = {replica.pid: 0 for replica in replicas if replica.pid is not None}

    def look(self) -> None:
        for pid, most in self._most.items():
            self._most[pid] = max(most, resident_bytes(pid) or 0)

    @property
    def most(self) -> list[int]:
        return [size for size in self._most.values() if size]


class _Reporter:
    """Tells the progress now and then."""

    def __init__(self, effort: Effort, clock: Clock, progress: Progress | None) -> None:
        self._effort = effort
        self._clock = clock
        self._progress = progress
        self._words = "starting replicas"
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> _Reporter:
        if self._progress is not None:
            self._task = asyncio.create_task(self._tell(self._progress))
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()

    def doing(self, words: str) -> None:
        self._words = words

    async def _tell(self, progress: Progress) -> None:
        while True:
            part = self._clock.now() / self._effort.budget_s
            # Blocks that others disturbed are measured again, and a slow replica takes its time for the least of them.
            longer = ", which takes longer than planned" if part > 1 else ""
            progress(self._words + longer, min(1.0, part))
            await asyncio.sleep(0.5)
