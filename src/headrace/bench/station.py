"""One replica under a profile's load: as many requests in flight as it has slots, block after block.

All stations follow one plan at their own pace. A station that is through before the others keeps its replica busy with
requests that are not measured, since a replica measured beside an idle core promises more than a full machine delivers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count

from headrace.bench.errors import BenchError
from headrace.bench.loops import Clock
from headrace.bench.samples import Sample
from headrace.bench.shapes import Block, Plan, Shape, steady_seconds

FILLER = Shape(128, 64)
"""What a station sends while it waits for the others: short, so that it can be broken off soon."""

Measure = Callable[[Shape], Awaitable[Sample]]
"""Sends one request of the shape with a prompt that was never sent before."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One sample: replica seconds of a request of this shape in a closed loop."""

    station: int
    shape: Shape
    seconds: float
    requests: int
    """That it was measured over."""


class Station:
    """Drives one replica through the plan."""

    def __init__(self, index: int, measure: Measure, plan: Plan, slots: int, clock: Clock) -> None:
        self._index = index
        self._measure = measure
        self._plan = plan
        self._slots = slots
        self._clock = clock
        self.turns: list[Turn] = []
        self.through = asyncio.Event()
        """Every block of the plan is measured."""

    async def run(self) -> None:
        """Keep the replica loaded until cancelled. Raises BenchError when a request does not go as asked."""
        for number in count():
            block = self._plan.block(number, self._clock.now())
            if block is None:
                break
            await self._run_block(block)
        self.through.set()
        while True:
            await self._ask(FILLER)

    async def _run_block(self, block: Block) -> None:
        """All slots begin at once and end together: with many in flight the time that a request takes depends on how
        they are staggered, and that must not come from the block before."""
        begin_s = self._clock.now()
        ends_s: list[float] = []

        async def slot() -> None:
            # Beyond the last measured completion nothing is sent, but until then every slot is kept full.
            while len(ends_s) < block.completions:
                await self._ask(block.shape)
                ends_s.append(self._clock.now())

        if self._slots == 1:
            await slot()
        else:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self._slots):
                        group.create_task(slot())
            except ExceptionGroup as faults:
                raise faults.exceptions[0] from None
        samples = steady_seconds(begin_s, ends_s, block)
        for seconds in samples:
            self.turns.append(Turn(self._index, block.shape, seconds, block.measured // len(samples)))
            self._plan.took(block.shape, seconds)

    async def _ask(self, shape: Shape) -> None:
        check(shape, await self._measure(shape))


def check(shape: Shape, sample: Sample) -> None:
    """Raises BenchError for a request that did not go exactly as asked."""
    if sample.outcome != "ok":
        status = "" if sample.status is None else f" with status {sample.status}"
        raise BenchError(f"a replica failed under a {shape} request{status}: {sample.error or sample.outcome}")
    if (sample.input_tokens, sample.output_tokens) != (shape.input_tokens, shape.output_tokens):
        raise BenchError(
            f"asked for {shape} tokens and got {sample.input_tokens}/{sample.output_tokens}; a profile needs an engine "
            "that takes token-id prompts and honours ignore_eos"
        )
    if sample.cached_tokens:
        raise BenchError(f"{sample.cached_tokens} input tokens came from a cache; a profile is measured without one")


async def run_stations(stations: Sequence[Station], *, limit_s: float) -> None:
    """Load all replicas until every station is through. Raises BenchError, also after ``limit_s``."""
    runs = [asyncio.create_task(station.run()) for station in stations]
    through = asyncio.create_task(_all_through(stations))
    everything: list[asyncio.Task[None]] = [*runs, through]
    try:
        done, _ = await asyncio.wait(everything, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise BenchError(
                f"the measurement was not through after {limit_s:.0f} s; the machine is too slow or too busy"
            )
        for task in done:
            task.result()
    finally:
        for task in everything:
            task.cancel()
        await asyncio.gather(*everything, return_exceptions=True)


async def _all_through(stations: Sequence[Station]) -> None:
    for station in stations:
        await station.through.wait()
