"""What is kept of a probe: counts, drift and cost. A list of probes and results is the whole state of a search."""

from __future__ import annotations

import msgspec
import numpy as np

from headrace.bench.capacity.protocol import Observed, Probe
from headrace.bench.capacity.stability import drift, pace, settled
from headrace.bench.capacity.statistics import design_effect

MOST_REJECTED = 0.01
"""A larger share of 429s is a range at its limit."""


class Counts(msgspec.Struct, frozen=True):
    """Of one criterion, after the transient."""

    good: int
    n: int
    design_effect: float
    """As this probe alone shows it."""

    @property
    def share(self) -> float:
        return self.good / self.n if self.n else 0.0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    counts: tuple[Counts, ...]
    """One for each criterion."""
    requests: int
    """All that were answered, refused or lost, those of the transient among them."""
    rejected: int
    elapsed_s: float
    throughput: float
    """Requests/s that ended; in a closed loop, while all its users were busy."""
    throughput_error: float
    """Relative standard error."""
    drift: float
    """Share of arrivals that stays in the backlog."""
    drift_error: float
    input_tokens: float
    output_tokens: float
    work: float | None
    invalid: tuple[str, ...] = ()

    @property
    def limited(self) -> bool:
        """By the range, which refuses with 429."""
        return self.rejected > MOST_REJECTED * self.requests

    @property
    def n(self) -> int:
        return self.counts[0].n


def summarise(probe: Probe, observed: Observed) -> Result:
    skip = settled(probe, observed)
    answered = len(observed.scheduled_s)
    return Result(
        counts=tuple(
            Counts(int(np.count_nonzero(good[skip:])), answered - skip, design_effect(good[skip:]))
            for good in observed.good
        ),
        requests=answered + observed.rejected,
        rejected=observed.rejected,
        elapsed_s=observed.elapsed_s,
        **dict(zip(("throughput", "throughput_error"), pace(probe, observed), strict=True)),
        **dict(zip(("drift", "drift_error"), drift(probe, observed), strict=True)),
        input_tokens=observed.input_tokens,
        output_tokens=observed.output_tokens,
        work=observed.work,
        invalid=observed.invalid,
    )
