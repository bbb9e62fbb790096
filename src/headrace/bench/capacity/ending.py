"""When a probe may end: it is decided, hopeless, or out of time."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.bench.capacity.evidence import common_effect, usable
from headrace.bench.capacity.knowledge import Knowledge
from headrace.bench.capacity.protocol import Observed, Phase, Probe
from headrace.bench.capacity.result import Result, summarise
from headrace.bench.capacity.stability import grows
from headrace.bench.capacity.statistics import Verdict, sequential_verdict

TIME_SHARE: dict[Phase, float] = {"floor": 0.04, "scout": 0.03, "bracket": 0.08, "refine": 0.15, "confirm": 0.3}
"""Of the budget, that one probe may take."""
UNANSWERED_SHARE = 0.5
"""Of the budget, that the first answer may take: without one, nothing at all is known."""
ERROR: dict[Phase, float] = {"floor": 0.01, "scout": 0.01, "bracket": 0.02, "refine": 0.001, "confirm": 0.001}
"""Of the sequential test that ends a probe early."""


def enough(probe: Probe, observed: Observed, known: Knowledge, targets: Sequence[float]) -> bool:
    """Of what was seen so far; may be asked any number of times. ``known``: before this probe."""
    answered, budget_s = len(observed.scheduled_s), known.budget_s
    share = observed.elapsed_s / budget_s / TIME_SHARE[probe.phase]
    if probe.phase == "floor" and not (answered or observed.finished):
        return too_slow(known, observed.elapsed_s)
    if observed.finished or known.spent_s + observed.elapsed_s >= budget_s or share > 2:
        return True
    if answered < probe.min_requests or observed.elapsed_s < probe.min_s:
        return False
    result = summarise(probe, observed)
    if share > 1 or result.limited or (grows(result.drift, result.drift_error) and result.drift > 0.05):
        return True
    return _decided(probe, result, known, targets) != "UNRESOLVED"


def too_slow(known: Knowledge, elapsed_s: float) -> bool:
    """Half of the budget is gone, and not one answer is there."""
    return known.spent_s + elapsed_s >= UNANSWERED_SHARE * known.budget_s


def _decided(probe: Probe, result: Result, known: Knowledge, targets: Sequence[float]) -> Verdict:
    """By the sequential test, with counts divided by their design effects."""
    verdicts = []
    among = usable([*known.told, (probe, result)])
    for criterion, (counts, target) in enumerate(zip(result.counts, targets, strict=True)):
        effect = max(common_effect(among, criterion, target, rate=probe.rate), 2.0) if probe.rate else 1.0
        verdicts.append(sequential_verdict(counts.good / effect, counts.n / effect, target, ERROR[probe.phase]))
    if "FAIL" in verdicts:
        return "FAIL"
    if probe.phase == "confirm" or "UNRESOLVED" in verdicts:
        return "UNRESOLVED"
    return "PASS"
