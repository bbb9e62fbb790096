"""Carries a capacity search out: each probe is a load run on a live server, looked at while it runs."""

from __future__ import annotations

import asyncio
import math
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from headrace.bench.capacity.answer import Answer
from headrace.bench.capacity.evidence import Told
from headrace.bench.capacity.observe import observe, too_late_s
from headrace.bench.capacity.protocol import Observed, Probe
from headrace.bench.capacity.search import Search
from headrace.bench.client.records import Outcome, Records
from headrace.bench.client.run import Run
from headrace.bench.client.spec import ClientSpec
from headrace.bench.errors import BenchError
from headrace.bench.results.findings import Finding, findings
from headrace.bench.results.summary import summarize
from headrace.bench.slo import Slo
from headrace.bench.workload.source import open_workload
from headrace.bench.workload.spec import Amount, ClosedLoop, Dataset, Gamma, LoadSpec, OpenLoop, Poisson
from headrace.policy.work import Weights

LOOK_EVERY_S = 0.5
OF_A_PROBE = frozenset(("unfinished", "no_answer", "nothing_sent"))
"""Findings that say nothing about the server where load is cut off as soon as enough is known."""
SETTLE_S = 1.0
"""Between two probes: the server lets go of what the last one cut off."""


@dataclass(frozen=True, slots=True)
class Look:
    """How the search stands; told about twice a second."""

    probe: Probe
    observed: Observed
    spent_s: float
    interval: tuple[float, float] | None
    """Of the capacity, requests/s."""


@dataclass(frozen=True, slots=True)
class Found:
    """What came of it."""

    answer: Answer | None
    """None where it was interrupted."""
    findings: tuple[Finding, ...]
    """About the server and the load, over all probes."""
    told: tuple[Told, ...]


class LiveSearch:
    """Make it, ``await run()``; setting ``stop`` ends it at once with what is known."""

    def __init__(
        self,
        search: Search,
        spec: ClientSpec,
        slo: Slo,
        stop: asyncio.Event,
        *,
        cv: float | None = None,
        weights: Weights | None = None,
        on_look: Callable[[Look], None] | None = None,
        on_told: Callable[[Sequence[Told]], None] | None = None,
    ) -> None:
        """``spec``: its arrivals, amount and seed are replaced in each probe, and a dataset is shuffled anew. ``cv``:
        of the
        gaps between arrivals; None for Poisson. ``on_told``: after each probe, with all so far.

        Raises BenchError for a dataset that is none.
        """
        workload = open_workload(spec.load)
        self._search, self._spec, self._slo, self._cv, self._weights = search, spec, slo, cv, weights
        outputs = workload.lengths[:, 1]
        longest = math.inf if np.isnan(outputs).any() else float(outputs.max())
        self._late_s = too_late_s(slo.criteria, longest)
        self._on_look, self._on_told = on_look, on_told
        self._stop = stop
        self._findings: dict[str, Finding] = {}

    async def run(self) -> Found:
        """Raises BenchError where no load can be put on the server."""
        answer: Answer | None = None
        while not self._stop.is_set():
            step = self._search.next()
            if isinstance(step, Answer):
                answer = step
                break
            observed = await self._probe(step)
            if self._stop.is_set():
                break
            self._search.tell(step, observed)
            if self._on_told is not None:
                self._on_told(self._search.told)
        return Found(answer, tuple(self._findings.values()), tuple(self._search.told))

    async def _probe(self, probe: Probe) -> Observed:
        began = time.monotonic()
        spec = msgspec.structs.replace(self._spec, load=self._load(probe))
        with tempfile.TemporaryDirectory(prefix="headrace-capacity-") as directory:
            run = Run(spec, Path(directory))
            await run.start()
            finishing = asyncio.create_task(run.finish())
            try:
                ended = await self._watch(run, probe, finishing, began)
                now_s = time.monotonic() - run.zero
                await run.stop(abort=True)
                records = await finishing
            except BaseException:
                finishing.cancel()
                await asyncio.gather(finishing, return_exceptions=True)
                raise
        if not self._stop.is_set():
            if probe.phase == "floor":
                _answered(records, spec)
            await asyncio.sleep(SETTLE_S)
        observed = self._observe(records, probe, now_s, time.monotonic() - began, ended=ended)
        return replace(observed, finished=True, invalid=self._judge(records, spec))

    async def _watch(self, run: Run, probe: Probe, finishing: asyncio.Task[Records], began: float) -> bool:
        """Until the probe may end; whether the run ended by itself."""
        stopping = asyncio.create_task(self._stop.wait())
        try:
            while True:
                await asyncio.wait({finishing, stopping}, timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                if finishing.done() or stopping.done():
                    return finishing.done()
                now_s = time.monotonic() - run.zero
                observed = self._observe(run.poll(), probe, now_s, time.monotonic() - began, ended=False)
                if self._on_look is not None:
                    spent_s = self._search.spent_s + observed.elapsed_s
                    self._on_look(Look(probe, observed, spent_s, self._search.interval))
                if self._search.enough(probe, observed):
                    return False
        finally:
            stopping.cancel()

    def _observe(self, records: Records, probe: Probe, now_s: float, elapsed_s: float, *, ended: bool) -> Observed:
        return observe(
            records,
            probe,
            self._slo.criteria,
            now_s=now_s,
            elapsed_s=elapsed_s,
            late_s=self._late_s,
            weights=self._weights,
            ended=ended,
        )

    def _load(self, probe: Probe) -> LoadSpec:
        load = self._spec.load
        source = load.source
        if isinstance(source, Dataset):
            source = msgspec.structs.replace(
                source, shuffle=True
            )  # else every probe would begin with the same requests
        return msgspec.structs.replace(
            load,
            source=source,
            content=msgspec.structs.replace(load.content, salt=secrets.randbits(32)),
            arrivals=self._arrivals(probe),
            amount=self._amount(probe),
            seed=probe.seed,
        )

    def _amount(self, probe: Probe) -> Amount:
        if probe.rate is None:
            return Amount(requests=probe.max_requests)
        # By time, so that load is kept on until the last of the probe's requests has ended.
        return Amount(duration_s=max(probe.max_requests / probe.rate, probe.min_s))

    def _arrivals(self, probe: Probe) -> ClosedLoop | OpenLoop:
        if probe.rate is None:
            assert probe.users is not None
            return ClosedLoop(users=probe.users)
        return Poisson(probe.rate) if self._cv is None else Gamma(probe.rate, self._cv)

    def _judge(self, records: Records, spec: ClientSpec) -> tuple[str, ...]:
        """What is wrong with the client or the machine, so that the probe says nothing about the server."""
        summary = summarize(records, spec=spec.load, slo=self._slo, weights=self._weights)
        for finding in summary.findings:
            if finding.name not in OF_A_PROBE:
                self._findings.setdefault(finding.name, finding)
        return tuple(
            f"{gate.name}: {gate.words}"
            for gate in summary.gates
            if gate.passed is False and gate.about in ("client", "machine")
        )


def _answered(records: Records, spec: ClientSpec) -> None:
    """Raises BenchError where one stream alone got none but bad answers: nothing can be searched. One that was only not
    there in time is none of these."""
    outcomes = records.requests["outcome"]
    ended = outcomes[outcomes != Outcome.UNFINISHED]
    if not len(ended) or (ended == Outcome.OK).any():
        return
    said = [finding.words for finding in findings(records, spec.load) if finding.name != "no_answer"]
    raise BenchError(f"no request was answered, so there is no capacity to be found: {'; '.join(said[:3])}")
