"""A load run from the first request to its figures: calibration of the client, load, looks while it runs, summary."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field, replace
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
LOOK_EVERY_S_BUSY = 1.0
BUSY_REQUESTS_PER_S = 1000.0
"""Above it, looks are for people and the processor for the client."""
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
    server: dict[str, str] = field(default_factory=dict)
    """What it tells of itself, in words."""

    async def measure(
        self, directory: Path, stop: asyncio.Event, on_look: Callable[[Look], None] | None = None
    ) -> Measured:
        """Load, until its amount is done or ``stop`` is set. ``directory`` takes the files of the run.

        Raises BenchError where no load can be put on the server; what the server does is a result and no error.
        """
        before_s = await self._null(stop, _rate(self.spec.load.arrivals))
        run, watch = Run(self.spec, directory), _Watch(self.spec, self.slo)
        await run.start()
        every_s = LOOK_EVERY_S
        finishing = asyncio.create_task(run.finish())
        stopping = asyncio.create_task(stop.wait())
        try:
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
        summary = summarize(
            records,
            spec=self.spec.load,
            slo=self.slo,
            weights=self.weights,
            target=self.target,
            simulated=self.simulated,
            server=self.server,
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


class _Watch:
    """Counts what is new at each look, so that the looks of a long run cost no more than those of a short one."""

    def __init__(self, spec: ClientSpec, slo: Slo | None) -> None:
        self._arrivals = spec.load.arrivals
        self._criterion = None if slo is None else slo.criteria[0]
        self._seen = 0
        """Requests."""
        self._recent = 0
        """Index of the first that ended lately. None before it will ever be recent again."""
        self._outcomes = np.zeros(len(Outcome), np.int64)
        self._measured = 0
        self._judged = 0
        self._good = 0

    def look(self, records: Records, elapsed_s: float) -> Look:
        """``records``: those of the last look, and more after them."""
        self._count(replace(records, requests=records.requests[self._seen :]))
        self._seen = len(records.requests)
        lately = records.requests["end_s"][self._recent :] > elapsed_s - RECENT_S
        self._recent += int(np.argmax(lately)) if lately.any() else len(lately)
        recent = replace(records, requests=records.requests[self._recent :])
        requests = recent.requests
        answered = (requests["end_s"] > elapsed_s - RECENT_S) & timings.ok(recent)
        tokens = int(requests["input_tokens"][answered].sum()) + int(requests["output_tokens"][answered].sum())
        ttft = timings.ttft_scheduled_s(recent)[answered]
        ttft = ttft[~np.isnan(ttft)]
        return Look(
            elapsed_s=elapsed_s,
            ended=self._seen - int(self._outcomes[Outcome.UNFINISHED]),
            in_flight=self._in_flight(records, elapsed_s),
            ok=int(self._outcomes[Outcome.OK]),
            rejected=int(self._outcomes[Outcome.REJECTED]),
            failed=int(self._outcomes[[Outcome.FAILED, Outcome.TIMED_OUT, Outcome.UNAVAILABLE]].sum()),
            tokens_per_s=tokens / min(RECENT_S, max(elapsed_s, 1e-9)),
            ttft_p50_s=float(np.median(ttft)) if len(ttft) else None,
            attainment=self._good / self._judged if self._judged else None,
        )

    def _count(self, new: Records) -> None:
        self._outcomes += np.bincount(new.requests["outcome"], minlength=len(Outcome))
        self._measured += int(timings.scheduled(new).sum())
        if self._criterion is not None:
            judged = objectives.judged(new, self._criterion)
            self._judged += int(judged.sum())
            self._good += int((objectives.good(new, self._criterion) & judged).sum())

    def _in_flight(self, records: Records, elapsed_s: float) -> int:
        if isinstance(self._arrivals, ClosedLoop):
            return self._arrivals.users
        return max(0, bisect_right(records.planned_s or (), elapsed_s) - self._measured)


def _rate(arrivals: Arrivals) -> float | None:
    match arrivals:
        case Constant(rate=rate) | Poisson(rate=rate) | Gamma(rate=rate):
            return rate
    return None
