"""Stretches of a run's clock."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray


class Span(msgspec.Struct, frozen=True):
    """Seconds on the run's clock."""

    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s


def inside(spans: Sequence[Span], times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the times are in one of the spans, both ends included."""
    found = np.zeros(len(times_s), np.bool_)
    for span in spans:
        found |= (times_s >= span.start_s) & (times_s <= span.end_s)
    return found


def ended_inside(spans: Sequence[Span], times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The same without their starts: what ended there was before them."""
    found = np.zeros(len(times_s), np.bool_)
    for span in spans:
        found |= (times_s > span.start_s) & (times_s <= span.end_s)
    return found
