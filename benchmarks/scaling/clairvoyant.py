"""A law that knows the traffic: how far below another one's chunk-hours could any law come?"""

from __future__ import annotations

from itertools import accumulate
from math import ceil

from cases import Case
from workloads import Workload

from headrace.planner.laws import Verdict
from headrace.policy.scaling import Knobs, Observation

BLOCK_S = 15
"""It changes its mind no more often."""


class Clairvoyant:
    """Has at each moment the chunks that the offered work of the ``around_s`` seconds about it needs, started in time.

    Over few seconds it knows each clump of requests, which nobody can; over two minutes it knows the rate, and not what
    chance makes of it.
    """

    def __init__(self, case: Case, workload: Workload, load: float, around_s: int) -> None:
        """``load``: of what the work needs, the part that it has."""
        self.knobs = Knobs()
        chunk, weights, seconds = case.terms.chunk, case.terms.weights, int(case.until_s)
        offered = [0.0] * seconds
        for at_s, new, out in workload:
            if at_s < seconds:
                offered[int(at_s)] += weights.work(new, 0, out)
        until = [0.0, *accumulate(offered)]
        needed: list[int] = []
        for second in range(seconds):
            low, high = max(0, second - around_s // 2), min(seconds, second + around_s - around_s // 2)
            exact = load * (until[high] - until[low]) / (high - low) / chunk
            needed.append(min(max(ceil(exact), 1), case.max_chunks))
        blocks = [max(needed[begin : begin + BLOCK_S]) for begin in range(0, seconds, BLOCK_S)]
        ready = [blocks[second // BLOCK_S] for second in range(seconds)]
        ahead = ceil(case.start_s) + 1
        self._chunks = [max(ready[second : second + ahead + 1]) for second in range(seconds)]

    def decide(self, seen: Observation) -> Verdict:
        return Verdict(self._chunks[min(int(seen.now), len(self._chunks) - 1)], "known", {})
