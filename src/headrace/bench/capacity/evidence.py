"""What the open-loop probes say together: counts of one criterion, each divided by its design effect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.bench.capacity.protocol import Probe
from headrace.bench.capacity.result import Result
from headrace.bench.capacity.stability import UNKNOWN_SE, grows
from headrace.bench.capacity.statistics import Verdict, share_verdict

ALPHA = 0.05
"""Of the verdict on one probe; one-sided."""
USUAL_EFFECT = 1.5
"""Design effect before anything is known: bad requests come in bunches."""
USUAL_WEIGHT = 5.0
"""Bad requests that this is worth."""

LIGHT = 0.85
"""Of the lowest rate that missed the target: load that is light."""

Told = tuple[Probe, Result]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Arrays over probes. ``good`` and ``bad`` are those of as many independent requests."""

    rate: NDArray[np.float64]
    good: NDArray[np.float64]
    bad: NDArray[np.float64]
    design_effect: NDArray[np.float64]


def usable(told: Iterable[Told]) -> list[Told]:
    """Open loop, valid, and not limited by the range."""
    return [
        (probe, result)
        for probe, result in told
        if probe.rate is not None and result.n and not result.invalid and not result.limited
    ]


def evidence(told: Sequence[Told], criterion: int, target: float) -> Evidence:
    """Of ``usable`` probes, those near the capacity all with one design effect: a lucky run looks both better and less
    correlated than an unlucky one, and would weigh more if each were divided by its own."""
    counts = [result.counts[criterion] for _, result in told]
    n = np.array([each.n for each in counts], dtype=float)
    good = np.array([each.good for each in counts], dtype=float)
    rate = np.array([probe.rate for probe, _ in told], dtype=float)
    edge = _light(told, criterion, target)
    near = common_effect(told, criterion, target)
    effect = np.where(rate <= edge, common_effect(told, criterion, target, rate=edge), near)
    return Evidence(rate, good / effect, (n - good) / effect, effect)


def common_effect(told: Sequence[Told], criterion: int, target: float, *, rate: float | None = None) -> float:
    """Design effect at ``rate``, by default near the capacity: of all probes in the same light or heavy load, weighted
    by their bad requests, since only those tell.

    Probes far below the target take no part in it: their requests are bad in one long run.
    """
    edge = _light(told, criterion, target)
    light = rate is not None and rate <= edge
    weights, sum_of = USUAL_WEIGHT, USUAL_WEIGHT * USUAL_EFFECT
    for probe, result in told:
        counts = result.counts[criterion]
        if (probe.rate is not None and probe.rate <= edge) is light and counts.share > target - 3 * (1 - target):
            weight = counts.n * counts.share * (1 - counts.share)
            weights += weight
            sum_of += weight * counts.design_effect
    return max(sum_of / weights, 1.0)


def _light(told: Sequence[Told], criterion: int, target: float) -> float:
    """Rates up to here are light load: well below all that have missed the target, by chance or not. Busy periods are
    short there. (By rate, not by outcome: see ``evidence``.)"""
    missed = [
        probe.rate for probe, result in told if probe.rate is not None and result.counts[criterion].share < target
    ]
    return LIGHT * min(missed, default=0.0)


def verdict(told: Sequence[Told], targets: Sequence[float], *, among: Sequence[Told], alpha: float = ALPHA) -> Verdict:
    """On the probes ``told`` together, all at about one rate. ``among``: all usable probes, for the design effects.

    A backlog that grows beyond doubt is a FAIL whatever the attainment: the probe was too short to see it.
    """
    if any(grows(result.drift, result.drift_error) for _, result in told):
        return "FAIL"
    verdicts = []
    chosen = np.array([any(each is one for one in told) for each in among])
    for criterion, target in enumerate(targets):
        data = evidence(among, criterion, target)
        good, bad = float(data.good[chosen].sum()), float(data.bad[chosen].sum())
        verdicts.append(share_verdict(good, good + bad, target, alpha / len(targets)))
    if "FAIL" in verdicts:
        return "FAIL"
    return "PASS" if all(each == "PASS" for each in verdicts) else "UNRESOLVED"


def drifts(told: Sequence[Told]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of arrivals that stays in the backlog, and standard error, of each probe."""
    return (
        np.array([result.drift for _, result in told]),
        np.array([min(result.drift_error, UNKNOWN_SE) for _, result in told]),
    )
