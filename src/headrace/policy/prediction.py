"""How long an answer will be, before it is made.

The limiter reserves by it and the queue charges by it; both are corrected at settlement. So a wrong prediction costs
order, not truth: too small, and a stream runs into debt; too large, and room is held until the stream ends.

A key's own answers say most about its next one. Until there are ``ENOUGH`` of them those of all keys stand in, and
until there are enough of those the model's default ``max_tokens``.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict, deque

QUANTILE = 0.9
"""High, because debt is what the range promised to bound, and what was reserved too much comes back."""

WINDOW = 256
"""Answers remembered of an endpoint: some minutes of a small one, and quick to follow when its use changes."""

KEY_WINDOW = 64
"""Answers remembered of a key: fewer, because there are many keys."""

ENOUGH = 8
"""Answers before a quantile is believed."""

KEYS = 1024
"""Keys remembered, at about 1 KB each; of more, the one whose last answer is the longest ago is forgotten."""


class RecentLengths:
    """The lengths of the last ``window`` answers, in tokens, and their quantile."""

    __slots__ = ("_recent", "_sorted", "_window", "quantile")

    def __init__(self, window: int) -> None:
        self._window = window
        self._recent: deque[int] = deque()
        self._sorted: list[int] = []
        self.quantile: int | None = None
        """None until there are enough."""

    def add(self, length: int) -> None:
        ordered = self._sorted
        if len(ordered) == self._window:
            del ordered[bisect_left(ordered, self._recent.popleft())]
        self._recent.append(length)
        insort(ordered, length)
        if len(ordered) >= ENOUGH:
            self.quantile = ordered[int(QUANTILE * (len(ordered) - 1) + 0.5)]


class OutputPrediction:
    """Of one served entity: what its answers, and those to each key, teach of the next. Lengths are in tokens."""

    __slots__ = ("_all", "_keys")

    def __init__(self) -> None:
        self._all = RecentLengths(WINDOW)
        self._keys: OrderedDict[str, RecentLengths] = OrderedDict()
        """The key with the latest answer last."""

    def predict(self, key: str, max_output: int, default: int) -> int:
        """Tokens to expect of a request of ``key`` that may produce ``max_output``."""
        expected = self._expected(self._keys.get(key), default)
        return expected if expected < max_output else max_output

    def observe(self, key: str, output: int, max_output: int, default: int) -> None:
        """Learn from an answer that came to its end.

        One that was cut by its own limit, where more was expected, says nothing of requests with a larger limit.
        """
        own = self._keys.get(key)
        if own is None:
            if len(self._keys) >= KEYS:
                self._keys.popitem(last=False)
            own = self._keys[key] = RecentLengths(KEY_WINDOW)
        else:
            self._keys.move_to_end(key)
        cut = output >= max_output
        if not cut or self._expected(own, default) <= output:
            own.add(output)
        if not cut or self._expected(None, default) <= output:
            self._all.add(output)

    def _expected(self, own: RecentLengths | None, default: int) -> int:
        if own is not None and own.quantile is not None:
            return own.quantile
        return default if self._all.quantile is None else self._all.quantile
