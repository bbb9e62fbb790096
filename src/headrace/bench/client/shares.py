"""What part of a load is one process's: of n processes, every n-th request of the schedule, or every n-th user."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headrace.bench.client.spec import Rest
from headrace.bench.workload.arrivals import due_times
from headrace.bench.workload.spec import ClosedLoop, LoadSpec, Stages

MOST_KEPT_ON = 1_000_000
"""Requests after the measured ones, at most: in case these never end."""
REST_OF_ALL = Rest()


def planned_s(load: LoadSpec, trace_s: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """Due times of the measured part; None for a closed loop. Raises BenchError."""
    if isinstance(load.arrivals, ClosedLoop):
        return None
    return due_times(load.arrivals, load.amount, load.seed, trace_s)


def open_share(
    load: LoadSpec,
    trace_s: NDArray[np.float64] | None,
    keep_on_s: float,
    share: int,
    processes: int,
    rest: Rest = REST_OF_ALL,
) -> tuple[NDArray[np.float64], int]:
    """Due times of one process's requests, and how many of them are measured.

    Unless a number of requests decides, load is kept on after the measured ones for up to ``keep_on_s``, while these
    are answered: they are to end under the load that they began in. Stages go on at their last rate, and a trace comes
    round again. Times are from where ``rest`` begins. Raises BenchError.
    """
    assert not isinstance(load.arrivals, ClosedLoop)
    due_s = planned_s(load, trace_s)
    assert due_s is not None
    measured = len(range(share, len(due_s), processes))
    if len(due_s) and (load.amount.requests is None or len(due_s) < load.amount.requests):
        beyond_s = min(keep_on_s, MOST_KEPT_ON / _rate(load, due_s))
        due_s = due_times(load.arrivals, load.amount, load.seed, trace_s, beyond_s=beyond_s)
    done = (rest.first(share) - share) // processes
    return np.ascontiguousarray(due_s[share::processes][done:]) - rest.schedule_s, max(0, measured - done)


def _rate(load: LoadSpec, due_s: NDArray[np.float64]) -> float:
    """Requests/s at most after the measured ones; of a trace, on average."""
    if isinstance(load.arrivals, Stages):
        return max(rate for stage in load.arrivals.stages for rate in (stage.from_rate, stage.to_rate))
    return len(due_s) / (load.amount.duration_s or due_s.item(-1))


def closed_share(
    load: LoadSpec, share: int, processes: int, rest: Rest = REST_OF_ALL
) -> tuple[list[float], int | None]:
    """When one process's users start, in seconds from the run's zero, and how many requests are theirs."""
    closed = load.arrivals
    assert isinstance(closed, ClosedLoop)
    starts_s = [closed.ramp_s * user / closed.users for user in range(share, closed.users, processes)]
    requests = load.amount.requests
    return starts_s, None if requests is None else len(range(rest.first(share), requests, processes))


def useful_processes(load: LoadSpec, processes: int) -> int:
    """A process without a user would keep its share of the requests to itself."""
    return min(processes, load.arrivals.users) if isinstance(load.arrivals, ClosedLoop) else processes
