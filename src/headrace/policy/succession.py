"""What the scaling of a served entity begins with that takes over the traffic of another one.

A reference request weighs the same with every model, so demand in reference tokens is carried over as it is; numbers of
chunks are of another size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil

from headrace.policy.demand import Seen
from headrace.policy.observing import Memory
from headrace.policy.scaling import State


def memory_of_heir(memory: Memory, now: float, window_s: float) -> Memory:
    """Of an observer whose counters begin at zero and that looks over ``window_s``.

    What waits at the predecessor is told to go on to the heir and arrives there once more: it counts once.
    """
    queued_work = {gateway: report.queued_work for gateway, report in memory.reports.items()}
    queued = {gateway: float(report.queued) for gateway, report in memory.reports.items()}
    return replace(
        memory,
        reports={},
        window_s=window_s,
        demand=None if memory.demand is None else _inherited(memory.demand, queued_work, now, window_s),
        arrivals=None if memory.arrivals is None else _inherited(memory.arrivals, queued, now, window_s),
    )


def state_of_heir(state: State, chunk: float, heirs: float) -> State:
    """``chunk``, ``heirs``: reference tokens/s of one chunk, before and from now on.

    The count to start from is what runs of the heir then.
    """
    enough = tuple((at, ceil(chunks * chunk / heirs)) for at, chunks in state.enough)
    return replace(state, target=None, enough=enough)


def _inherited(seen: Seen, waiting: Mapping[str, float], now: float, window_s: float) -> Seen:
    began = seen.began
    if began is not None and window_s > seen.longest_window_s:
        began = max(began, now - seen.longest_window_s)  # nothing is kept of what was before
    return Seen(
        longest_window_s=window_s,
        last={gateway: (at, waiting.get(gateway, 0.0)) for gateway, (at, _) in seen.last.items()},
        gains=seen.gains,
        began=began,
    )
