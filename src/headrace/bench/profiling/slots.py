"""How many requests a replica should have in flight: the operating point.

Pure: told what was measured with some numbers in flight, it says which number to try next, and which is best.

With a latency target it is the largest number that meets it, and latency grows with the number. Without one it is the
number with the most throughput / latency, taken to rise to one peak and fall after it. Either way numbers are doubled
until they are too many, and then the gap is halved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt

from headrace.bench.errors import BenchError
from headrace.bench.profiling.asking import Asked
from headrace.bench.profiling.evidence import Blocks, relative_error
from headrace.bench.profiling.shapes import REFERENCE
from headrace.bench.profiling.station import Turn
from headrace.bench.slo import Criterion, Slo
from headrace.profiles.profile import OperatingPoint


@dataclass(slots=True)
class Scan:
    """The search for the number of slots, 1 to ``most``."""

    most: int
    slo: Slo | None = None
    points: dict[int, OperatingPoint] = field(default_factory=dict)

    def next(self) -> int | None:
        """A number to measure; None when more would say no more."""
        tried = sorted(self.points)
        if not tried:
            return 1
        best = self._best(tried)
        above = min((number for number in tried if number > best), default=None)
        if above is None and best < self.most:
            return min(2 * best, self.most)
        if above is not None and above - best > 1:
            return (best + above) // 2
        below = max((number for number in tried if number < best), default=None)
        if self.slo is None and below is not None and best - below > 1:
            return (below + best) // 2
        return None

    def told(self, point: OperatingPoint) -> None:
        self.points[point.slots] = point

    @property
    def best(self) -> int:
        """Raises BenchError where the target is not even met with one request in flight."""
        best = self._best(sorted(self.points))
        point = self.points[best]
        if point.meets_target is False:
            tpot = "" if point.tpot_s is None else f" and a TPOT of {point.tpot_s * 1000:.1f} ms"
            raise BenchError(
                f"with one request in flight, reference requests have a TTFT of {point.ttft_s or 0:.3g} s{tpot}: the "
                "latency target is met by no number of slots; give a weaker one, or use faster hardware"
            )
        return best

    def _best(self, tried: Sequence[int]) -> int:
        if self.slo is not None:
            return max((number for number in tried if self.points[number].meets_target), default=tried[0])
        return max(tried, key=lambda number: self.points[number].merit)

    def as_good(self, error: float) -> tuple[int, int]:
        """The numbers that were tried and may as well be the best one, where times are known to ``error``
        (relative, 95%): from the least to the most of them."""
        best = self.best
        if self.slo is not None:
            return best, best
        merit = self.points[best].merit
        # Merit goes with the inverse square of the seconds, and two of them are compared.
        slack = 1 + 2 * sqrt(2) * error
        fine = [number for number, point in self.points.items() if point.merit * slack >= merit]
        return min(fine), max(fine)


def operating_point(slots: int, turns: Sequence[Turn], slo: Slo | None) -> OperatingPoint:
    """What reference requests did with ``slots`` in flight."""
    blocks = Blocks(turns)
    seconds = blocks.mean_s(turns[0].case)
    error = relative_error(turns)
    asked = [one for turn in turns for one in turn.asked]
    ttfts = [one.first_s - one.sent_s for one in asked if one.first_s is not None]
    tpots = [one.tpot_s for one in asked if one.tpot_s is not None]
    rate = REFERENCE.tokens / seconds
    return OperatingPoint(
        slots=slots,
        tokens_per_s=rate,
        latency_s=slots * seconds,
        tokens_per_s_range=None if error is None else (rate * (1 - error), rate * (1 + error)),
        ttft_s=sum(ttfts) / len(ttfts) if ttfts else None,
        tpot_s=sum(tpots) / len(tpots) if tpots else None,
        meets_target=None if slo is None else _meets(slo, turns),
    )


def _meets(slo: Slo, turns: Sequence[Turn]) -> bool:
    """Every criterion's part of the requests is good."""
    asked = [one for turn in turns for one in turn.asked]
    return all(
        sum(_good(criterion, one) for one in asked) >= criterion.attainment * len(asked) for criterion in slo.criteria
    )


def _good(criterion: Criterion, asked: Asked) -> bool:
    """In a closed loop a request is due when it is sent."""
    limits = (
        (criterion.ttft_s, None if asked.first_s is None else asked.first_s - asked.sent_s),
        (criterion.tpot_s, asked.tpot_s),
        (criterion.e2e_s, asked.end_s - asked.sent_s),
    )
    return all(limit is None or seconds is None or seconds <= limit for limit, seconds in limits)
