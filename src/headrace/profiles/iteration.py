"""The iteration-time model of an engine, from the times of blocks of equal requests.

What is in the iterations of a closed loop does not depend on how long they take (``simulate``), so for a known prefill
budget the measured seconds are linear in the model's five parameters, and these are the non-negative least-squares
solution for the relative errors. An engine that reports its progress tells the budget; otherwise it is the one under
which the errors are least.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.profiles.nonnegative import non_negative
from headrace.profiles.profile import IterationTime
from headrace.profiles.simulate import Content

BUDGETS = tuple(sorted({*(2**power for power in range(5, 15)), *(3 * 2**power for power in range(5, 12))}))
"""Tried where the engine does not tell its own: the settings that engines ship with are among them."""


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds that a replica took, and what it did in them, which depends on the prefill budget."""

    seconds: float
    content: Callable[[int], Content]


@dataclass(frozen=True, slots=True)
class IterationFit:
    model: IterationTime
    contents: tuple[Content, ...]
    """Of each measured time, under the model's budget."""

    @property
    def predicted_s(self) -> tuple[float, ...]:
        return tuple(content.seconds(self.model) for content in self.contents)


def fit_iteration(timed: Sequence[Timed], *, budget: int | None, least_budget: int = 1) -> IterationFit:
    """The model that predicts ``timed`` best.

    ``budget``: of prompt tokens, where the engine told; ``least_budget``: a budget is shared with the sequences that
    decode, so it exceeds their number. Raises ValueError without times, or where one is not positive.
    """
    if not timed or min(one.seconds for one in timed) <= 0:
        raise ValueError("an iteration-time model needs measured times, all positive")
    seconds = np.array([one.seconds for one in timed])
    best: IterationFit | None = None
    least = np.inf
    for candidate in (budget,) if budget is not None else BUDGETS:
        if candidate <= least_budget and budget is None:
            continue
        contents = tuple(one.content(candidate) for one in timed)
        solution, residual = solve(contents, seconds)
        # Where the budget makes no difference, a larger one is as good: the first is kept.
        if residual < least * (1 - 1e-6):
            least, best = residual, IterationFit(_model(solution, candidate), contents)
    assert best is not None
    return best


def solve(contents: Sequence[Content], seconds: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The parameters in the order of ``Content``, and the sum of the squared relative errors."""
    relative = np.array(contents, dtype=float) / seconds[:, None]
    used = [column for column in range(relative.shape[1]) if relative[:, column].any()]
    solution = non_negative(relative, used)
    return solution, float(np.sum((relative @ solution - 1) ** 2))


def refit(fit: IterationFit, seconds: NDArray[np.float64]) -> IterationTime:
    """The model for other times of the same work, with the same budget."""
    solution, _ = solve(fit.contents, seconds)
    return _model(solution, fit.model.prefill_budget)


def _model(solution: NDArray[np.float64], budget: int) -> IterationTime:
    base_s, prefill_s, decode_s, context_s, attention_s = (float(value) for value in solution)
    return IterationTime(
        base_s=base_s,
        prefill_s=prefill_s,
        decode_s=decode_s,
        context_s=context_s,
        attention_s=attention_s,
        prefill_budget=budget,
    )
