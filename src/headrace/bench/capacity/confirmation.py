"""Replicates that confirm a rate, with seeds of their own: what the search believes is not proof of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.bench.capacity.evidence import ALPHA, Told, common_effect, drifts, verdict
from headrace.bench.capacity.posterior import Posterior
from headrace.bench.capacity.stability import LEAST_DRIFT, WARM_UP_SHARE, pooled
from headrace.bench.capacity.statistics import Verdict, requests_to_show

REPLICATES = 3
POWER = 0.9
"""Wished probability that a confirmation passes."""
WIDE = 0.75
"""Of the point estimate: where the interval reaches further down, its lower end is no rate worth confirming."""
STEP = 0.01
STEPS = 70
"""The rate to confirm is looked for from the lower end of the interval (or ``WIDE``) down to half of it, by 1% each."""
MARGIN = 1.3
"""Of requests, since the design effect that the replicates will show is not known."""

DRIFT_ERRORS = 2.0
"""Standard errors by which the drift at the rate to be confirmed may exceed nothing."""
LEAST_LATENCIES = 40.0
"""Of one stream, that the replicates last together: in less, a queue has not had the time to fail."""


@dataclass(frozen=True, slots=True)
class Plan:
    rate: float
    above: float
    """Upper end of the interval: where there is time, one probe there sees the other side."""
    requests: int
    """Of each replicate."""


def plan(
    found: Posterior,
    told: Sequence[Told],
    targets: Sequence[float],
    *,
    look: int,
    seconds: float,
    most_requests: float,
    before: float | None,
    highest: float,
) -> Plan:
    """The highest rate, from the lower end of the interval downwards, that can probably be shown to hold with the
    requests that ``seconds`` and ``most_requests`` allow.

    ``before``: the rate of the last confirmation, unless it failed. Its replicates count, so it is kept as long as it
    is likely to pass in the end.
    """
    low, high = min(found.quantile(0.025), highest), found.quantile(0.975)

    def needed(rate: float) -> float:
        return _needed(found, told, targets, rate, look)

    def affordable(rate: float) -> float:
        return min(seconds * rate, most_requests)

    if before is not None:
        more = needed(before) - sum(result.requests for _, result in replicates(told, before))
        if more <= affordable(before):
            return Plan(before, high, max(math.ceil(more / REPLICATES), 1))
    rates = _from(max(low, min(WIDE * found.quantile(0.5), highest)))
    chances = [affordable(rate) / needed(rate) for rate in rates]
    place = next((place for place, chance in enumerate(chances) if chance >= 1), int(np.argmax(chances)))
    rate = rates[place]
    return Plan(rate, high, max(math.ceil(min(needed(rate), affordable(rate)) / REPLICATES), 1))


def least_seconds(found: Posterior, told: Sequence[Told], targets: Sequence[float]) -> float:
    """That a confirmation would probably take, at the rate where it takes least."""
    rates = _from(max(found.quantile(0.025), WIDE * found.quantile(0.5)))
    return min(_needed(found, told, targets, rate, 1) / rate for rate in rates)


def _from(start: float) -> list[float]:
    rates: list[float] = (start * np.exp(-STEP * np.arange(STEPS))).tolist()
    return rates


def _needed(found: Posterior, told: Sequence[Told], targets: Sequence[float], rate: float, look: int) -> float:
    """Requests."""
    independent = max(
        common_effect(told, criterion, target, rate=rate)
        * requests_to_show(found.attainment(rate, criterion), target, spent(look) / len(targets), POWER)
        for criterion, target in enumerate(targets)
    )
    return MARGIN * independent / (1 - WARM_UP_SHARE)


def replicates(told: Sequence[Told], rate: float) -> list[Told]:
    return [one for one in told if one[0].phase == "confirm" and one[0].rate == rate]


def lasted_s(told: Sequence[Told], rate: float) -> float:
    return sum(result.elapsed_s for _, result in replicates(told, rate))


def spent(look: int) -> float:
    """Level of the ``look``-th look at the confirmation, from 1: each spends half of what is left of 5%."""
    return float(ALPHA * 0.5**look)


def judge(among: Sequence[Told], rate: float, targets: Sequence[float], look: int, least_s: float) -> Verdict:
    """On all replicates at ``rate`` together, if they lasted ``least_s``. A backlog that grows there on the whole is a
    FAIL sooner than in one probe: here a server is to show that it keeps up."""
    told = replicates(among, rate)
    if told:
        share, error = pooled(*drifts([one for one in among if one[0].rate == rate]))
        if share - DRIFT_ERRORS * error > 0 and share > LEAST_DRIFT:
            return "FAIL"
    found = verdict(told, targets, among=among, alpha=spent(look))
    return "UNRESOLVED" if found == "PASS" and lasted_s(among, rate) < least_s else found
