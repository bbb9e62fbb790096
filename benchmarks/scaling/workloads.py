"""The traffic on which scaling laws are judged: (arrival in seconds, input tokens, output tokens), in order of
arrival."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import cos, pi
from pathlib import Path

from headrace.bench.workload.datasets.mooncake import read_mooncake
from headrace.bench.workload.datasets.recognise import recognise
from headrace.bench.workload.datasets.rows import Shapes
from headrace.bench.workload.datasets.tables import read_table

Workload = list[tuple[float, int, int]]

MOVED_S = 8.0
"""Standard deviation: demand of a minute stays, and which requests come together does not."""


class MissingError(Exception):
    """A file is not at hand; the message says which and where it comes from."""


def steps(chunk: float, stages: Sequence[tuple[float, float]], seed: int) -> Workload:
    """Reference requests (2048/256) at random: of each stage (chunks of demand, seconds), one after the other."""
    draw = random.Random(seed)
    found: Workload = []
    begins = 0.0
    for chunks, seconds in stages:
        now = begins
        while (now := now + draw.expovariate(chunks * chunk / 2304)) < begins + seconds:
            found.append((now, 2048, 256))
        begins += seconds
    return found


def day(work_s: tuple[float, float], seconds: int, variation: float, seed: int) -> Workload:
    """A day in ``seconds``: offered work goes from the first of ``work_s`` (reference tokens/s) to the second and back.

    Gaps are gamma-distributed with the coefficient of ``variation``, so above 1 requests come in bursts; lengths are
    log-normal, about 1,100 tokens in and 190 out.
    """
    draw = random.Random(seed)
    low, high = work_s
    mean_work = 1400.0
    rates = (low + (high - low) * (1 - cos(2 * pi * second / seconds)) / 2 for second in range(seconds))
    expected = list(accumulate(rate / mean_work for rate in rates))
    found: Workload = []
    passed = 0.0
    while (passed := passed + draw.gammavariate(variation**-2, variation**2)) < expected[-1]:
        second = bisect_left(expected, passed)
        before = expected[second - 1] if second else 0.0
        at_s = second + (passed - before) / (expected[second] - before)
        lengths = draw.lognormvariate(6.7, 0.8), draw.lognormvariate(5.0, 0.7)
        found.append((at_s, min(4096, 1 + int(lengths[0])), min(1024, 1 + int(lengths[1]))))
    return found


def trace(path: Path, *, keep: float = 1.0, most_tokens: int, seed: int = 0) -> Workload:
    """A recorded hour. ``keep``: the part of its requests that are kept, each by a coin of its own, which makes the
    traffic of so many of its users. Requests of more than ``most_tokens`` are left out: no context holds them."""
    shapes = _shapes(path)
    assert shapes.time_s is not None
    draw = random.Random(seed)
    rows = zip(shapes.time_s.tolist(), shapes.inputs.tolist(), shapes.outputs.tolist(), strict=True)
    return [row for row in rows if draw.random() < keep and row[1] + row[2] <= most_tokens]


def moved(workload: Workload, until_s: float, seed: int) -> Workload:
    """Another draw of chance: each request comes some seconds sooner or later than it did."""
    draw = random.Random(seed)
    return sorted((min(max(0.0, at_s + draw.gauss(0, MOVED_S)), until_s), new, out) for at_s, new, out in workload)


def _shapes(path: Path) -> Shapes:
    if not path.exists():
        raise MissingError(f"{path.name} is not at hand: see the README on where it comes from")
    return read_mooncake(str(path)) if recognise(str(path)) == "mooncake" else read_table(str(path))
