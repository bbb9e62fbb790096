"""A load run from the first request to its figures: calibration of the client, load, looks while it runs, summary."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from headrace.bench import slo as objectives
from headrace.bench.client.calibrate import calibrate
from headrace.bench.client.records import Outcome, Records
from headrace.bench.client.run import Run
from headrace.bench.client.spec import ClientSpec
from headrace.bench.results import timings
from headrace.bench.results.summary import Summary, summarize
from headrace.bench.slo import Slo
from headrace.bench.workload.spec import Arrivals, ClosedLoop, Constant, Gamma, Poisson
from headrace.policy.work import Weights

LOOK_EVERY_S = 0.5
FEWEST_CALIBRATED = 20
"""Requests, below which a calibration shows nothing."""
RECENT_S = 10.0
"""What a look shows of tokens/s and latency is of the requests that ended in so many seconds."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """How a run stands at this moment."""

    elapsed_s: float
    ended: int
    in_flight: int
    ok: int
    rejected: int
    failed: int
    """Failed, timed out or unavailable."""
    tokens_per_s: float
    """Input + output of answers that ended lately."""
    ttft_p50_s: float | None
    """From when due, lately."""
    attainment: float | None
    """Of the SLO's first criterion, so far."""


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

    async def measure(
        self, directory: Path, stop: asyncio.Event, on_look: Callable[[Look], None] | None = None
    ) -> Measured:
        """Load, until its amount is done or ``stop`` is set. ``directory`` takes the files of the run.

        Raises BenchError where no load can be put on the server; what the server does is a result and no error.
        """
        before_s = await self._null(stop, _rate(self.spec.load.arrivals))
        run = Run(self.spec, directory)
        await run.start()
        finishing = asyncio.create_task(run.finish())
        stopping = asyncio.create_task(stop.wait())
        try:
            while not finishing.done() and not stopping.done():
                await asyncio.wait({finishing, stopping}, timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                if on_look is not None:
                    on_look(self._look(run.poll(), time.monotonic() - run.zero))
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
        summary = summarize(
            records,
            spec=self.spec.load,
            slo=self.slo,
            weights=self.weights,
            target=self.target,
            simulated=self.simulated,
            null_before_s=before_s,
            null_after_s=after_s,
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

    def _look(self, records: Records, elapsed_s: float) -> Look:
        requests = records.requests
        outcomes = np.bincount(requests["outcome"], minlength=len(Outcome))
        recent = requests["end_s"] > elapsed_s - RECENT_S
        answered = recent & (requests["outcome"] == Outcome.OK)
        tokens = int(requests["input_tokens"][answered].sum()) + int(requests["output_tokens"][answered].sum())
        ttft = timings.ttft_scheduled_s(records)[answered]
        ttft = ttft[~np.isnan(ttft)]
        return Look(
            elapsed_s=elapsed_s,
            ended=len(requests) - int(outcomes[Outcome.UNFINISHED]),
            in_flight=self._in_flight(records, elapsed_s),
            ok=int(outcomes[Outcome.OK]),
            rejected=int(outcomes[Outcome.REJECTED]),
            failed=int(outcomes[[Outcome.FAILED, Outcome.TIMED_OUT, Outcome.UNAVAILABLE]].sum()),
            tokens_per_s=tokens / min(RECENT_S, max(elapsed_s, 1e-9)),
            ttft_p50_s=float(np.median(ttft)) if len(ttft) else None,
            attainment=self._attainment(records),
        )

    def _in_flight(self, records: Records, elapsed_s: float) -> int:
        arrivals = self.spec.load.arrivals
        if isinstance(arrivals, ClosedLoop):
            return arrivals.users
        due = int(np.searchsorted(records.planned_s or (), elapsed_s, side="right"))
        return max(0, due - int(records.requests["measured"].sum()))

    def _attainment(self, records: Records) -> float | None:
        if self.slo is None:
            return None
        criterion = self.slo.criteria[0]
        judged = objectives.judged(records, criterion)
        return float(objectives.good(records, criterion)[judged].mean()) if judged.any() else None


def _rate(arrivals: Arrivals) -> float | None:
    match arrivals:
        case Constant(rate=rate) | Poisson(rate=rate) | Gamma(rate=rate):
            return rate
    return None
