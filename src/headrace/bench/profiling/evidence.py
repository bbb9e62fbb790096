"""What blocks say together: means by case, how well they are known, and draws of what they might as well have been.

Blocks of one case are apart in time, so their means are taken as independent. Few of a case are measured, and the
noise of a machine falls on all alike: its relative size is pooled over the cases. Of the reference there are many, and
a machine is faster in one minute than in another, for all its replicas together: ``over_time`` makes one sample of
what is near in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from headrace.bench.profiling.shapes import Case
from headrace.bench.profiling.station import Turn
from headrace.profiles.chunk import t_975

DRAWS = 200
"""For percentiles of what was fitted; the ends of an interval are themselves known to a tenth of its width."""


TOGETHER = 6
"""Blocks of the reference in one sample: on two replicas of a laptop about a minute. Where the pace of one block tells
0.6 of the next, 95% intervals hold in 52% of cases with single blocks, in 82% with four together, in 88% with six."""

FEWEST_SAMPLES = 4
"""Below it Student's t costs more than neglecting that neighbours are alike."""


class Blocks:
    """The turns to go by: of each case the undisturbed ones, or all where there are none."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._all: dict[Case, list[Turn]] = {}
        for turn in turns:
            self._all.setdefault(turn.case, []).append(turn)
        self._used = {case: [turn for turn in mine if not turn.disturbed] or mine for case, mine in self._all.items()}
        deviations = [(turn.seconds / self.mean_s(case) - 1) ** 2 for case, mine in self._used.items() for turn in mine]
        self.freedom = len(deviations) - len(self._used)
        """Degrees of freedom of the pooled noise; with 0 nothing is known of it."""
        self.noise = sqrt(sum(deviations) / self.freedom) if self.freedom else None
        """Standard deviation of one block's mean, relative to it."""

    @property
    def cases(self) -> list[Case]:
        return list(self._used)

    def quiet(self, case: Case) -> int:
        """Blocks of the case that nobody disturbed."""
        return sum(not turn.disturbed for turn in self._all[case])

    def of(self, case: Case) -> list[Turn]:
        return self._used[case]

    def mean_s(self, case: Case) -> float:
        """Replica seconds of a request."""
        return fmean(turn.seconds for turn in self._used[case])

    def error(self, case: Case) -> float | None:
        """Half of the 95% interval of its mean, relative to it."""
        if self.noise is None:
            return None
        return t_975(self.freedom) * self.noise / sqrt(len(self._used[case]))

    def draws(self, cases: Sequence[Case], seed: int) -> NDArray[np.float64]:
        """``DRAWS`` rows of factors by which the means of ``cases`` might as well have been off, the noise itself being
        known from few blocks (Student's t). Raises ValueError where nothing is known of the noise."""
        if self.noise is None:
            raise ValueError("no case was measured twice, so nothing is known of the noise")
        random = np.random.default_rng(seed)
        scale = np.array([self.noise / sqrt(len(self._used[case])) for case in cases])
        # A time is positive, whatever the tails of t say.
        factors: NDArray[np.float64] = 1 + random.standard_t(self.freedom, size=(DRAWS, len(cases))) * scale
        return np.maximum(factors, 0.05)


def over_time(turns: Sequence[Turn]) -> list[float]:
    """Replica seconds of a request of one case in the order of time, as samples for an interval: means of ``TOGETHER``
    or more blocks in a row, whichever replica they ran on; single blocks where that would leave too few."""
    seconds = [turn.seconds for turn in sorted(turns, key=lambda turn: turn.asked[0].sent_s)]
    many = len(seconds) // TOGETHER
    if many < FEWEST_SAMPLES:
        return seconds
    edges = [round(number * len(seconds) / many) for number in range(many + 1)]
    return [fmean(seconds[start:end]) for start, end in pairwise(edges)]


def relative_error(turns: Sequence[Turn]) -> float | None:
    """Half of the 95% interval of the mean of turns of one case, relative to it; None from a single one."""
    return Blocks(turns).error(turns[0].case)


def middle(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """By column, the ends of the middle 95% of the rows."""
    low, high = np.percentile(values, [2.5, 97.5], axis=0)
    return low, high
