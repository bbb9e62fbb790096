"""A service level objective: what a good answer is, and how many of them must be good."""

from __future__ import annotations

import re
from decimal import Decimal

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.bench.client.records import Outcome, Records
from headrace.bench.errors import BenchError
from headrace.bench.results import timings


class Criterion(msgspec.Struct, frozen=True, kw_only=True):
    """A request is good when it is answered in full and within each limit that is given, all timed from when it was
    due."""

    attainment: float
    """The part of requests that must be good, such as 0.99."""
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None


class Slo(msgspec.Struct, frozen=True):
    """All criteria must hold. ``ttft_p99=2s,tpot_p99=100ms`` is one criterion with both limits, at 0.99: a request is
    good when it meets both."""

    criteria: tuple[Criterion, ...]


def _mlperf(ttft_s: float, tpot_s: float) -> Slo:
    return Slo((Criterion(attainment=0.99, ttft_s=ttft_s, tpot_s=tpot_s),))


PRESETS = {
    "mlperf:llama2-70b": _mlperf(2.0, 0.2),
    "mlperf:llama2-70b-interactive": _mlperf(0.45, 0.04),
    "mlperf:llama3.1-8b": _mlperf(2.0, 0.1),
    "mlperf:llama3.1-8b-interactive": _mlperf(0.5, 0.03),
    "mlperf:llama3.1-405b": _mlperf(6.0, 0.175),
    "mlperf:llama3.1-405b-interactive": _mlperf(4.5, 0.08),
}
"""The limits of MLPerf Inference's server scenario (mlcommons/inference, mlperf.conf), which it wants at p99."""

_EXAMPLE = "such as ttft_p99=2s,tpot_p99=100ms,e2e_p90=30s"
_LIMIT = re.compile(
    r"(?P<metric>[a-z0-9]+)_p(?P<quantile>\d+(?:\.\d+)?)=(?P<value>\d+(?:\.\d+)?|\.\d+)(?P<unit>[a-z]*)"
)
_METRICS = {"ttft": "ttft_s", "tpot": "tpot_s", "e2e": "e2e_s"}
_UNITS = {"us": Decimal("1e-6"), "ms": Decimal("1e-3"), "s": Decimal(1), "m": Decimal(60)}


def parse(text: str) -> Slo:
    """The objective that ``text`` says: limits, or the name of a preset.

    Criteria come in falling order of their attainment.

    Raises:
        BenchError: it says none; the message names what is wrong.
    """
    text = text.strip().lower()
    if text.startswith("mlperf"):
        if text not in PRESETS:
            raise BenchError(f"no preset {text!r}; there are {', '.join(PRESETS)}")
        return PRESETS[text]
    limits: dict[Decimal, dict[str, float]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        field, quantile, seconds = _limit(part)
        joint = limits.setdefault(quantile, {})
        if field in joint:
            raise BenchError(f"--slo limits {field.removesuffix('_s')}_p{quantile:f} twice; give one limit")
        joint[field] = seconds
    if not limits:
        raise BenchError(f"--slo holds no limit; expected some, {_EXAMPLE}, or a preset: {', '.join(PRESETS)}")
    return Slo(
        tuple(
            Criterion(attainment=float(quantile / 100), **joint)
            for quantile, joint in sorted(limits.items(), reverse=True)
        )
    )


def _limit(part: str) -> tuple[str, Decimal, float]:
    """Field of ``Criterion``, quantile in percent, seconds."""
    if re.match(r"[a-z0-9]+_(mean|avg|average)\b", part):
        raise BenchError(
            f"--slo {part!r}: a mean is no criterion, since no single answer meets or misses it; "
            f"give a percentile, {_EXAMPLE}"
        )
    match = _LIMIT.fullmatch(part.replace(" ", ""))
    if match is None:
        raise BenchError(f"--slo {part!r}: expected metric_pQUANTILE=LIMIT with a unit (ms, s, m), {_EXAMPLE}")
    if match["metric"] not in _METRICS:
        raise BenchError(f"--slo {part!r}: no metric {match['metric']!r}; there are {', '.join(_METRICS)}")
    if match["unit"] not in _UNITS:
        said = f"no unit {match['unit']!r}" if match["unit"] else "no unit"
        raise BenchError(f"--slo {part!r}: {said}; write {', '.join(_UNITS)} after the number")
    quantile = Decimal(match["quantile"])
    if not 0 < quantile < 100:
        raise BenchError(f"--slo {part!r}: p{match['quantile']} is no percentile; it must lie between 0 and 100")
    seconds = float(Decimal(match["value"]) * _UNITS[match["unit"]])
    if seconds <= 0:
        raise BenchError(f"--slo {part!r}: the limit must be more than 0")
    return _METRICS[match["metric"]], quantile.normalize(), seconds


def describe(criterion: Criterion) -> str:
    """In words: ``99% of requests with TTFT at most 2 s and TPOT at most 100 ms``."""
    named = (("TTFT", criterion.ttft_s), ("TPOT", criterion.tpot_s), ("E2E", criterion.e2e_s))
    limits = [f"{name} at most {_seconds(limit)}" for name, limit in named if limit is not None]
    return f"{criterion.attainment * 100:g}% of requests with {' and '.join(limits) or 'a complete answer'}"


def _seconds(value: float) -> str:
    return f"{value * 1000:g} ms" if value < 1 else f"{value:g} s"


def tightest_s(slo: Slo | None) -> float | None:
    """The smallest TTFT limit of any criterion, in seconds; where there is none, the smallest E2E limit; None for
    neither.

    A client that is late by a part of it moves an answer by that part of what is wanted.
    """
    criteria = slo.criteria if slo else ()
    ttft = [c.ttft_s for c in criteria if c.ttft_s is not None]
    return min(ttft or [c.e2e_s for c in criteria if c.e2e_s is not None], default=None)


def good(records: Records, criterion: Criterion) -> NDArray[np.bool_]:
    """Which of ``records.requests`` are good: complete, and within every limit.

    TTFT and E2E count from when a request was due; an answer that was no stream shows its first token at its end. TPOT
    of a one-token answer is met; that of an answer that came in one event is judged by what it cannot exceed
    (``timings.tpot_at_most_s``).
    """
    within = timings.ok(records)
    if criterion.ttft_s is not None:
        within &= timings.first_shown_s(records) - records.requests["scheduled_s"] <= criterion.ttft_s
    if criterion.tpot_s is not None:
        within &= timings.tpot_at_most_s(records) <= criterion.tpot_s
    if criterion.e2e_s is not None:
        within &= timings.e2e_scheduled_s(records) <= criterion.e2e_s
    return within


def judged(records: Records, criterion: Criterion) -> NDArray[np.bool_]:
    """Which of ``records.requests`` say whether the criterion holds: the measured ones whose fate is known.

    Not a 429, which is a limit of a contract and no failure of capacity. Not a request that the end of the run cut off
    while it could still have been good; one that was already too late counts, as bad.
    """
    requests = records.requests
    open_fate = requests["outcome"] == Outcome.UNFINISHED
    for limit, happened in ((criterion.ttft_s, requests["first_s"]), (criterion.e2e_s, requests["end_s"])):
        if limit is not None:
            reached = np.where(np.isnan(happened), requests["end_s"], happened)
            open_fate &= ~(reached - requests["scheduled_s"] > limit)
    return np.asarray(requests["measured"] & (requests["outcome"] != Outcome.REJECTED) & ~open_fate)
