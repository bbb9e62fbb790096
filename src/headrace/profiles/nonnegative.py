"""Non-negative least squares with few unknowns, solved exactly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

MOST_CONDITION = 1e4
"""Of a feature matrix with columns of length one. Beyond it a measurement error of a percent is an error of the
solution by more than itself, and fewer features say more."""


def told_apart(columns: NDArray[np.float64]) -> bool:
    """Whether the rows determine a value for each of these columns."""
    lengths = np.linalg.norm(columns, axis=0)
    if columns.shape[0] < columns.shape[1] or not lengths.all():
        return False
    return float(np.linalg.cond(columns / lengths)) < MOST_CONDITION


def non_negative(relative: NDArray[np.float64], features: Sequence[int]) -> NDArray[np.float64]:
    """The non-negative least-squares solution of ``relative @ x = 1`` in which only ``features`` may differ from zero.

    It is the unconstrained solution over the features that are not zero in it, and of n features there are only
    2^n - 1 sets to try: 31 for five.
    """
    target = np.ones(relative.shape[0])
    best, least = np.zeros(relative.shape[1]), np.inf
    for count in range(1, len(features) + 1):
        for chosen in combinations(features, count):
            columns = relative[:, chosen]
            lengths = np.linalg.norm(columns, axis=0)
            if not lengths.all():
                continue
            part = np.linalg.lstsq(columns / lengths, target, rcond=None)[0] / lengths
            residual = float(np.sum((columns @ part - target) ** 2))
            if (part >= 0).all() and residual < least:
                least = residual
                best = np.zeros(relative.shape[1])
                best[list(chosen)] = part
    return best
