"""Offered work per second, from the counters that gateways report.

Counters and not gauges, so nothing that happened between two reports is missed. A gateway's counters begin at zero with
each life of its process, and each life has its own id, so a restart is another source and never a jump back. A counter
may go down: settlements correct it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seen:
    """All that a ``Demand`` knows."""

    longest_window_s: float
    last: dict[str, tuple[float, float]]
    gains: tuple[tuple[float, float, float], ...]
    began: float | None


class Demand:
    """Offered work of one endpoint over the last ``longest_window_s`` seconds, all gateways together."""

    def __init__(self, longest_window_s: float) -> None:
        self._longest_s = longest_window_s
        self._last: dict[str, tuple[float, float]] = {}
        """By gateway life: when it last reported, and its counter then."""
        self._gains: deque[tuple[float, float, float]] = deque()
        """(from, to, reference tokens offered between them), in the order of ``to``."""
        self._began: float | None = None

    @classmethod
    def restored(cls, seen: Seen) -> Demand:
        demand = cls(seen.longest_window_s)
        demand._last, demand._gains, demand._began = dict(seen.last), deque(seen.gains), seen.began
        return demand

    def seen(self) -> Seen:
        """For ``restored``."""
        return Seen(self._longest_s, dict(self._last), tuple(self._gains), self._began)

    def sample(self, now: float, gateway: str, offered_work: float) -> None:
        """A gateway reports its cumulative offered work in reference tokens.

        The first report of a gateway is only where its counting starts: a controller that has just started cannot know
        over which time that work came.
        """
        if self._began is None:
            self._began = now
        last = self._last.get(gateway)
        if last is not None and now > last[0]:
            self._gains.append((last[0], now, offered_work - last[1]))
        if last is None or now > last[0]:
            self._last[gateway] = (now, offered_work)
        horizon = now - self._longest_s
        while self._gains and self._gains[0][1] <= horizon:
            self._gains.popleft()
        for silent in [name for name, (at, _) in self._last.items() if at < horizon]:
            del self._last[silent]

    def rate(self, now: float, window_s: float) -> float:
        """Reference tokens/s offered over the last ``window_s`` seconds; time before the first report counts as none.

        What a gateway reports after a silence is spread over the silence.
        """
        start = now - window_s
        total = 0.0
        for since, until, gain in reversed(self._gains):
            if until <= start:
                break
            total += gain if since >= start else gain * (until - start) / (until - since)
        return max(0.0, total) / window_s

    def history_s(self, now: float) -> float:
        """Seconds since the first report."""
        return 0.0 if self._began is None else now - self._began
