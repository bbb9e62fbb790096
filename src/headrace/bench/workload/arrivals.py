"""When requests of an open loop are due: an absolute schedule, made up front from a seed.

Gaps are drawn at unit rate and scaled, so that a seed gives the same pattern of arrivals at every rate. Processes share
a schedule by taking every n-th request of it, and so all make the same one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.bench.errors import BenchError
from headrace.bench.workload.draws import Stream, generator
from headrace.bench.workload.spec import Amount, Constant, Gamma, OpenLoop, Poisson, Replay, Stage, Stages

MOST_REQUESTS = 20_000_000
"""A schedule holds 8 bytes for each: 160 MB in every process."""

_BLOCK = 1 << 14
"""Gaps drawn at a time. A constant, because the sequence of a seed must not depend on the amount."""

Times = NDArray[np.float64]


def due_times(
    arrivals: OpenLoop, amount: Amount, seed: int, trace_s: Times | None = None, *, beyond_s: float = 0.0
) -> Times:
    """Seconds from the start at which requests 0, 1, 2.. are due, sorted.

    ``beyond_s`` lengthens the schedule: load that is kept on while the last measured requests are answered. What comes
    before it is the same with and without. A trace that is too short comes round again. Raises BenchError for figures
    that are no schedule, or one of more than ``MOST_REQUESTS``.
    """
    check(arrivals, amount)
    if beyond_s < 0 or not math.isfinite(beyond_s):
        raise BenchError(f"load is to be kept on for {beyond_s} s; expected 0 or more")
    plan = _plan(arrivals, seed, trace_s)
    limit = amount.requests if amount.requests is not None or amount.duration_s is not None else plan.requests
    end_s = min(plan.end_s, math.inf if amount.duration_s is None else amount.duration_s)
    measured = _until(plan.blocks(), limit, end_s)
    if beyond_s == 0:
        return measured
    if measured.size == limit:
        end_s = float(measured[-1])
    return _until(plan.blocks(), None, end_s + beyond_s)


def check(arrivals: OpenLoop, amount: Amount) -> None:
    """Raises BenchError where the figures are no schedule."""
    match arrivals:
        case Constant(rate) | Poisson(rate):
            _positive("the arrival rate", rate, "requests/s")
        case Gamma(rate, cv):
            _positive("the arrival rate", rate, "requests/s")
            _positive("the coefficient of variation", cv, "(1 is Poisson)")
        case Replay(time_scale=scale, rate=replay_rate):
            _positive("the time scale of the trace", scale, "(1 is its own speed)")
            if replay_rate is not None:
                _positive("the mean rate of the trace", replay_rate, "requests/s")
                if scale != 1:
                    raise BenchError(
                        f"the trace is to be replayed at {replay_rate:g} requests/s and at a time scale of {scale:g}; "
                        "expected one of the two"
                    )
        case Stages(stages):
            _check_stages(stages)
    if amount.requests is not None and amount.requests < 1:
        raise BenchError(f"{amount.requests} requests are asked for; expected 1 or more")
    if amount.duration_s is not None:
        _positive("the duration", amount.duration_s, "seconds")
    if amount.requests is None and amount.duration_s is None and not isinstance(arrivals, Replay | Stages):
        raise BenchError("neither a number of requests nor a duration is given; expected one of them, or both")


def _positive(what: str, figure: float, unit: str) -> None:
    if not (math.isfinite(figure) and figure > 0):
        raise BenchError(f"{what} is {figure:g}; expected a number above 0 {unit}")


def _check_stages(stages: tuple[Stage, ...]) -> None:
    if not stages:
        raise BenchError("there are no stages; expected one or more, each with its seconds and its rates")
    for place, stage in enumerate(stages, start=1):
        _positive(f"the length of stage {place}", stage.seconds, "seconds")
        for rate in (stage.from_rate, stage.to_rate):
            if not (math.isfinite(rate) and rate >= 0):
                raise BenchError(f"stage {place} has a rate of {rate:g}; expected 0 or more requests/s")
    if all(stage.from_rate == stage.to_rate == 0 for stage in stages):
        raise BenchError("all stages have a rate of 0; expected one that is above")


@dataclass(frozen=True, slots=True)
class _Plan:
    """An endless schedule, and where it ends of itself."""

    blocks: Callable[[], Iterator[Times]]
    """Sorted times, a block after the other; from the first again at each call."""
    requests: int | None = None
    end_s: float = math.inf


def _plan(arrivals: OpenLoop, seed: int, trace_s: Times | None) -> _Plan:
    match arrivals:
        case Constant(rate):
            return _Plan(lambda: (block / rate for block in _counting()))
        case Poisson(rate):
            return _Plan(lambda: (block / rate for block in _renewals(1.0, seed)))
        case Gamma(rate, cv):
            return _Plan(lambda: (block / rate for block in _renewals(cv, seed)))
        case Stages(stages):
            clock = _StageClock(stages)
            return _Plan(lambda: (clock.time(block) for block in _renewals(1.0, seed)), end_s=clock.end_s)
        case Replay():
            return _replay(arrivals, trace_s)


def _counting() -> Iterator[Times]:
    first = 0
    while True:
        yield np.arange(first, first + _BLOCK, dtype=np.float64)
        first += _BLOCK


def _renewals(cv: float, seed: int) -> Iterator[Times]:
    """Arrivals at unit rate whose gaps are of a gamma distribution, seen from a moment that knows nothing of them.

    The first gap is what is left of the one that the start falls into (a length-biased gap times a uniform number): so
    the expected count in any time is the rate times that time from the start on. A whole gap there would begin every
    schedule inside a burst, with (cv^2 - 1) / 2 requests too many (Cox, Renewal Theory, 2.2 and 5.3).
    """
    shape = 1 / (cv * cv)
    draw = generator(seed, Stream.ARRIVALS)
    reached = draw.standard_gamma(shape + 1) / shape * draw.random()
    while True:
        times = reached + np.concatenate([[0.0], np.cumsum(draw.standard_gamma(shape, _BLOCK) / shape)])
        reached = times[-1]
        yield times[:-1]


class _StageClock:
    """Maps arrivals at unit rate to the time at which that many are expected: exact for rates that change linearly."""

    def __init__(self, stages: tuple[Stage, ...]) -> None:
        seconds = np.array([stage.seconds for stage in stages])
        first = np.array([stage.from_rate for stage in stages])
        last = np.array([stage.to_rate for stage in stages])
        self.end_s = float(seconds.sum())
        # What follows the stages goes on at the rate that they end with.
        self._first = np.append(first, last[-1])
        self._slope = np.append((last - first) / seconds, 0.0)
        self._start_s = np.concatenate([[0.0], np.cumsum(seconds)])
        self._expected = np.concatenate([[0.0], np.cumsum(seconds * (first + last) / 2)])

    def time(self, expected: Times) -> Times:
        stage = np.searchsorted(self._expected, expected, side="left") - 1
        stage = np.clip(stage, 0, self._first.size - 1)
        rest = expected - self._expected[stage]
        first, slope = self._first[stage], self._slope[stage]
        # The root of first*t + slope*t^2/2 = rest, in the form that loses no digits when the slope is small.
        root = first + np.sqrt(np.maximum(first * first + 2 * slope * rest, 0.0))
        with np.errstate(divide="ignore"):
            inside = np.where(rest > 0, 2 * rest / root, 0.0)
        return np.asarray(self._start_s[stage] + inside)


def _replay(arrivals: Replay, trace_s: Times | None) -> _Plan:
    if trace_s is None:
        raise BenchError(
            "the dataset has no arrival times to replay; expected a trace (Azure, Mooncake, BurstGPT) or other arrivals"
        )
    count = trace_s.size
    span_s = float(trace_s[-1] - trace_s[0]) if count else 0.0
    if span_s <= 0:
        raise BenchError(
            f"the trace has {count} requests over {span_s:g} s; expected two or more at different times to replay"
        )
    mean_gap_s = span_s / (count - 1)
    scale = arrivals.time_scale if arrivals.rate is None else 1 / (arrivals.rate * mean_gap_s)
    once = (trace_s - trace_s[0]) * scale
    # The last request keeps a mean gap from the first of the next round.
    around_s = (span_s + mean_gap_s) * scale

    def blocks() -> Iterator[Times]:
        turn = 0
        while True:
            yield once + turn * around_s
            turn += 1

    return _Plan(blocks, requests=count)


def _until(blocks: Iterator[Times], limit: int | None, end_s: float) -> Times:
    """Times before ``end_s``, and at most ``limit`` of them."""
    taken: list[Times] = []
    count = 0
    for block in blocks:
        inside = block[: np.searchsorted(block, end_s, side="left")]
        if limit is not None:
            inside = inside[: limit - count]
        taken.append(inside)
        count += inside.size
        if count > MOST_REQUESTS:
            raise BenchError(
                f"the schedule holds more than {MOST_REQUESTS:,} requests; expected a shorter duration or a lower rate"
            )
        if inside.size < block.size:
            break
    return np.concatenate(taken)
