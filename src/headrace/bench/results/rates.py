"""What flowed when: requests in flight, tokens and work, integrated over time.

A request that straddles the edge of an interval counts in it with the part that fell inside, so that neither ramp nor
drain nor the length of answers bends a rate. Edges are seconds on the run's clock, evenly spaced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from headrace.bench.client.records import Outcome, Records
from headrace.bench.results import timings
from headrace.policy.work import Weights

Floats = NDArray[np.float64]

SHORTEST_S = 1e-4
"""What takes less is spread over this: the slope stays finite, and it is below what any interval here resolves."""


def in_flight(records: Records, edges: Floats) -> Floats:
    """Mean number of requests between their sending and their end, in each interval."""
    requests = records.requests
    sent, end = requests["sent_s"], requests["end_s"]
    went = ~np.isnan(sent) & (end > sent)
    return _rate(edges, sent[went], end[went], (end - sent)[went])


def input_rate(records: Records, edges: Floats) -> Floats:
    """Input tokens/s in each interval: a request's count evenly from its sending to its first token, the span in which
    they were read; of an answer that was no stream, to its end. A request without a first token has none."""
    requests = records.requests
    first = timings.first_shown_s(records)
    read = ~np.isnan(first) & ~np.isnan(requests["sent_s"])
    return _rate(edges, requests["sent_s"][read], first[read], requests["input_tokens"][read])


def output_rate(records: Records, edges: Floats) -> Floats:
    """Output tokens/s in each interval: each token when its event arrived; of an answer without events, all at its
    end."""
    count, width = len(edges) - 1, float(edges[1] - edges[0])
    limits = (float(edges[0]), float(edges[-1]))
    # As float: a histogram sums in the type of its weights, and 16 bits overflow.
    tokens, _ = np.histogram(records.event_s, count, limits, weights=records.event_tokens.astype(np.float64))
    requests = records.requests
    whole = (requests["events"] == 0) & (requests["output_tokens"] > 0) & (requests["outcome"] == Outcome.OK)
    late, _ = np.histogram(
        requests["end_s"][whole], count, limits, weights=requests["output_tokens"][whole].astype(np.float64)
    )
    return np.asarray((tokens + late) / width, np.float64)


def work_rate(records: Records, edges: Floats, weights: Weights) -> Floats:
    """Reference tokens/s in each interval: what a request's input weighs evenly from its sending to its first token,
    what its output weighs evenly from its first token to its last; of an answer that was no stream, all of it evenly
    from its sending to its end."""
    requests = records.requests
    whole, of_input = request_work(records, weights)
    first = timings.first_shown_s(records)
    streamed = ~np.isnan(requests["first_s"])
    read = ~np.isnan(first) & ~np.isnan(requests["sent_s"])
    before = np.where(streamed, of_input, whole)
    return _rate(edges, requests["sent_s"][read], first[read], before[read]) + _rate(
        edges, first[streamed], requests["last_s"][streamed], (whole - of_input)[streamed]
    )


def request_work(records: Records, weights: Weights) -> tuple[Floats, Floats]:
    """Reference tokens of each request, and of its input alone."""
    requests = records.requests
    cached = np.minimum(requests["cached_tokens"], requests["input_tokens"]).astype(np.float64)
    new = requests["input_tokens"] - cached
    out = requests["output_tokens"].astype(np.float64)
    # The formula is arithmetic alone, so it takes arrays as it takes numbers.
    work = cast(Callable[[Floats, Floats, Floats], Floats], weights.work)
    return work(new, cached, out), work(new, cached, np.zeros_like(out))


def events_per_interval(times: Floats, edges: Floats) -> NDArray[np.int64]:
    """How many of the times (NaN: never) fell into each interval."""
    counts, _ = np.histogram(times[~np.isnan(times)], len(edges) - 1, (float(edges[0]), float(edges[-1])))
    return np.asarray(counts, np.int64)


def _rate(edges: Floats, start: Floats, end: Floats, amount: Floats) -> Floats:
    """Amounts that each flow evenly from start to end: mean flow per second in each interval."""
    end = np.maximum(end, start + SHORTEST_S)
    slope = amount / (end - start)
    return np.asarray(np.diff(_since(edges, start, slope) - _since(edges, end, slope)) / np.diff(edges))


def _since(edges: Floats, start: Floats, slope: Floats) -> Floats:
    """Sum over all i of slope_i * max(0, edge - start_i), for each edge, in n log n."""
    order = np.argsort(start)
    ordered = start[order]
    slopes = np.concatenate(([0.0], np.cumsum(slope[order])))
    moments = np.concatenate(([0.0], np.cumsum(slope[order] * ordered)))
    begun = np.searchsorted(ordered, edges)
    return np.asarray(slopes[begun] * edges - moments[begun])
