"""The figures of one span of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.bench import slo as objectives
from headrace.bench.client.records import Outcome, Records, TokensFrom
from headrace.bench.results import percentiles, rates, timings
from headrace.bench.results.percentiles import Distribution
from headrace.bench.results.span import Span, ended_inside, inside
from headrace.bench.slo import Criterion, Slo
from headrace.policy.work import Weights


class TokenRates(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens/s by time integration; each by its name."""

    input: float
    output: float
    input_and_output: float
    reference: float | None
    """None where the work weights are not known."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Measured requests that were due in the span, by what became of them."""

    requests: int
    ok: int
    rejected: int
    unavailable: int
    failed: int
    timed_out: int
    unfinished: int


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, of complete answers to measured requests due in the span; None where none shows it.

    An answer that came in one event shows no TPOT and no ITL.
    """

    ttft_scheduled: Distribution | None
    ttft_sent: Distribution | None
    tpot: Distribution | None
    itl_event: Distribution | None
    itl_token: Distribution | None
    e2e_scheduled: Distribution | None
    e2e_sent: Distribution | None
    lag: Distribution | None
    """Of all requests that were sent."""
    several_token_events: float
    """The part of the events that carry more than one token: there, ITL per token is an even split."""
    guessed_events: float
    """The part of the events whose number of tokens is an even spread of the answer's usage."""


class Attainment(msgspec.Struct, frozen=True, kw_only=True):
    """How far one criterion was met."""

    criterion: Criterion
    words: str
    good: int
    judged: int
    """Measured requests but 429s and those whose fate the end of the run left open."""
    rejected: int
    open_fate: int
    share: float | None
    """None where nothing could be judged, as below."""
    low: float | None
    high: float | None
    share_with_rejected: float | None
    goodput_per_s: float

    @property
    def met(self) -> Literal["met", "missed", "not resolved"]:
        """By the whole interval."""
        wanted = self.criterion.attainment
        if self.low is not None and self.low >= wanted:
            return "met"
        return "missed" if self.high is not None and self.high < wanted else "not resolved"


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Of the span from ``start_s`` to ``end_s`` on the run's clock, or of parts of it."""

    start_s: float
    end_s: float
    counts: Counts
    offered_per_s: float
    completed_per_s: float
    in_flight: float
    tokens_per_s: TokenRates
    latencies: Latencies
    attainments: tuple[Attainment, ...]
    input_tokens: float | None
    """Mean of a complete answer, as the two below."""
    output_tokens: float | None
    work: float | None
    parts: tuple[Span, ...] = ()
    """Of a run that was interrupted: what was looked at between start and end; empty: all of it."""

    @property
    def spans(self) -> tuple[Span, ...]:
        return self.parts or (Span(self.start_s, self.end_s),)

    @property
    def seconds(self) -> float:
        return sum(span.seconds for span in self.spans)


def of_spans(records: Records, spans: Sequence[Span], slo: Slo | None, weights: Weights | None) -> Figures:
    """Latencies and counts are of the requests due in the spans, rates of what happened in them. None of them is empty,
    and no two overlap."""
    requests = records.requests
    length = sum(span.seconds for span in spans)
    due = requests["measured"] & inside(spans, requests["scheduled_s"])
    complete = timings.ok(records)
    ended = ended_inside(spans, requests["end_s"])

    def mean(rate: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> float:
        return sum(rate(np.array([span.start_s, span.end_s])).item(0) * span.seconds for span in spans) / length

    chosen = due & complete
    answers = requests[chosen]
    input_rate = mean(partial(rates.input_rate, records))
    output_rate = mean(partial(rates.output_rate, records))
    criteria = slo.criteria if slo else ()
    return Figures(
        start_s=spans[0].start_s,
        end_s=spans[-1].end_s,
        parts=tuple(spans) if len(spans) > 1 else (),
        counts=_counts(records, due),
        offered_per_s=int(due.sum()) / length,
        completed_per_s=int((complete & ended).sum()) / length,
        in_flight=mean(partial(rates.in_flight, records)),
        tokens_per_s=TokenRates(
            input=input_rate,
            output=output_rate,
            input_and_output=input_rate + output_rate,
            reference=None if weights is None else mean(partial(rates.work_rate, records, weights=weights)),
        ),
        latencies=_latencies(records, due, chosen),
        attainments=tuple(_attainment(records, due, ended, criterion, length) for criterion in criteria),
        input_tokens=float(answers["input_tokens"].mean()) if len(answers) else None,
        output_tokens=float(answers["output_tokens"].mean()) if len(answers) else None,
        work=(
            float(rates.request_work(records, weights)[0][chosen].mean())
            if weights is not None and len(answers)
            else None
        ),
    )


def _counts(records: Records, due: timings.Chosen) -> Counts:
    counts = np.bincount(records.requests["outcome"][due], minlength=len(Outcome))
    return Counts(requests=int(counts.sum()), **{outcome.name.lower(): int(counts[outcome]) for outcome in Outcome})


def _latencies(records: Records, due: timings.Chosen, chosen: timings.Chosen) -> Latencies:
    gaps, tokens = timings.gaps_s(records, chosen)
    # The gaps of one answer, and of answers decoded together, depend on one another: no intervals.
    of_events = percentiles.describe(gaps, independent=False)
    several = float((tokens > 1).mean()) if len(tokens) else 0.0
    carried = np.maximum(tokens, 1)
    events = records.requests["events"][chosen]
    guessed = records.requests["tokens_from"][chosen] == TokensFrom.SPREAD
    return Latencies(
        ttft_scheduled=percentiles.describe(timings.ttft_scheduled_s(records)[chosen]),
        ttft_sent=percentiles.describe(timings.ttft_sent_s(records)[chosen]),
        tpot=percentiles.describe(timings.tpot_s(records)[chosen]),
        itl_event=of_events,
        itl_token=percentiles.describe_weighted(gaps / carried, carried) if several else of_events,
        e2e_scheduled=percentiles.describe(timings.e2e_scheduled_s(records)[chosen]),
        e2e_sent=percentiles.describe(timings.e2e_sent_s(records)[chosen]),
        lag=percentiles.describe(timings.lag_s(records)[due]),
        several_token_events=several,
        guessed_events=float(events[guessed].sum() / max(1, events.sum())),
    )


def _attainment(
    records: Records, due: timings.Chosen, ended: timings.Chosen, criterion: Criterion, length: float
) -> Attainment:
    good = objectives.good(records, criterion)
    judged = objectives.judged(records, criterion) & due
    hits, count = int((good & judged).sum()), int(judged.sum())
    rejected = int((due & (records.requests["outcome"] == Outcome.REJECTED)).sum())
    low, high = percentiles.proportion_interval(hits, count) if count else (None, None)
    return Attainment(
        criterion=criterion,
        words=objectives.describe(criterion),
        good=hits,
        judged=count,
        rejected=rejected,
        open_fate=int(due.sum()) - count - rejected,
        share=hits / count if count else None,
        low=low,
        high=high,
        share_with_rejected=hits / (count + rejected) if count + rejected else None,
        goodput_per_s=int((good & ended).sum()) / length,
    )
