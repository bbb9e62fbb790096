"""From the records of a probe, finished or not, to what the search is told of it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headrace.bench import slo as objectives
from headrace.bench.capacity.protocol import Observed, Probe
from headrace.bench.client.records import Outcome, Records
from headrace.bench.results.rates import request_work
from headrace.bench.slo import Criterion
from headrace.policy.work import Weights

WRITTEN_WITHIN_S = 1.0
"""A request that has ended is in the records by then."""


def too_late_s(criteria: Sequence[Criterion], longest_output: float) -> float:
    """The age at which a request without an end misses every criterion; infinite where that cannot be told."""
    return max(_too_late_s(criterion, longest_output) for criterion in criteria)


def _too_late_s(criterion: Criterion, longest_output: float) -> float:
    e2e_s = math.inf if criterion.e2e_s is None else criterion.e2e_s
    if criterion.ttft_s is None or criterion.tpot_s is None or not math.isfinite(longest_output):
        return e2e_s
    return min(e2e_s, criterion.ttft_s + criterion.tpot_s * longest_output)


def observe(
    records: Records,
    probe: Probe,
    criteria: Sequence[Criterion],
    *,
    now_s: float,
    elapsed_s: float,
    late_s: float = math.inf,
    weights: Weights | None = None,
    ended: bool = False,
) -> Observed:
    """``now_s``: on the run's clock. ``late_s``: as ``too_late_s`` says. ``ended``: the run has, by itself.

    Requests are taken up to the first whose fate is open. To take whatever has been answered would count the quick
    ones first, and make a server that falls behind look well.
    """
    known = replace(records, requests=records.requests[records.requests["outcome"] != Outcome.UNFINISHED])
    good = [objectives.good(known, criterion) for criterion in criteria]
    scheduled_s, end_s = known.requests["scheduled_s"], known.requests["end_s"]
    rejected = known.requests["outcome"] == Outcome.REJECTED
    if records.planned_s is None:
        order = np.argsort(scheduled_s, kind="stable")
        scheduled_s, end_s, rejected = scheduled_s[order], end_s[order], rejected[order]
        good = [each[order] for each in good]
    else:
        planned = np.asarray(records.planned_s)
        planned = planned[: int(np.searchsorted(planned, now_s, side="right"))]
        scheduled_s, end_s, rejected, good = _by_number(known, planned, rejected, good, now_s, late_s)
    counted = ~rejected
    answered = replace(known, requests=known.requests[known.requests["outcome"] == Outcome.OK])
    return Observed(
        good=tuple(each[counted] for each in good),
        scheduled_s=scheduled_s[counted],
        end_s=end_s[counted],
        rejected=int(rejected.sum()),
        elapsed_s=elapsed_s,
        input_tokens=_mean(answered.requests["input_tokens"]),
        output_tokens=_mean(answered.requests["output_tokens"]),
        work=None if weights is None or not len(answered.requests) else _mean(request_work(answered, weights)[0]),
        finished=ended or (len(scheduled_s) >= probe.max_requests and now_s >= probe.min_s),
    )


def _by_number(
    known: Records,
    planned: NDArray[np.float64],
    rejected: NDArray[np.bool_],
    good: Sequence[NDArray[np.bool_]],
    now_s: float,
    late_s: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], list[NDArray[np.bool_]]]:
    """The same arrays over all requests that were due, up to the first whose fate is open."""
    numbers = known.requests["number"]
    inside = numbers < len(planned)
    numbers = numbers[inside]
    ended = np.zeros(len(planned), dtype=bool)
    ended[numbers] = True
    fate = ended | (now_s - planned > late_s + WRITTEN_WITHIN_S)
    end = len(planned) if fate.all() else int(np.argmin(fate))

    def spread(values: NDArray[np.generic], fill: float) -> NDArray[np.generic]:
        whole = np.full(len(planned), fill, dtype=values.dtype)
        whole[numbers] = values[inside]
        return whole[:end]

    return (
        planned[:end],
        spread(known.requests["end_s"], now_s).astype(np.float64),
        spread(rejected, 0).astype(bool),
        [spread(each, 0).astype(bool) for each in good],
    )


def _mean(values: NDArray[np.int32] | NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0
