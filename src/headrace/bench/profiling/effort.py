"""How long a profile may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effort:
    """In seconds from the start, the start of replicas included."""

    quick: bool
    """Few shapes, and the number of slots as it is set."""
    budget_s: float
    """What is begun is chosen so that it ends by then."""
    again_s: float
    """Until here blocks that others disturbed are repeated, and replicas started again."""
    limit_s: float
    """Where the machine is so slow or busy that the least takes longer than the budget, it is finished; up to here."""


QUICK = Effort(quick=True, budget_s=55.0, again_s=120.0, limit_s=480.0)
FULL = Effort(quick=False, budget_s=510.0, again_s=590.0, limit_s=595.0)


def full_within(minutes: float) -> Effort:
    """A full measurement that ends by then."""
    limit_s = 60 * minutes - 5
    return Effort(quick=False, budget_s=0.86 * limit_s, again_s=limit_s - 5, limit_s=limit_s)
