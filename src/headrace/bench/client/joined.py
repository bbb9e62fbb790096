"""The segments of a run that was interrupted, put together as the records of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from headrace.bench.client.records import Records, Segment
from headrace.bench.client.spec import Rest

TIMES = ("scheduled_s", "sent_s", "first_byte_s", "first_s", "last_s", "end_s")


@dataclass(frozen=True, slots=True)
class Part:
    """What one client measured, from its start on."""

    records: Records
    """On a clock of its own."""
    began: float
    """Unix time, in seconds."""
    schedule_s: float
    """Where on the schedule."""
    told: bool = True
    """As ``Segment`` has it."""


def before(records: Records, rest: Rest) -> Records:
    """Without the requests that the rest sends again."""
    requests = records.requests
    firsts = np.asarray(rest.firsts)
    return replace(records, requests=requests[requests["number"] < firsts[requests["number"] % len(firsts)]])


def join(parts: Sequence[Part]) -> Records:
    """On one clock, on which a part begins when all answers of the one before it had come: no two overlap, and the time
    in between is not there. At least one part; those in which nothing was measured are left out."""
    parts = [part for part in parts if len(part.records.requests)] or list(parts[-1:])
    starts_s = [0.0]
    for part, following in pairwise(parts):
        load_s = following.schedule_s - part.schedule_s
        ended_s = float(np.nanmax(part.records.requests["end_s"]))
        starts_s.append(starts_s[-1] + max(load_s, ended_s))
    if len(parts) == 1:
        return parts[0].records
    rows, times, tokens, planned = [], [], [], list[float]()
    errors: dict[str, int] = {}
    events = 0
    for part, start_s in zip(parts, starts_s, strict=True):
        records = part.records
        requests, chosen = _with_own_events(records.requests, events)
        for name in TIMES:
            requests[name] += start_s
        indexes = np.asarray([errors.setdefault(error, len(errors)) for error in records.errors], np.int32)
        with_error = requests["error"] >= 0
        requests["error"][with_error] = indexes[requests["error"][with_error]]
        rows.append(requests)
        times.append(records.event_s[chosen] + start_s)
        tokens.append(records.event_tokens[chosen])
        planned += [due_s + start_s for due_s in records.planned_s or ()]
        events += len(chosen)
    joined = np.concatenate(rows)
    return Records(
        requests=joined[np.argsort(joined["number"], kind="stable")],
        event_s=np.concatenate(times),
        event_tokens=np.concatenate(tokens),
        errors=tuple(errors),
        processes=tuple(report for part in parts for report in part.records.processes),
        planned_s=None if parts[0].records.planned_s is None else tuple(planned),
        stolen_share=max(part.records.stolen_share for part in parts),
        segments=tuple(
            Segment(began=part.began, start_s=start_s, schedule_s=part.schedule_s, told=part.told)
            for part, start_s in zip(parts, starts_s, strict=True)
        ),
    )


def _with_own_events(requests: NDArray[np.void], first: int) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """The requests, with their events one after the other from ``first`` on; and where these are now."""
    requests = requests.copy()
    counts = requests["events"].astype(np.int64)
    starts = np.cumsum(counts) - counts
    chosen = np.repeat(requests["first_event"] - starts, counts) + np.arange(int(counts.sum()))
    requests["first_event"] = first + starts
    return requests, chosen
