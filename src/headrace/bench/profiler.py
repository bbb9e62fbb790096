"""A profile of a model on this machine: what ``headrace profile`` does.

Replicas of its own fill the machine. Each gets a closed loop of as many requests as it has slots, through blocks of
different shapes in a random order; from the seconds that the replicas needed come the chunk and the work weights.

With one request in flight, replica seconds are the time from one completion to the next. With k in flight, requests
overlap; what is measured then is the time over which whole turns of k requests completed, from completion to completion
in a steady state, so that the ramp of a block and the drain into the next one are outside (``shapes.steady_seconds``).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from itertools import count
from statistics import fmean

from headrace.bench.asking import Server, ask
from headrace.bench.disturbance import CoreWatch
from headrace.bench.errors import BenchError
from headrace.bench.loops import Clock
from headrace.bench.outcome import Effort, Measured, Measurement, OperatingPoint, evaluate
from headrace.bench.prompts import DEFAULT_VOCABULARY, TokenPrompts
from headrace.bench.replicas import Replica, replicas_that_fit, resident_bytes, running_replicas
from headrace.bench.samples import Sample
from headrace.bench.shapes import REFERENCE, Plan, Shape
from headrace.bench.station import Measure, Station, Turn, run_stations
from headrace.engines.base import ModelSettings
from headrace.wire.client import Client

FEWEST_REFERENCE_SAMPLES = 3
"""In the shortest measurement: with two, Student's t widens the interval of the chunk fourfold."""

ANSWER_WITHIN_S = 600.0
"""Of one request; the whole measurement has its own limit."""

SCAN_SHARE = 0.4
"""Part of the time that may go into finding the number of slots."""


Progress = Callable[[str, float], None]
"""Told what is being done, and the part of the time that has passed, 0 to 1."""


async def measure_profile(
    model: ModelSettings,
    effort: Effort,
    *,
    replicas: int | None = None,
    seed: int = 0,
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
    clock = Clock()
    many = replicas_that_fit(model) if replicas is None else replicas
    if many < 1:
        raise BenchError(f"replicas is {many}; expected 1 or more")
    async with AsyncExitStack() as stack:
        reporter = stack.enter_context(_Reporter(effort, clock, progress))
        running = await stack.enter_async_context(running_replicas(model, many))
        watch = CoreWatch([replica.pid for replica in running if replica.pid is not None])
        bench = await stack.enter_async_context(_Bench(model, running, clock, seed=seed, reporter=reporter))
        points: tuple[OperatingPoint, ...] = ()
        slots = model.slots
        if not effort.quick and model.slots > 1:
            points = await _scan(bench, model.slots, effort)
            slots = max(points, key=lambda point: point.merit).slots
        turns = await bench.run(
            Plan(
                effort.menu.all,
                slots=slots,
                seed=seed,
                until_s=effort.budget_s,
                reference_blocks=math.ceil(FEWEST_REFERENCE_SAMPLES / many),
            ),
            slots,
            limit_s=effort.limit_s - clock.now(),
        )
        memory = [size for replica in running if replica.pid and (size := resident_bytes(replica.pid)) is not None]
        others = watch.others()
    return evaluate(
        Measurement(
            model=model,
            effort=effort,
            slots=slots,
            turns=turns,
            replicas=running,
            operating_points=points,
            memory_bytes=max(memory, default=None),
            others=others,
            duration_s=clock.now(),
        )
    )


def slot_candidates(most: int) -> list[int]:
    """1, 2, 4 and so on, and the setting itself."""
    return sorted({*(2**power for power in range(most.bit_length())), most})


async def _scan(bench: _Bench, most: int, effort: Effort) -> tuple[OperatingPoint, ...]:
    """Reference requests with few in flight, then more, as long as there is time."""
    points: list[OperatingPoint] = []
    for slots in slot_candidates(most):
        if points and bench.clock.now() > SCAN_SHARE * effort.budget_s:
            break
        plan = Plan((REFERENCE,), slots=slots, seed=0, until_s=0, most_rounds=1)
        turns = await bench.run(plan, slots, limit_s=effort.limit_s)
        seconds = fmean(turn.seconds for turn in turns)
        points.append(OperatingPoint(slots, REFERENCE.tokens / seconds, slots * seconds))
    return tuple(points)


class _Bench:
    """The replicas, and what it takes to put load on them."""

    def __init__(
        self, model: ModelSettings, replicas: Sequence[Replica], clock: Clock, *, seed: int, reporter: _Reporter
    ) -> None:
        self.clock = clock
        self._seed = seed
        self._numbers = count()
        self._reporter = reporter
        self._servers = [_server(model, replica) for replica in replicas]

    async def __aenter__(self) -> _Bench:
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            await server.client.close()

    async def run(self, plan: Plan, slots: int, *, limit_s: float) -> list[Turn]:
        """Put all replicas through the plan."""
        stations = [
            Station(index, self._measure(server), plan, slots, self.clock) for index, server in enumerate(self._servers)
        ]
        await run_stations(stations, limit_s=max(1.0, limit_s))
        return [turn for station in stations for turn in station.turns]

    def _measure(self, server: Server) -> Measure:
        async def measure(shape: Shape) -> Sample:
            number = next(self._numbers)
            self._reporter.doing(f"{shape} tokens")
            prompts = TokenPrompts(shape.input_tokens, shape.output_tokens, self._seed, DEFAULT_VOCABULARY)
            return await ask(server, prompts.prompt(number), number, self.clock.now(), self.clock)

        return measure


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
    )


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
            progress(self._words, min(1.0, self._clock.now() / self._effort.budget_s))
            await asyncio.sleep(0.5)
