"""A load run from the first request to its figures: calibration of the client, load, looks while it runs, summary."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from headrace.bench import segments
from headrace.bench.client.calibrate import calibrate
from headrace.bench.client.joined import Part, join
from headrace.bench.client.records import Outcome, Records
from headrace.bench.client.run import Run
from headrace.bench.client.spec import ClientSpec
from headrace.bench.look import Look, Watch
from headrace.bench.results.summary import Summary, summarize
from headrace.bench.segments import Began, Earlier, Ended, worst
from headrace.bench.slo import Slo
from headrace.bench.workload.spec import Arrivals, ClosedLoop, Constant, Gamma, Poisson
from headrace.policy.work import Weights

LOOK_EVERY_S = 0.5
LOOK_EVERY_S_BUSY = 1.0
BUSY_REQUESTS_PER_S = 1000.0
"""Above it, looks are for people and the processor for the client."""
FEWEST_CALIBRATED = 20
"""Requests, below which a calibration shows nothing."""


@dataclass(frozen=True, slots=True)
class Measured:
    records: Records
    summary: Summary
    interrupted: bool


@dataclass(frozen=True, slots=True)
class Session:
    """What is to be measured, and how it is judged."""

    spec: ClientSpec
    slo: Slo | None = None
    weights: Weights | None = None
    target: str = ""
    """In words, for the report."""
    simulated: bool = False
    calibration_s: float = 2.0
    """Of the same load against a server that answers at once, before and after; 0 for none."""
    server: dict[str, str] = field(default_factory=dict)
    """What it tells of itself, in words."""
    earlier: Earlier = field(default_factory=Earlier)
    """What was measured of the load before it was interrupted: only the rest is sent."""

    async def measure(
        self, directory: Path, stop: asyncio.Event, on_look: Callable[[Look], None] | None = None
    ) -> Measured:
        """Load, until its amount is done or ``stop`` is set. ``directory`` takes the files of the run, from which
        ``segments.earlier`` can take it up.

        Raises BenchError where no load can be put on the server; what the server does is a result and no error.
        """
        rest = self.earlier.rest
        if rest is None:
            return self._measured(self.earlier.parts, self.earlier.null_s, interrupted=False)
        before_s = await self._null(stop, _rate(self.spec.load.arrivals))
        spec = msgspec.structs.replace(self.spec, rest=rest)
        run = Run(spec, directory)
        watch = Watch(spec, self.slo, run.sessions)
        await run.start()
        began = Began(at=time.time(), rest=rest, prose=spec.load.content.prose, null_s=before_s)
        every_s = LOOK_EVERY_S
        finishing = asyncio.create_task(run.finish())
        stopping = asyncio.create_task(stop.wait())
        try:
            segments.begin(directory, began)
            while not finishing.done() and not stopping.done():
                await asyncio.wait({finishing, stopping}, timeout=every_s, return_when=asyncio.FIRST_COMPLETED)
                if on_look is not None:
                    look = watch.look(run.poll(), time.monotonic() - run.zero)
                    busy = look.ended > BUSY_REQUESTS_PER_S * look.elapsed_s
                    every_s = LOOK_EVERY_S_BUSY if busy else LOOK_EVERY_S
                    on_look(look)
            interrupted = not finishing.done()
            if interrupted:
                await run.stop(abort=True)
            records = await finishing
        finally:
            stopping.cancel()
            if not finishing.done():
                finishing.cancel()
                await asyncio.gather(finishing, return_exceptions=True)
        answered = records.requests["outcome"] == Outcome.OK
        after_s = await self._null(stop, answered.sum() / max(records.requests["end_s"].max(initial=0.0), 1e-9))
        ended = Ended(processes=records.processes, stolen_share=records.stolen_share, null_s=after_s)
        segments.end(directory, ended)
        parts = (*self.earlier.parts, Part(records, began.at, rest.schedule_s))
        null_s = worst(self.earlier.null_s, (before_s, after_s))
        return self._measured(parts, null_s, interrupted=interrupted)

    def _measured(
        self, parts: tuple[Part, ...], null_s: tuple[float | None, float | None], *, interrupted: bool
    ) -> Measured:
        records = join(parts)
        summary = summarize(
            records,
            spec=self.spec.load,
            slo=self.slo,
            weights=self.weights,
            target=self.target,
            simulated=self.simulated,
            server=self.server,
            null_before_s=null_s[0],
            null_after_s=null_s[1],
        )
        return Measured(records, summary, interrupted)

    async def _null(self, stop: asyncio.Event, requests_per_s: float | None) -> float | None:
        """TTFT p99 of such load against a null server; None where it is not measured.

        A closed loop has no rate before it has run, and a server that answers at once would be flooded by its users;
        there, and where the rate is too low to show anything, one user goes round.
        """
        if self.calibration_s <= 0 or stop.is_set():
            return None
        enough = requests_per_s is not None and requests_per_s * self.calibration_s >= FEWEST_CALIBRATED
        arrivals = Poisson(float(requests_per_s)) if enough and requests_per_s is not None else ClosedLoop(users=1)
        load = msgspec.structs.replace(self.spec.load, arrivals=arrivals)
        found = await calibrate(msgspec.structs.replace(self.spec, load=load), self.calibration_s)
        return found.ttft_p99_s


def _rate(arrivals: Arrivals) -> float | None:
    match arrivals:
        case Constant(rate=rate) | Poisson(rate=rate) | Gamma(rate=rate):
            return rate
    return None
