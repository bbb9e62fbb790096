"""How long an answer will be, before it is made.

The limiter reserves by it and the queue charges by it; both are corrected at settlement. So a wrong prediction costs
order, not truth: too small, and a stream runs into debt; too large, and room is held until the stream ends.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

QUANTILE = 0.9
"""High, because debt is what the range promised to bound, and what was reserved too much comes back."""

WINDOW = 256
"""Answers remembered: some minutes of a small endpoint, and quick to follow when its use changes."""

ENOUGH = 8
"""Answers before the quantile is believed."""


class OutputPrediction:
    """A quantile of the lengths of recent answers, in tokens."""

    __slots__ = ("_lengths", "_recent")

    def __init__(self) -> None:
        self._recent: deque[int] = deque()
        self._lengths: list[int] = []
        """The same, sorted."""

    def predict(self, max_output: int, default: int) -> int:
        """Tokens to expect of a request that may produce ``max_output``; from ``default`` until enough is known."""
        if len(self._lengths) < ENOUGH:
            return min(max_output, default)
        return min(max_output, self._lengths[int(QUANTILE * (len(self._lengths) - 1) + 0.5)])

    def observe(self, output: int, max_output: int, default: int) -> None:
        """Learn from an answer that came to its end.

        One that was cut by its own limit, where more was expected, says nothing of requests with a larger limit.
        """
        if output >= max_output and self.predict(output + 1, default) > output:
            return
        if len(self._recent) == WINDOW:
            del self._lengths[bisect_left(self._lengths, self._recent.popleft())]
        self._recent.append(output)
        insort(self._lengths, output)
