"""A run over time and as distributions, in as few points as a plot shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.bench.client.records import Outcome, Records
from headrace.bench.results import rates, timings
from headrace.bench.results.timings import Seconds
from headrace.bench.results.window import Window

INTERVALS = 300
COARSE = 60
"""Where an interval must hold enough requests for percentiles."""
REQUESTS_PER_INTERVAL = 20
BINS = 80
LEVELS = (0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Parts of all values, in bins of equal ratio."""

    edges: Seconds
    shares: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curves:
    """Fine series have ``INTERVALS`` points and go on until the last answer; coarse ones end with the load."""

    at_s: Seconds
    """Middle of each fine interval."""
    in_flight: NDArray[np.float64]
    input_rate: NDArray[np.float64]
    output_rate: NDArray[np.float64]
    coarse_at_s: Seconds
    coarse_input_and_output: NDArray[np.float64]
    latencies: dict[str, NDArray[np.float64]]
    """``ttft``, ``tpot`` and ``e2e`` by when requests were due (TTFT and E2E from then): a row for each of ``LEVELS``,
    NaN where nothing was complete. With under 100 requests in an interval, its p99 is its largest value."""
    outcome_at_s: Seconds
    outcome_width_s: float
    outcomes: dict[Outcome, NDArray[np.int64]]
    """Measured requests that ended in each interval; only those outcomes that occurred."""
    ttft: Histogram | None
    itl: Histogram | None


def of_run(records: Records, window: Window) -> Curves:
    requests = records.requests
    load_end = max(window.load_end_s, 1e-3)
    end = max(load_end, float(np.nanmax(requests["end_s"], initial=0.0)))
    fine = np.linspace(0.0, end, INTERVALS + 1)
    complete = timings.ok(records) & requests["measured"]
    coarse = np.linspace(0.0, load_end, int(np.clip(complete.sum() / REQUESTS_PER_INTERVAL, 5, COARSE)) + 1)
    ends = np.linspace(0.0, end, COARSE + 1)
    due = requests["scheduled_s"][complete]
    return Curves(
        at_s=_middles(fine),
        in_flight=rates.in_flight(records, fine),
        input_rate=rates.input_rate(records, fine),
        output_rate=rates.output_rate(records, fine),
        coarse_at_s=_middles(coarse),
        coarse_input_and_output=rates.input_rate(records, coarse) + rates.output_rate(records, coarse),
        latencies={
            "ttft": _levels(due, timings.ttft_scheduled_s(records)[complete], coarse),
            "tpot": _levels(due, timings.tpot_s(records)[complete], coarse),
            "e2e": _levels(due, timings.e2e_scheduled_s(records)[complete], coarse),
        },
        outcome_at_s=_middles(ends),
        outcome_width_s=float(ends[1]),
        outcomes={
            outcome: rates.events_per_interval(requests["end_s"][chosen], ends)
            for outcome in Outcome
            if (chosen := requests["measured"] & (requests["outcome"] == outcome)).any()
        },
        ttft=_histogram(timings.ttft_scheduled_s(records)[complete]),
        itl=_histogram(timings.gaps_s(records, complete)[0]),
    )


def _middles(edges: Seconds) -> Seconds:
    return np.asarray((edges[1:] + edges[:-1]) / 2)


def _levels(due: Seconds, values: Seconds, edges: Seconds) -> NDArray[np.float64]:
    """Percentiles of the values in each interval of when they were due."""
    seen = ~np.isnan(values) & (due <= edges[-1])
    values = values[seen]
    place = np.clip(np.searchsorted(edges, due[seen], side="right") - 1, 0, len(edges) - 2)
    ordered = values[np.lexsort((values, place))]
    counts = np.bincount(place, minlength=len(edges) - 1)
    starts = np.cumsum(counts) - counts
    found = np.full((len(LEVELS), len(counts)), np.nan)
    filled = counts > 0
    for row, level in enumerate(LEVELS):
        ranks = np.maximum(np.ceil(level * counts - 1e-9).astype(np.int64), 1)
        found[row, filled] = ordered[(starts + ranks - 1)[filled]]
    return found


def _histogram(values: Seconds) -> Histogram | None:
    """None without a positive value. What is less than a microsecond counts in the first bin."""
    values = np.maximum(values[~np.isnan(values)], 1e-6)
    if not len(values):
        return None
    low, high = float(values.min()), float(values.max())
    edges = np.geomspace(low * 0.99, high * 1.01, BINS + 1)
    counts, _ = np.histogram(values, edges)
    return Histogram(edges, counts / len(values))
