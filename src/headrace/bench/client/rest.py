"""Where a load that was interrupted goes on: with the first request whose end is not on record.

All that was due before it has ended, quick answers and slow ones, so what is kept is what a run of that length would
have kept; the load that was on after it only kept the server busy, as it does at the end of every run. To keep whatever
had ended instead would keep the quick answers of the last seconds and leave out the slow ones, and to send the missing
ones at once would be a burst that is on no schedule.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from headrace.bench.client.records import Outcome
from headrace.bench.client.spec import Rest
from headrace.bench.workload.spec import ClosedLoop, LoadSpec


def rest_after(
    load: LoadSpec, planned_s: NDArray[np.float64] | None, processes: int, before: Rest, requests: NDArray[np.void]
) -> Rest | None:
    """What is left after ``requests`` were recorded of the rest ``before``, by a client that may not have lived to
    record them all. Their times are from where that began. None: all that is measured has ended.

    ``planned_s``: of the whole schedule; None for a closed loop. Sessions have no rest: answers are not on record.
    """
    assert load.sessions is None
    if planned_s is None:
        return _closed(load, processes, before, requests)
    ended = np.zeros(len(planned_s), np.bool_)
    ended[: before.begins] = True
    numbers = requests["number"][requests["outcome"] != Outcome.UNFINISHED]
    ended[numbers[numbers < len(ended)]] = True
    if ended.all():
        return None
    schedule_s = planned_s.item(int(np.argmin(ended)))
    first = int(np.searchsorted(planned_s, schedule_s))  # those due at the same time go again with it
    firsts = tuple(first + (share - first) % processes for share in range(processes))
    return Rest(firsts=firsts, schedule_s=schedule_s if first > before.begins else before.schedule_s)


def _closed(load: LoadSpec, processes: int, before: Rest, requests: NDArray[np.void]) -> Rest | None:
    """A user's next request is due when its last has ended, so the numbers of a process are in the order in which they
    were due, and one that is not on record was due no earlier than the one before it."""
    assert isinstance(load.arrivals, ClosedLoop)
    kept: list[NDArray[np.float64]] = []
    goes_on_s = math.inf
    for share in range(processes):
        own = requests[requests["number"] % processes == share]
        own = own[np.argsort(own["number"])]
        in_row = own["number"] == before.first(share) + processes * np.arange(len(own))
        count = _leading(in_row & (own["outcome"] != Outcome.UNFINISHED))
        due_s = own["scheduled_s"] + before.schedule_s
        kept.append(due_s[:count])
        known = count < len(own) and in_row[count]
        next_s = due_s.item(count) if known else due_s.item(count - 1) if count else before.schedule_s
        if _measured(load, before.first(share) + processes * count, next_s):
            goes_on_s = min(goes_on_s, next_s)
    if math.isinf(goes_on_s):
        return None
    firsts = tuple(before.first(share) + processes * _leading(due_s < goes_on_s) for share, due_s in enumerate(kept))
    return Rest(firsts=firsts, schedule_s=goes_on_s)


def _measured(load: LoadSpec, number: int, due_s: float) -> bool:
    requests, duration_s = load.amount.requests, load.amount.duration_s
    return (requests is None or number < requests) and (duration_s is None or due_s < duration_s)


def _leading(chosen: NDArray[np.bool_]) -> int:
    """How many are chosen before the first that is not."""
    return int(np.argmin(np.append(chosen, False)))
