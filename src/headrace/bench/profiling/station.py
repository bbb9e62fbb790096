"""One replica under a profile's load: so many requests in flight, block after block.

All stations follow one plan at their own pace. A station that is through before the others keeps its replica busy with
requests that are not measured, since a replica measured beside an idle core promises more than a full machine delivers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import fmean

from headrace.bench.errors import BenchError
from headrace.bench.profiling.asking import Asked
from headrace.bench.profiling.clock import Clock
from headrace.bench.profiling.disturbance import CoreWatch
from headrace.bench.profiling.plan import Block, Plan
from headrace.bench.profiling.prompts import HEAD_TOKENS
from headrace.bench.profiling.shapes import Case, Shape

FILLER = Shape(128, 64)
"""What a station sends while it waits for the others: short, so that it can be broken off soon."""

SETTLE = Shape(8, 1)
"""Sent before the first block: when it is answered, nothing of a broken-off request is left in the engine."""

Measure = Callable[[Shape, int], Awaitable[Asked]]
"""Sends request (shape, number)."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One block as measured."""

    station: int
    block: Block
    seconds: float
    """Replica seconds of a request."""
    asked: tuple[Asked, ...]
    """The requests measured, all complete."""
    others: float | None = None
    """Part of the cores' time that others used meanwhile; None where it is not known."""
    disturbed: bool = False

    @property
    def case(self) -> Case:
        return self.block.case

    @property
    def cached_tokens(self) -> float:
        """Mean of what the engine told."""
        return fmean(asked.cached_tokens or 0 for asked in self.asked)

    @property
    def prefill_s(self) -> float | None:
        """From sending to the first token, where nothing else was in flight."""
        if self.case.in_flight > 1:
            return None
        return fmean(asked.first_s - asked.sent_s for asked in self.asked if asked.first_s is not None)

    @property
    def decode_s(self) -> float | None:
        """From the first token to the last, where nothing else was in flight; None for one token."""
        tpots = [asked.tpot_s for asked in self.asked if asked.tpot_s is not None]
        if self.case.in_flight > 1 or not tpots:
            return None
        return fmean(tpots) * (self.case.shape.output_tokens - 1)


class Station:
    """Drives one replica through the plan."""

    def __init__(
        self,
        index: int,
        measure: Measure,
        plan: Plan,
        clock: Clock,
        numbers: Iterator[int],
        watch: CoreWatch | None = None,
    ) -> None:
        """``numbers``: of requests, none twice in a measurement."""
        self._index = index
        self._measure = measure
        self._plan = plan
        self._clock = clock
        self._numbers = numbers
        self._watch = watch
        self._since = None if watch is None else watch.look()
        self.turns: list[Turn] = []
        self.through = asyncio.Event()
        """Every block of the plan is measured."""

    async def run(self) -> None:
        """Keep the replica loaded until cancelled. Raises BenchError when a request does not go as asked."""
        await self._ask(SETTLE)
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
        ends_s = [self._clock.now()]
        answers: list[Asked] = []

        async def slot() -> None:
            # Beyond the last measured completion nothing is sent, but until then every slot is kept full.
            while len(answers) < block.completions:
                answers.append(await self._ask(block.case.shape))
                ends_s.append(self._clock.now())

        if block.case.in_flight == 1:
            await slot()
        else:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(block.case.in_flight):
                        group.create_task(slot())
            except ExceptionGroup as faults:
                raise faults.exceptions[0] from None
        seconds = fmean((ends_s[end] - ends_s[begin]) / block.measured for begin, end in block.windows())
        others = self._others()
        disturbed = self._watch is not None and others is not None and others > self._watch.most
        measured = tuple(answers[block.skipped : block.completions])
        self.turns.append(Turn(self._index, block, seconds, measured, others, disturbed))
        self._plan.took(block.case, seconds, disturbed=disturbed)

    def _others(self) -> float | None:
        """Since this was last known; a block too short to tell is judged together with those before it."""
        if self._watch is None or self._since is None:
            return None
        others = self._watch.others(self._since)
        if others is not None:
            self._since = self._watch.look()
        return others

    async def _ask(self, shape: Shape) -> Asked:
        asked = await self._measure(shape, next(self._numbers))
        check(shape, asked)
        return asked


def check(shape: Shape, asked: Asked) -> None:
    """Raises BenchError for a request that did not go exactly as asked."""
    if asked.fault is not None:
        raise BenchError(f"a replica failed under a {shape} request: {asked.fault}")
    if (asked.input_tokens, asked.output_tokens) != (shape.input_tokens, shape.output_tokens):
        raise BenchError(
            f"asked for {shape} tokens and got {asked.input_tokens}/{asked.output_tokens}; a profile needs an engine "
            "that takes token-id prompts and honours ignore_eos"
        )
    if (asked.cached_tokens or 0) >= shape.cached_tokens + HEAD_TOKENS:
        raise BenchError(
            f"{asked.cached_tokens} input tokens of a {shape} request came from a cache, and no other request had them"
        )


async def run_stations(stations: Sequence[Station], *, limit_s: float, needed: bool = True) -> None:
    """Load all replicas until every station is through, or for ``limit_s``; where it is ``needed`` that they are
    through, the latter raises BenchError, as does a request that does not go as asked."""
    runs = [asyncio.create_task(station.run()) for station in stations]
    through = asyncio.create_task(_all_through(stations))
    everything: list[asyncio.Task[None]] = [*runs, through]
    try:
        done, _ = await asyncio.wait(everything, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if not done and needed:
            raise BenchError(
                f"a part of the measurement was not through after {limit_s:.0f} s more; the machine is too slow or too "
                "busy: leave other work, give it more --minutes, or use --quick"
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
