"""How a load run stands while it runs."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.bench import slo as objectives
from headrace.bench.client.records import FIRST_FOLLOW_UP, Outcome, Records, follow_up
from headrace.bench.client.spec import ClientSpec
from headrace.bench.results import timings
from headrace.bench.slo import Slo
from headrace.bench.workload.sessions import SessionWorkload
from headrace.bench.workload.spec import MOST_TURNS, ClosedLoop

RECENT_S = 10.0
"""What a look shows of tokens/s and latency is of the requests that ended in so many seconds."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """How a run stands at this moment."""

    elapsed_s: float
    ended: int
    in_flight: int
    ok: int
    rejected: int
    failed: int
    """Failed, timed out or unavailable."""
    tokens_per_s: float
    """Input + output of answers that ended lately."""
    ttft_p50_s: float | None
    """From when due, lately."""
    attainment: float | None
    """Of the SLO's first criterion, so far."""


class Watch:
    """Counts what is new at each look, so that the looks of a long run cost no more than those of a short one."""

    def __init__(self, spec: ClientSpec, slo: Slo | None, sessions: SessionWorkload | None = None) -> None:
        """``sessions``: what is sent, where it is these."""
        self._arrivals = spec.load.arrivals
        self._criterion = None if slo is None else slo.criteria[0]
        self._turns = None if sessions is None else _LaterTurns(sessions)
        self._seen = 0
        """Requests."""
        self._recent = 0
        """Index of the first that ended lately. None before it will ever be recent again."""
        self._outcomes = np.zeros(len(Outcome), np.int64)
        self._measured = 0
        self._judged = 0
        self._good = 0

    def look(self, records: Records, elapsed_s: float) -> Look:
        """``records``: those of the last look, and more after them."""
        self._count(replace(records, requests=records.requests[self._seen :]))
        self._seen = len(records.requests)
        lately = records.requests["end_s"][self._recent :] > elapsed_s - RECENT_S
        self._recent += int(np.argmax(lately)) if lately.any() else len(lately)
        recent = replace(records, requests=records.requests[self._recent :])
        requests = recent.requests
        answered = (requests["end_s"] > elapsed_s - RECENT_S) & timings.ok(recent)
        tokens = int(requests["input_tokens"][answered].sum()) + int(requests["output_tokens"][answered].sum())
        ttft = timings.ttft_scheduled_s(recent)[answered]
        ttft = ttft[~np.isnan(ttft)]
        return Look(
            elapsed_s=elapsed_s,
            ended=self._seen - int(self._outcomes[Outcome.UNFINISHED]),
            in_flight=self._in_flight(records, elapsed_s),
            ok=int(self._outcomes[Outcome.OK]),
            rejected=int(self._outcomes[Outcome.REJECTED]),
            failed=int(self._outcomes[[Outcome.FAILED, Outcome.TIMED_OUT, Outcome.UNAVAILABLE]].sum()),
            tokens_per_s=tokens / min(RECENT_S, max(elapsed_s, 1e-9)),
            ttft_p50_s=float(np.median(ttft)) if len(ttft) else None,
            attainment=self._good / self._judged if self._judged else None,
        )

    def _count(self, new: Records) -> None:
        self._outcomes += np.bincount(new.requests["outcome"], minlength=len(Outcome))
        self._measured += int(timings.scheduled(new).sum())
        if self._turns is not None:
            self._turns.count(new.requests)
        if self._criterion is not None:
            judged = objectives.judged(new, self._criterion)
            self._judged += int(judged.sum())
            self._good += int((objectives.good(new, self._criterion) & judged).sum())

    def _in_flight(self, records: Records, elapsed_s: float) -> int:
        if isinstance(self._arrivals, ClosedLoop):
            return self._arrivals.users
        later = 0 if self._turns is None else self._turns.due(elapsed_s)
        return max(0, bisect_right(records.planned_s or (), elapsed_s) - self._measured) + later


class _LaterTurns:
    """Turns of sessions after the first are on no schedule, but each is due a known time after the answer before it."""

    def __init__(self, sessions: SessionWorkload) -> None:
        self._sessions = sessions
        self._due_s: dict[int, float] = {}
        """Of those that have not ended, by number."""

    def count(self, ended: NDArray[np.void]) -> None:
        rows = ended[["number", "outcome", "measured", "end_s"]].tolist()
        for number, outcome, measured, end_s in sorted(rows, key=lambda row: row[-1]):
            self._due_s.pop(number, None)
            session, turn = divmod(number - FIRST_FOLLOW_UP, MOST_TURNS) if number >= FIRST_FOLLOW_UP else (number, 0)
            if measured and outcome == Outcome.OK and turn + 1 < self._sessions.turns(session):
                due_s = end_s + self._sessions.think_s(session, turn + 1)
                self._due_s[follow_up(session, turn + 1)] = due_s

    def due(self, now_s: float) -> int:
        return sum(due_s <= now_s for due_s in self._due_s.values())
