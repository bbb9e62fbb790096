"""Records with known answers, for the tests of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.bench.client.records import REQUEST, Outcome, ProcessReport, Records, TokensFrom
from headrace.bench.workload.spec import Amount, Arrivals, LoadSpec, Poisson

HEALTHY = ProcessReport(
    process=0, wall_s=100.0, cpu_s=10.0, loop_lag_p50_s=1e-4, loop_lag_p99_s=1e-3, loop_lag_max_s=2e-3
)


def spec(arrivals: Arrivals | None = None, *, duration_s: float | None = None, requests: int | None = None) -> LoadSpec:
    return LoadSpec(
        model="m", arrivals=arrivals or Poisson(10.0), amount=Amount(requests=requests, duration_s=duration_s)
    )


def run(
    scheduled_s: ArrayLike,
    *,
    lag_s: ArrayLike = 0.0,
    ttft_s: ArrayLike = 0.1,
    tpot_s: ArrayLike = 0.01,
    input_tokens: ArrayLike = 100,
    output_tokens: int = 11,
    tokens_per_event: int = 1,
    processes: Sequence[ProcessReport] = (HEALTHY,),
    planned: bool = True,
    stolen_share: float = 0.0,
) -> Records:
    """Complete streamed answers with evenly paced tokens; times from when each request was sent."""
    scheduled = np.asarray(scheduled_s, np.float64)
    count = len(scheduled)
    requests = np.zeros(count, REQUEST)
    requests["number"] = np.arange(count)
    requests["measured"] = requests["counted"] = True
    requests["status"] = 200
    requests["scheduled_s"] = scheduled
    requests["sent_s"] = scheduled + lag_s
    requests["first_s"] = requests["first_byte_s"] = requests["sent_s"] + ttft_s
    events = output_tokens // tokens_per_event
    pace = np.broadcast_to(np.asarray(tpot_s, np.float64) * tokens_per_event, count)
    arrivals = requests["first_s"][:, None] + pace[:, None] * np.arange(events)
    requests["last_s"] = requests["end_s"] = arrivals[:, -1]
    requests["asked_input"] = requests["input_tokens"] = input_tokens
    requests["asked_output"] = requests["output_tokens"] = events * tokens_per_event
    requests["events"] = events
    requests["first_event"] = np.arange(count) * events
    requests["error"] = -1
    requests["tokens_from"] = TokensFrom.AGREED
    return Records(
        requests=requests,
        event_s=arrivals.ravel(),
        event_tokens=np.full(count * events, tokens_per_event, np.uint16),
        errors=(),
        processes=tuple(processes),
        planned_s=tuple(scheduled.tolist()) if planned else None,
        stolen_share=stolen_share,
    )


def unstreamed(scheduled_s: ArrayLike, *, e2e_s: float, input_tokens: int = 100, output_tokens: int = 50) -> Records:
    """Complete answers that were no streams: one event at the end, whose first token nobody saw."""
    records = run(
        scheduled_s,
        ttft_s=e2e_s,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        tokens_per_event=output_tokens,
    )
    return changed(records, first_s=np.nan)


def poisson(rate: float, seconds: float, seed: int = 1) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    times = np.cumsum(generator.exponential(1 / rate, int(rate * seconds * 2) + 20))
    return times[times <= seconds]


def failing(
    records: Records,
    chosen: ArrayLike,
    outcome: Outcome,
    *,
    status: int = 0,
    error: str | None = None,
) -> Records:
    """The same run in which the chosen requests got no token, and ended 0.05 s after they were sent."""
    requests = records.requests.copy()
    rows = np.flatnonzero(chosen) if np.asarray(chosen).dtype == bool else np.asarray(chosen)
    event_tokens = records.event_tokens.copy()
    for row in rows:
        event_tokens[requests["first_event"][row] :][: requests["events"][row]] = 0  # as if they were not there
    for name in ("first_byte_s", "first_s", "last_s"):
        requests[name][rows] = np.nan
    requests["end_s"][rows] = requests["sent_s"][rows] + 0.05
    for name in ("events", "output_tokens", "cached_tokens"):
        requests[name][rows] = 0
    requests["counted"][rows] = False
    requests["outcome"][rows] = outcome
    requests["status"][rows] = status
    errors = records.errors
    if error is not None:
        requests["error"][rows] = len(errors)
        errors = (*errors, error)
    return replace(records, requests=requests, event_tokens=event_tokens, errors=errors)


def changed(records: Records, **columns: ArrayLike) -> Records:
    """The same run with these columns of its requests replaced."""
    requests = records.requests.copy()
    for name, values in columns.items():
        requests[name] = values
    return replace(records, requests=requests)
