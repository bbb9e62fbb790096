"""Validity: whether a run's figures say something about the server, and not about the client, the machine or chance.

A run that fails a gate prints INVALID and why, never a bare number.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import kolmogorov

from headrace.bench import slo as objectives
from headrace.bench.client.records import Outcome, Records
from headrace.bench.results import timings
from headrace.bench.results.figures import Figures
from headrace.bench.results.window import Window
from headrace.bench.slo import Slo
from headrace.bench.workload.spec import ClosedLoop, Constant, LoadSpec

MAX_CPU = 0.70
"""Of a core, for a process of the client: above it, work waits for the event loop."""
LAG_SHARE = 0.01
"""Of the TTFT limit, or of the median TTFT: what the client may add to what it measures."""
ALWAYS_ALLOWED_S = 0.005
"""A machine that runs other work too gives a process its turn that late; but never more than the next share."""
MOST_LAG_SHARE = 0.05
MAX_SIGMAS = 3.0
MIN_KS_P = 0.01
MAX_LITTLE = 0.02
MIN_HONOURED = 0.99
MAX_INPUT_ERROR = 0.01
MARKS = 2.0
"""Tokens that a server may add to a prompt of any length: of its beginning and end."""
MAX_NULL_OF_SLO = 0.05
MAX_NULL_OF_TTFT = 0.10
MAX_STOLEN = 0.05
FEWEST_ANSWERS = 20
"""Without an objective. Also the fewest gaps that a distribution is tested on."""

About = Literal["client", "machine", "load", "answers", "amount"]


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """One condition for figures to be believed."""

    name: str
    about: About
    """What is in doubt where it fails. A backlog fails only ``load``, so a probe of too high a rate is still told from
    one whose client was too slow."""
    passed: bool | None
    """None: it does not apply to this run, or could not be seen; ``words`` says why."""
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    words: str
    """What was seen and, where it failed, what to do."""


def check(
    records: Records,
    figures: Figures,
    window: Window,
    *,
    spec: LoadSpec,
    slo: Slo | None,
    null_before_s: float | None = None,
    null_after_s: float | None = None,
) -> tuple[Gate, ...]:
    """``figures``: those that the run's headline shows. ``null_before_s``, ``null_after_s``: TTFT p99 of the same
    schedule against a server that answers at once; None where it was not measured."""
    limit_s = objectives.tightest_s(slo)
    return (
        _workers(records),
        _cpu(records),
        _loop_lag(records, figures, limit_s),
        _schedule_lag(figures, limit_s),
        _delivered(records, window),
        _gaps(records, figures, window, spec, limit_s),
        _little(records, figures, window),
        _output_honoured(records),
        _input_agrees(records),
        _null("before", null_before_s, figures, limit_s),
        _null("after", null_after_s, figures, limit_s),
        _stolen(records),
        _enough(figures, slo),
    )


def _judge(name: str, about: About, value: float, limit: float, unit: str, seen: str, advice: str, **how: bool) -> Gate:
    """Passed at or below the limit; with ``at_least``, at or above it."""
    passed = value >= limit if how.get("at_least") else value <= limit
    words = seen if passed else f"{seen}; {advice}"
    return Gate(name=name, about=about, passed=passed, value=value, limit=limit, unit=unit, words=words)


def _not_applicable(name: str, about: About, why: str) -> Gate:
    return Gate(name=name, about=about, passed=None, words=why)


def _workers(records: Records) -> Gate:
    crashed = [f"process {report.process}: {report.crashed}" for report in records.processes if report.crashed]
    words = "; ".join(crashed) + "; its share of the load is missing, so run again" if crashed else "none crashed"
    return Gate(
        name="client processes", about="client", passed=not crashed, value=len(crashed), limit=0, unit="", words=words
    )


def _untold(records: Records) -> str:
    """What nobody lived to tell, of a run that was interrupted."""
    silent = [str(number) for number, segment in enumerate(records.segments, start=1) if not segment.told]
    if not silent:
        return ""
    which = f"segment {silent[0]}" if len(silent) == 1 else f"segments {', '.join(silent)}"
    return f" (not known of {which}, whose client was killed)"


def _cpu(records: Records) -> Gate:
    name = "client CPU"
    shares = [report.cpu_s / report.wall_s for report in records.processes if report.wall_s > 0]
    if not shares:
        return _not_applicable(name, "client", "no process of the client told its CPU time")
    seen = f"the busiest of {len(shares)} client processes used {max(shares):.0%} of a core{_untold(records)}"
    return _judge(
        name,
        "client",
        max(shares),
        MAX_CPU,
        "of a core",
        seen,
        "give the client more processes, or a machine of its own",
    )


def _loop_lag(records: Records, figures: Figures, limit_s: float | None) -> Gate:
    name = "event-loop lag p99"
    if not records.processes:
        return _not_applicable(name, "client", "no process of the client told its lag")
    lag = max(report.loop_lag_p99_s for report in records.processes)
    limit, of = _lag_allowed(figures, limit_s)
    seen = f"timers of the client came {_ms(lag)} late at p99, {_ms(limit)} allowed ({of}){_untold(records)}"
    advice = "the client did not get the CPU when it needed it: more processes, fewer neighbours, less load"
    return _judge(name, "client", lag, limit, "s", seen, advice)


def _schedule_lag(figures: Figures, limit_s: float | None) -> Gate:
    name = "schedule lag p99"
    lags = figures.latencies.lag
    if lags is None:
        return _not_applicable(name, "client", "nothing was sent")
    limit, of = _lag_allowed(figures, limit_s)
    lag = lags.at(0.99)
    seen = f"requests were sent {_ms(lag)} after they were due at p99, {_ms(limit)} allowed ({of})"
    advice = "the client could not keep its schedule: more processes, or less load"
    return _judge(name, "client", lag, limit, "s", seen, advice)


def _lag_allowed(figures: Figures, limit_s: float | None) -> tuple[float, str]:
    """Seconds, and why. A lag is part of every latency from when a request was due, so it is held against those."""
    if limit_s is not None:
        least = min(ALWAYS_ALLOWED_S, MOST_LAG_SHARE * limit_s)
        of, share_s = "1% of the limit of the SLO", LAG_SHARE * limit_s
    else:
        shown = figures.latencies.ttft_scheduled or figures.latencies.e2e_scheduled
        least = ALWAYS_ALLOWED_S
        of, share_s = "1% of the median TTFT", LAG_SHARE * shown.at(0.5) if shown is not None else 0.0
    return (share_s, of) if share_s > least else (least, f"more than {of}, as a busy machine has it")


def _delivered(records: Records, window: Window) -> Gate:
    """Against the schedule that was drawn, not against the rate: chance in the draw is no fault of the client."""
    name = "delivered rate"
    if records.planned_s is None:
        return _not_applicable(name, "client", "a closed loop has no planned rate")
    end = window.load_end_s
    planned = int(np.count_nonzero(np.asarray(records.planned_s) <= end))
    if not planned:
        return _not_applicable(name, "client", "no request was due")
    requests = records.requests
    sent = int(np.count_nonzero(timings.scheduled(records) & (requests["sent_s"] <= end)))
    sigmas = abs(sent - planned) / math.sqrt(planned)
    rate = f"{sent / end:.4g} of {planned / end:.4g} requests/s" if end > 0 else f"{sent} of {planned} requests"
    seen = f"{rate} that were planned went out in time ({sigmas:.1f} standard deviations of a Poisson count off)"
    return _judge(
        name,
        "client",
        sigmas,
        MAX_SIGMAS,
        "sigma",
        seen,
        "more processes, or look for connections that could not be made",
    )


def _gaps(records: Records, figures: Figures, window: Window, spec: LoadSpec, limit_s: float | None) -> Gate:
    """Kolmogorov and Smirnov's test of the gaps between sendings against those of the schedule, which is one draw of
    the distribution asked for: it finds a client that bunches, and never blames it for the draw."""
    name = "gaps between requests"
    if records.planned_s is None or isinstance(spec.arrivals, ClosedLoop | Constant):
        return _not_applicable(name, "client", "the arrivals are not random")
    requests = records.requests
    end = window.load_end_s
    planned = np.asarray(records.planned_s)
    sent = requests["sent_s"][timings.scheduled(records) & (requests["sent_s"] <= end)]
    wanted, got = np.diff(np.sort(planned[planned <= end])), np.diff(np.sort(sent))
    if min(len(wanted), len(got)) < FEWEST_ANSWERS:
        return _not_applicable(name, "client", f"fewer than {FEWEST_ANSWERS} gaps")
    slack_s, _ = _lag_allowed(figures, limit_s)
    p = ks_p(wanted, got, slack_s)
    seen = (
        f"Kolmogorov-Smirnov against the planned gaps, which may be {_ms(slack_s)} off: p = {p:.2g}, at least "
        f"{MIN_KS_P:g} wanted"
    )
    advice = "requests left in bunches: more processes, or less load"
    return _judge(name, "client", p, MIN_KS_P, "", seen, advice, at_least=True)


def ks_p(one: NDArray[np.float64], other: NDArray[np.float64], slack: float = 0.0) -> float:
    """Chance of samples at least as unlike as these if both came from one distribution (asymptotic).

    Values may be ``slack`` apart and count as alike: else gaps that are all equal, or shorter than what a clock can
    tell,
    would differ for nothing.
    """
    one, other = np.sort(one), np.sort(other)
    points = np.concatenate((one, other))

    def above(low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
        """How far the distribution of ``low`` runs ahead of that of ``high``."""
        ahead = np.searchsorted(low, points, side="right") / len(low)
        behind = np.searchsorted(high, points + slack, side="right") / len(high)
        return float(np.max(ahead - behind))

    distance = max(above(one, other), above(other, one), 0.0)
    return float(kolmogorov(distance * math.sqrt(len(one) * len(other) / (len(one) + len(other)))))


def _little(records: Records, figures: Figures, window: Window) -> Gate:
    """L = X * R holds over a span but for its edges: the time that requests sent before it spend in it, less what
    those sent in it spend after it. Where both come in single requests, independent of one another, the difference has
    the variance sum of squares; three standard deviations of it are allowed on top."""
    name = "Little's law"
    if window.start_s is None:
        return _not_applicable(name, "load", f"it holds in a steady state alone: {window.words}")
    requests = records.requests
    went = requests["end_s"] > requests["sent_s"]
    sent, end = requests["sent_s"][went], requests["end_s"][went]
    occupied = figures.in_flight * figures.seconds
    if occupied <= 0:
        return _not_applicable(name, "load", "nothing was in flight")
    residence = squares = 0.0
    for span in figures.spans:
        inside = (sent >= span.start_s) & (sent < span.end_s)
        residence += float(np.sum((end - sent)[inside]))
        before = np.maximum(np.minimum(end, span.end_s) - span.start_s, 0.0)[sent < span.start_s]
        after = np.maximum(end - span.end_s, 0.0)[inside]
        squares += float(np.sum(before**2) + np.sum(after**2))
    edges = 3.0 * math.sqrt(squares) / occupied
    off = abs(occupied - residence) / occupied
    seen = (
        f"in flight {figures.in_flight:.4g}, rate x time in the system "
        f"{residence / figures.seconds:.4g}: {off:.1%} apart, "
        f"{MAX_LITTLE:.0%} and {edges:.1%} for requests across the edges allowed"
    )
    advice = "load and answers were out of balance: run for longer, or at a rate that the server holds"
    return _judge(name, "load", off, MAX_LITTLE + edges, "", seen, advice)


def _output_honoured(records: Records) -> Gate:
    name = "output length"
    requests = records.requests
    forced = (requests["outcome"] == Outcome.OK) & (requests["asked_output"] >= 0) & requests["measured"]
    told = forced & requests["counted"]
    if not forced.any():
        return _not_applicable(name, "answers", "no output length was forced")
    if not told.any():
        return _not_applicable(name, "answers", "the server tells no usage, so lengths cannot be checked")
    share = float(np.mean(requests["output_tokens"][told] == requests["asked_output"][told]))
    seen = f"{share:.1%} of answers have exactly the output tokens asked for, {MIN_HONOURED:.0%} wanted"
    advice = (
        "the server takes neither ignore_eos nor min_tokens: let the model decide the length, and compare by lengths"
    )
    return _judge(name, "answers", share, MIN_HONOURED, "", seen, advice, at_least=True)


def _input_agrees(records: Records) -> Gate:
    name = "input tokens"
    requests = records.requests
    known = (requests["outcome"] == Outcome.OK) & requests["counted"] & (requests["asked_input"] > 0)
    if not known.any():
        return _not_applicable(name, "answers", "exact input lengths are not known, or the server tells no usage")
    asked = requests["asked_input"][known].astype(np.float64)
    off = abs(
        float(np.mean(requests["input_tokens"][known] - asked))
    )  # prose is right on average, ids are right always
    limit = max(MAX_INPUT_ERROR, MARKS / float(asked.mean()))
    seen = (
        f"the server counts {off:.3g} tokens more or less than the {asked.mean():.5g} sent, on average; "
        f"{limit:.1%} allowed (1%, and never less than {MARKS:g} tokens)"
    )
    advice = "prompts were made for another tokenizer, or are cut or wrapped by the server: name its tokenizer"
    return _judge(name, "answers", off / float(asked.mean()), limit, "", seen, advice)


def _null(when: str, p99_s: float | None, figures: Figures, limit_s: float | None) -> Gate:
    name = f"null server {when}"
    if p99_s is None:
        return _not_applicable(name, "client", "not measured")
    ttft = figures.latencies.ttft_sent or figures.latencies.e2e_sent
    if limit_s:
        limit, of = MAX_NULL_OF_SLO * limit_s, "5% of the limit of the SLO"
    elif ttft:
        limit, of = MAX_NULL_OF_TTFT * ttft.at(0.5), "a tenth of the median TTFT measured"
    else:
        return _not_applicable(name, "client", "no answer came to compare it with")
    seen = f"against a server that answers at once, the client sees a TTFT of {_ms(p99_s)} at p99; {_ms(limit)} ({of})"
    advice = "client and machine add too much of their own: more processes, fewer neighbours, less load"
    return _judge(name, "client", p99_s, limit, "s", f"{seen} allowed", advice)


def _stolen(records: Records) -> Gate:
    seen = f"{records.stolen_share:.1%} of the machine's CPU time was taken by its host, {MAX_STOLEN:.0%} allowed"
    seen += _untold(records)
    return _judge(
        "stolen CPU", "machine", records.stolen_share, MAX_STOLEN, "", seen, "run again on a machine that is left alone"
    )


def _enough(figures: Figures, slo: Slo | None) -> Gate:
    """With an SLO, so many that if all are good, its attainment holds with 95% confidence: n with q ** n <= 0.05."""
    name = "number of requests"
    if not slo or not figures.counts.ok:
        count = figures.counts.ok
        seen = f"{count} complete answers, {FEWEST_ANSWERS} wanted at least"
        return _judge(name, "amount", count, FEWEST_ANSWERS, "", seen, "measure more, or look at why", at_least=True)
    strictest = max(figures.attainments, key=lambda attainment: attainment.criterion.attainment)
    needed = math.ceil(math.log(0.05) / math.log(strictest.criterion.attainment))
    quantile = f"p{strictest.criterion.attainment * 100:g}"
    seen = f"{strictest.judged} judged, {needed} needed before {quantile} can be shown to hold"
    return _judge(name, "amount", strictest.judged, needed, "", seen, "measure more", at_least=True)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
