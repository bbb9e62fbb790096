"""Does the interval of a capacity search hold the true capacity? Searches by the thousand, on a virtual clock."""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from headrace.bench.capacity.search import Search
from headrace.bench.capacity.virtual import Batcher, Curve, Server, Station, carry_out, long_run_capacity
from headrace.bench.slo import Criterion

REQUESTS = {0.9: 25_000, 0.99: 120_000}
"""At the capacity, that the budget is worth."""


@dataclass(frozen=True)
class Shape:
    name: str
    target: float
    make: Callable[[int], tuple[Server, float]]
    """Server of a number, and its true capacity in requests/s."""


def falling(target: float, slope: float) -> Callable[[int], tuple[Server, float]]:
    """Logit of attainment falls with ``slope`` per unit of log rate; fates with a design effect of 3; the capacity is a
    different one each time."""

    def make(number: int) -> tuple[Server, float]:
        capacity = 10 * math.exp(np.random.default_rng(number).uniform(-0.7, 0.7))
        odds = (1 - target) / target
        return Curve(lambda rate: 1 / (1 + odds * (rate / capacity) ** slope), 1.3 * capacity, memory=0.5), capacity

    return make


def queue(
    server: Server, target: float, low: float, high: float, requests: int
) -> Callable[[int], tuple[Server, float]]:
    """Its true capacity is that of one run of ``requests``."""
    known: list[float] = []

    def make(number: int) -> tuple[Server, float]:
        if not known:
            known.append(long_run_capacity(server, target, low, high, requests=requests, seed=2**32))
        return server, known[0]

    return make


SHAPES = (
    Shape("cliff: slope 200", 0.99, falling(0.99, 200)),
    Shape("smooth: logistic, slope 10", 0.9, falling(0.9, 10)),
    Shape("queue: M/D/8, 1.6 services", 0.9, queue(Station(8, 1.6), 0.9, 2, 8, 8_000_000)),
    Shape("long flat decline: slope 3", 0.9, falling(0.9, 3)),
    Shape("queue: M/D/1, 3 services", 0.9, queue(Station(1, 3.0), 0.9, 0.1, 1, 8_000_000)),
    Shape("batching, 8 slots, wait and pace", 0.9, queue(Batcher(), 0.9, 1, 6.2, 1_500_000)),
)


def prove(shape: Shape, searches: int) -> dict[str, object]:
    held, errors, costs, widths, verdicts, too_high = 0, [], [], [], 0, 0
    began = time.monotonic()
    for number in range(searches):
        server, capacity = shape.make(number)
        search = Search(
            (Criterion(attainment=shape.target, e2e_s=1.0),), seed=number, budget_s=REQUESTS[shape.target] / capacity
        )
        answer = carry_out(search, server)
        costs.append(answer.requests)
        verdicts += answer.verdict == "PASS"
        too_high += answer.confirmed is not None and answer.confirmed > capacity
        if answer.interval is not None and answer.capacity is not None:
            held += answer.interval[0] <= capacity <= answer.interval[1]
            errors.append(abs(answer.capacity / capacity - 1))
            widths.append((answer.interval[1] - answer.interval[0]) / capacity)
    return {
        "shape": shape.name,
        "target": shape.target,
        "searches": searches,
        "held": held / searches,
        "median_error": float(np.median(errors)),
        "median_width": float(np.median(widths)),
        "passed": verdicts / searches,
        "confirmed_too_high": too_high / searches,
        "requests_median": float(np.median(costs)),
        "requests_p90": float(np.quantile(costs, 0.9)),
        "seconds": time.monotonic() - began,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--searches", type=int, default=1000, help="of each shape")
    parser.add_argument("--quick", action="store_true", default=bool(os.environ.get("QUICK")), help="20 of each")
    parser.add_argument("--shapes", default="", help="only those whose names hold this")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.json"))
    given = parser.parse_args()
    table = Table(
        "shape", "target", "searches", "interval holds", "error", "width", "PASS", "too high", "requests", "s"
    )
    rows = []
    for shape in SHAPES:
        if given.shapes not in shape.name:
            continue
        row = prove(shape, 20 if given.quick else given.searches)
        rows.append(row)
        print(json.dumps(row), flush=True)
        table.add_row(
            shape.name,
            f"{shape.target}",
            f"{row['searches']}",
            f"{row['held']:.1%}",
            f"{row['median_error']:.2%}",
            f"{row['median_width']:.1%}",
            f"{row['passed']:.1%}",
            f"{row['confirmed_too_high']:.1%}",
            f"{row['requests_median']:,.0f}",
            f"{row['seconds']:.0f}",
        )
    Console(width=150).print(table)
    given.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
