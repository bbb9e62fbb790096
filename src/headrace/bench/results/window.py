"""The steady window of a run: after its warm-up, before its drain."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.bench.client.records import Records
from headrace.bench.results import rates, timings
from headrace.bench.results.span import Span, inside
from headrace.bench.workload.spec import ClosedLoop, LoadSpec

BATCHES = 100
OBSERVATIONS_PER_BATCH = 5
"""What the 5 of MSER-5 stands for (White, Cobb and Spratt 2000)."""
WHOLE = "; figures are of the whole run. Send less, or for longer"
FEWEST_REQUESTS = 50
"""Below this, a mean over batches tells the single requests and not a state."""
KEPT = 0.25
"""The part of the batches at the end that is never cut away: a few of them can agree by chance."""
PARTS = 10
"""Of the window, in which a drift is looked for: so long that the means of neighbours hardly depend on each other."""
SIGNIFICANT_T = 3.36
"""Student's t of 8 degrees of freedom, two-sided 1%."""
DRIFT = 0.5
"""Of the mean, over the window: less is within what random arrivals do near a server's capacity."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds on the run's clock."""

    load_start_s: float
    load_end_s: float
    """The load that was asked for lasted until here; what follows is drain, or load that is kept on."""
    start_s: float | None
    """Where the steady window begins, which ends with the load; None for no steady state."""
    signal: str
    """What was watched."""
    words: str
    loads: tuple[Span, ...] = ()
    """Of a run that was interrupted: where there was load between its start and its end; empty: everywhere."""
    steady: tuple[Span, ...] = ()
    """And where it was steady, each segment after a warm-up of its own; empty: as ``start_s`` says."""

    @property
    def load_spans(self) -> tuple[Span, ...]:
        return self.loads or (Span(self.load_start_s, self.load_end_s),)

    @property
    def steady_spans(self) -> tuple[Span, ...]:
        """Empty for no steady state."""
        if self.start_s is None:
            return ()
        return self.steady or (Span(self.start_s, self.load_end_s),)


def steady(records: Records, spec: LoadSpec) -> Window:
    """The part of the load over which its mean is known best, by MSER-5, if it does not drift there.

    MSER finds where a warm-up ends; a backlog that grows in steps can look settled to it, so a straight line through
    the means of parts of the window has the last word. On random traffic at 0.8 of what a server holds, 1 to 5% of
    steady runs are taken for unsteady; at 1.1 of it, about 90% of backlogs are seen.

    An open loop is watched by its requests in flight, where a backlog shows. A closed loop fixes those, so there it is
    the tokens/s.

    A run that was interrupted is looked at segment by segment: each begins with an empty server. One that is too short
    to show anything is left out; where another is not steady, the run is not.
    """
    loads = _loads(records, spec)
    due_s = records.requests["scheduled_s"][records.requests["measured"]]
    if len(loads) == 1:
        return _of_segment(records, spec, loads[0], len(due_s))
    measured = [int(np.count_nonzero(inside((load,), due_s))) for load in loads]
    found = [_of_segment(records, spec, load, count) for load, count in zip(loads, measured, strict=True)]
    judged = [one for one, count in zip(found, measured, strict=True) if count >= FEWEST_REQUESTS]
    settled = [Span(one.start_s, one.load_end_s) for one in judged if one.start_s is not None]
    words = (
        f"segment {number} ({load.start_s:.1f} to {load.end_s:.1f} s): {one.words}"
        for number, (one, load) in enumerate(zip(found, loads, strict=True), start=1)
    )
    return Window(
        load_start_s=0.0,
        load_end_s=loads[-1].end_s,
        start_s=settled[0].start_s if settled and len(settled) == len(judged) else None,
        signal=found[0].signal,
        words="; ".join(words),
        loads=loads,
        steady=tuple(settled),
    )


def _of_segment(records: Records, spec: LoadSpec, load: Span, measured: int) -> Window:
    """``measured``: requests in it."""
    start, end = load.start_s, load.end_s
    closed = isinstance(spec.arrivals, ClosedLoop)
    signal = "output tokens/s" if closed else "requests in flight"

    def found(steady_s: float | None, words: str) -> Window:
        return Window(load_start_s=start, load_end_s=end, start_s=steady_s, signal=signal, words=words)

    if measured < FEWEST_REQUESTS or end <= start:
        return found(None, f"no steady window is looked for in fewer than {FEWEST_REQUESTS} requests")
    edges = np.linspace(start, end, BATCHES * OBSERVATIONS_PER_BATCH + 1)
    observed = rates.output_rate(records, edges) if closed else rates.in_flight(records, edges)
    batches = observed.reshape(BATCHES, OBSERVATIONS_PER_BATCH).mean(axis=1)
    cut = truncation(batches)
    if cut > BATCHES / 2:
        return found(None, f"no steady state: the {signal} had not settled by the middle of the load{WHOLE}")
    change = drift(batches[cut:])
    if change is not None:
        way = "rose" if change > 0 else "fell"
        return found(None, f"no steady state: the {signal} {way} by {abs(change):.0%} over the load{WHOLE}")
    share = f"{cut / BATCHES:.0%} of the load cut off as warm-up" if cut else "no warm-up seen"
    return found(start + (end - start) * cut / BATCHES, f"MSER-5 over the {signal}: {share}")


def _loads(records: Records, spec: LoadSpec) -> tuple[Span, ...]:
    """Of each segment; one lasts on the schedule until the next begins."""
    earlier = (
        Span(one.start_s, one.start_s + following.schedule_s - one.schedule_s)
        for one, following in pairwise(records.segments)
    )
    start_s = records.segments[-1].start_s if records.segments else 0.0
    return (*earlier, Span(start_s, load_end_s(records, spec)))


def load_end_s(records: Records, spec: LoadSpec) -> float:
    """When the measured load ended: with the last request that was due, or the planned end if that came within one
    mean gap of it. Answers still under way then are drain."""
    due = records.requests["scheduled_s"][timings.scheduled(records)]
    if not len(due):
        return 0.0
    # By how much the run's clock is ahead of the schedule.
    ahead = records.segments[-1].start_s - records.segments[-1].schedule_s if records.segments else 0.0
    last = float(np.max(due)) - ahead
    planned, requests = spec.amount.duration_s, spec.amount.requests
    if planned is None or (requests is not None and len(due) >= requests):
        return last + ahead
    return min(planned, last + last / len(due)) + ahead


def truncation(batches: NDArray[np.float64]) -> int:
    """How many of the first batch means to cut off: where the standard error of the mean of the rest, as if they were
    independent, is least.

    argmin over d of sum_{i>d} (Y_i - mean of the rest)^2 / (n - d)^2 (White 1997, MSER).
    """
    count = len(batches)
    rest = np.arange(count, 0, -1)
    centred = batches - batches.mean()  # the sums of squares lose no digits to a large mean
    sums = np.cumsum(centred[::-1])[::-1]
    squares = np.cumsum((centred * centred)[::-1])[::-1]
    errors = np.maximum(squares - sums * sums / rest, 0.0) / rest**2
    errors[errors <= 1e-18 * max(1.0, float(squares[0]))] = 0.0  # equal values: cut nothing off for rounding's sake
    return int(np.argmin(errors[: count - max(1, int(KEPT * count)) + 1]))


def drift(batches: NDArray[np.float64]) -> float | None:
    """By what part of their mean the batches rise (or fall, below 0) along a straight line, from their first to their
    last; None where that is within chance, or small."""
    length = len(batches) // PARTS * PARTS
    parts = batches[len(batches) - length :].reshape(PARTS, -1).mean(axis=1)
    at = np.arange(PARTS) - (PARTS - 1) / 2
    squares = float(at @ at)
    slope = float(at @ parts) / squares
    rest = parts - parts.mean() - slope * at
    error = float(np.sqrt(rest @ rest / (PARTS - 2) / squares))
    mean = float(parts.mean())
    large = abs(slope) * PARTS > DRIFT * abs(mean)
    return slope * PARTS / mean if large and mean and abs(slope) > SIGNIFICANT_T * error else None
