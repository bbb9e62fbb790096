"""The beat of a worker: every 10 ms it sees how late the event loop is, and does what is to be done now and then."""

from __future__ import annotations

import resource
from array import array
from collections.abc import Callable
from time import monotonic

import numpy as np

from headrace.bench.client.records import ProcessReport
from headrace.bench.client.timer import Timer

EVERY_S = 0.01
_FLUSH_EVERY = 25
"""Beats: four times a second."""
_BLOCK = 1000
"""Requests and events. Where more of them wait they are written at once: a quarter of a second of a busy client would
be a pause in its measurement, of a millisecond or more."""


class Pulse:
    def __init__(self, sweep: Callable[[], None], flush: Callable[[int], None]) -> None:
        """``flush``: write what waits, if it is so much at least."""
        self._sweep = sweep
        self._flush = flush
        self._lags = array("f")
        self._timer = Timer(self._beat)
        self._due = 0.0
        self._zero = 0.0
        self._cpu_s = 0.0

    def start(self, zero: float) -> None:
        self._zero = zero
        self._cpu_s = _cpu_s()
        self._due = monotonic() + EVERY_S
        self._timer.at(self._due)

    def report(self, process: int) -> ProcessReport:
        """About the time since the start."""
        lags = np.frombuffer(self._lags, np.float32) if self._lags else np.zeros(1, np.float32)
        p50, p99, most = np.quantile(lags, (0.5, 0.99, 1.0), method="higher")
        return ProcessReport(
            process=process,
            wall_s=monotonic() - self._zero,
            cpu_s=_cpu_s() - self._cpu_s,
            loop_lag_p50_s=float(p50),
            loop_lag_p99_s=float(p99),
            loop_lag_max_s=float(most),
        )

    def _beat(self) -> None:
        now = monotonic()
        self._lags.append(now - self._due)
        self._sweep()
        self._flush(_BLOCK if len(self._lags) % _FLUSH_EVERY else 1)
        self._due = now + EVERY_S
        self._timer.at(self._due)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
