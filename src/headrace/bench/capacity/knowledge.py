"""What a capacity search knows at a moment: the probes so far, its budget, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from headrace.bench.capacity import confirmation, scout
from headrace.bench.capacity.evidence import Told, usable
from headrace.bench.capacity.posterior import Posterior, posterior
from headrace.bench.capacity.protocol import Budget
from headrace.bench.capacity.result import Result

REACH = 128.0
"""The capacity is looked for within this factor of where the scout points."""
SEARCH_SHARE = 0.6
"""Of the budget; the rest is for the confirmation."""


class Knowledge:
    """``told`` and ``budgets`` are all that is kept; the rest is reckoned from them."""

    def __init__(self, targets: Sequence[float], budget_s: float, most_rate: float) -> None:
        self.told: list[Told] = []
        self.budgets = [Budget(0, budget_s)]
        self.start: float | None = None
        """Where the open loop begins, in requests/s; None until the closed loop has shown it."""
        self._targets, self._most_rate = targets, most_rate
        self._belief: tuple[int, Posterior] | None = None

    @property
    def budget_s(self) -> float:
        return self.budgets[-1].seconds

    @property
    def spent_s(self) -> float:
        return sum(result.elapsed_s for _, result in self.told)

    @property
    def left_s(self) -> float:
        return self.budget_s - self.spent_s

    @property
    def begin(self) -> float:
        return self.start or 1.0

    @property
    def highest(self) -> float:
        """The highest rate that may be tried."""
        return min(self.begin * REACH, self._most_rate)

    def usable(self) -> list[Told]:
        return usable(self.told)

    def belief(self) -> Posterior | None:
        """None before any open loop."""
        among = self.usable()
        if not among:
            return None
        if self._belief is None or self._belief[0] != len(self.told):
            found = posterior(
                among, self._targets, self.begin / REACH, self.begin * REACH, saturation=scout.saturation(self.told)
            )
            self._belief = (len(self.told), found)
        return self._belief[1]

    def refused(self) -> float | None:
        """Lowest rate at which the range refused requests."""
        return min((p.rate for p, result in self.told if p.rate is not None and result.limited), default=None)

    def below_limit(self, rate: float, held: float) -> float:
        """``rate``, but below what may be tried, and between what held and what the range refused."""
        refused = self.refused()
        return min(rate, self.highest, math.sqrt(held * refused) if refused is not None else math.inf)

    @property
    def floor(self) -> Result:
        """Of one stream: the last that was looked at."""
        return next(result for probe, result in reversed(self.told) if probe.phase == "floor")

    def lasting_s(self, latencies: float) -> float:
        """So many latencies of one stream."""
        return latencies / self.floor.throughput

    def wanted_s(self) -> float | None:
        """A budget that may be enough. Between half as much again and four times as much: what is known when so little
        time was had is no ground for more. None where not even one answer was seen."""
        if not self.floor.n:
            return None
        confirming_s, belief = self.lasting_s(confirmation.LEAST_LATENCIES), self.belief()
        if belief is not None:
            confirming_s = max(confirming_s, confirmation.least_seconds(belief, self.usable(), self._targets))
        return min(max(confirming_s / (1 - SEARCH_SHARE), 1.5 * self.budget_s), 4 * self.budget_s)
