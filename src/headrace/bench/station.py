"""One replica under a profile's load: always as many requests in flight as it has slots, block after block.

All stations follow one plan at their own pace. A station that is through before the others keeps its replica busy with
requests that are not measured, since a replica measured beside an idle core promises more than a full machine delivers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

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


@dataclass(slots=True)
class _Open:
    """A block that this station works on."""

    block: Block
    begin_s: float
    ends_s: list[float] = field(default_factory=list)
    in_flight: int = 0


class Station:
    """Drives one replica through the plan."""

    def __init__(self, index: int, measure: Measure, plan: Plan, slots: int, clock: Clock) -> None:
        self._index = index
        self._measure = measure
        self._plan = plan
        self._slots = slots
        self._clock = clock
        self._open: _Open | None = None
        self._next = 0
        self._in_flight = 0
        self.turns: list[Turn] = []
        self.through = asyncio.Event()
        """Every block of the plan is measured."""

    async def run(self) -> None:
        """Keep the replica loaded until cancelled. Raises BenchError when a request does not go as asked."""
        workers = [asyncio.create_task(self._worker()) for _ in range(self._slots)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _worker(self) -> None:
        while True:
            work = self._current()
            if work is None:
                check(FILLER, await self._measure(FILLER))
                continue
            work.in_flight += 1
            self._in_flight += 1
            check(work.block.shape, await self._measure(work.block.shape))
            work.in_flight -= 1
            self._in_flight -= 1
            self._completed(work)

    def _current(self) -> _Open | None:
        """The block to send a request of now. With one slot a block ends with its last request; with more, requests of
        it go on being sent until its last measured one is complete, or the window would end in a drain."""
        now = self._clock.now()
        if self._open is None and not self.through.is_set():
            block = self._plan.block(self._next, now)
            if block is None:
                self.through.set()
            else:
                self._open = _Open(block, now)
                self._next += 1
        return self._open

    def _completed(self, work: _Open) -> None:
        if self._in_flight > work.in_flight:
            return  # the block before still drains beside this one
        shape = work.block.shape
        work.ends_s.append(self._clock.now())
        if len(work.ends_s) != work.block.completions:
            return
        for seconds in steady_seconds(work.begin_s, work.ends_s, work.block):
            self.turns.append(Turn(self._index, shape, seconds))
            self._plan.took(shape, seconds)
        self._open = None


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
