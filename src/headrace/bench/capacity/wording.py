"""The end of a search in figures and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from headrace.bench.capacity.answer import Answer, Limit, Point, curve
from headrace.bench.capacity.evidence import Told, usable
from headrace.bench.capacity.posterior import Posterior
from headrace.bench.capacity.statistics import Verdict

STEEP = 1.05
"""A fall from well above the target to well below it within this factor in rate is a cliff."""
APART = 1.05
"""Factor between rates that are not about the same."""
EASY = 0.9
"""An attainment up to here is shown by some tens of requests."""
SCATTER = 2.0
"""Overdispersion from which the server is called unsteady."""


def conclude(
    told: Sequence[Told],
    targets: Sequence[float],
    belief: Posterior | None,
    *,
    limit: Limit,
    confirmed: float | None,
    width: float,
    wanted_s: float | None = None,
) -> Answer:
    """``wanted_s``: a budget that would probably do, where this one did not."""
    interval, capacity = None, None
    points = curve(told, targets)
    if belief is not None and limit not in ("latency", "bound", "range"):
        interval, capacity = (belief.quantile(0.025), belief.quantile(0.975)), belief.quantile(0.5)
        if not any(point.verdict == "PASS" and point.users is None for point in points):
            # That some lower rate holds is then only what the model thinks.
            interval = (0.0, interval[1])
    verdict: Verdict = "PASS" if confirmed is not None else "FAIL" if limit == "latency" else "UNRESOLVED"
    cliff = capacity is not None and belief is not None and _cliff(belief, capacity, targets)
    answered = [(result, result.n) for _, result in told if result.n]
    total = sum(n for _, n in answered) or 1
    works = [(result.work, n) for result, n in answered if result.work is not None]
    return Answer(
        verdict=verdict,
        limit=limit,
        capacity=capacity,
        interval=interval,
        precise=interval is not None and capacity is not None and interval[1] - interval[0] <= width * capacity,
        confirmed=confirmed,
        cliff=cliff,
        reason=_reason(limit, targets, interval, confirmed, told, points, wanted_s),
        findings=tuple(_findings(belief, points, cliff)),
        curve=points,
        requests=sum(result.requests for _, result in told),
        seconds=sum(result.elapsed_s for _, result in told),
        input_tokens=sum(result.input_tokens * n for result, n in answered) / total,
        output_tokens=sum(result.output_tokens * n for result, n in answered) / total,
        work=sum(work * n for work, n in works) / sum(n for _, n in works) if works else None,
    )


def _cliff(belief: Posterior, capacity: float, targets: Sequence[float]) -> bool:
    return any(
        belief.attainment(capacity / math.sqrt(STEEP), criterion) > 1 - (1 - target) / 2
        and belief.attainment(capacity * math.sqrt(STEEP), criterion) < target - 2 * (1 - target)
        for criterion, target in enumerate(targets)
    )


def _reason(
    limit: Limit,
    targets: Sequence[float],
    interval: tuple[float, float] | None,
    confirmed: float | None,
    told: Sequence[Told],
    points: Sequence[Point],
    wanted_s: float | None,
) -> str:
    so_far = f"; so far the capacity lies in {interval[0]:.4g} to {interval[1]:.4g} requests/s" if interval else ""
    if confirmed is not None:
        start = f"{confirmed:.4g} requests/s held in replicates of their own"
        rates = [probe.rate for probe, _ in usable(told) if probe.rate is not None]
        if limit == "range":
            refused = min(probe.rate for probe, result in told if probe.rate is not None and result.limited)
            return (
                f"{start}. Limited by the range: from {refused:.4g} requests/s on requests were refused with 429. "
                "That is the contract's limit, not the server's: a larger maximum may hold more"
            )
        if limit == "bound":
            return f"{start}; no rate up to {max(rates):.4g} requests/s failed, and the client was to go no further"
        if interval is None:
            return start
        if not _missed(points):
            return (
                f"{start}; no rate that was tried missed the SLO, so that it is missed above {interval[1]:.4g} "
                "requests/s is only what all probes together lead to expect"
            )
        return f"{start}; above {interval[1]:.4g} requests/s the SLO is missed"
    if limit == "latency":
        return "the SLO cannot be met: too few requests are good even with hardly any load"
    if limit == "client":
        causes = "; ".join(dict.fromkeys(cause for _, result in told[-2:] for cause in result.invalid))
        return f"the client is the limit, twice in a row: {causes}{so_far}"
    if not any(result.requests for _, result in told):
        return (
            "the budget ended before one answer was complete: a search needs some hundred times as long as an answer "
            "takes, so give it more, or ask for shorter answers"
        )
    return f"the budget ended before a rate was confirmed{so_far}{_advice(wanted_s, targets)}"


def _missed(points: Sequence[Point]) -> list[float]:
    """Rates of an open loop that missed the SLO beyond doubt."""
    return [point.rate for point in points if point.users is None and point.verdict == "FAIL"]


def _advice(wanted_s: float | None, targets: Sequence[float]) -> str:
    if wanted_s is None:
        return ""
    most = max(targets)
    fewer = f", or a percentile below p{100 * most:g}, which fewer requests can show" if most > EASY else ""
    budget = f"{math.ceil(wanted_s)} s" if wanted_s < 120 else f"{math.ceil(wanted_s / 60)} min"
    return f". Go on with a budget of at least {budget}, or ask for a looser limit{fewer}"


def _findings(belief: Posterior | None, points: Sequence[Point], cliff: bool) -> list[str]:
    found = []
    if cliff:
        found.append("attainment falls off a cliff within 5% above the capacity: leave more headroom than the interval")
    if belief is not None and belief.overdispersion > SCATTER:
        found.append(
            f"results scatter {belief.overdispersion:.1f} times as much as their counts explain: the server is not "
            "steady, or its attainment does not simply fall with the load; the interval allows for it"
        )
    missed = _missed(points)
    held = [point.rate for point in points if point.users is None and point.verdict == "PASS"]
    if missed and held and max(held) > APART * min(missed):
        found.append(
            f"attainment does not simply fall with the rate: {min(missed):.4g} requests/s missed the SLO and "
            f"{max(held):.4g} held it; what is said here is one place where it crosses. Where other work may have been "
            f"in the way, search again without it; else put {min(missed):.4g} requests/s on it for some minutes, "
            "and look what its users see"
        )
    return found
