"""What a run adds up to, and what each figure means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from headrace.bench.samples import Sample
from headrace.policy.work import Weights

DEFINITIONS = {
    "ttft_scheduled": "seconds from when the request was due (sent late or not) to the arrival of its first token",
    "ttft_sent": "seconds from sending the request to the arrival of its first token",
    "tpot": "seconds per output token after the first: (last token - first token) / (output tokens - 1)",
    "e2e_scheduled": "seconds from when the request was due to the end of its answer",
    "e2e_sent": "seconds from sending the request to the end of its answer",
    "percentiles": "of complete answers: the smallest value that this part of them does not exceed",
    "tokens": "as the server counts them in `usage`; input includes cached input",
    "tokens_per_s": "tokens of complete answers over the time from first sending to last end, ramp and drain included",
    "reference_tokens_per_s": "the same, each request weighed by the work weights; 2048 in and 256 out weigh 2304",
    "late": "seconds by which a request was sent after it was due: the client's own share",
    "rejected": "answered 429",
    "unavailable": "answered 503",
    "failed": "any other status, a broken stream, or no answer",
    "unfinished": "cut off by the end of the run",
}
"""In a closed loop a request is due when its user is free, so the figures from `scheduled` and from `sent` agree."""


class Percentiles(msgspec.Struct, frozen=True):
    """Seconds."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


class TokenRates(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens/s; each by its name."""

    input: float
    output: float
    input_and_output: float
    reference: float | None
    """None where the server's work weights are not known."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One run in figures; ``DEFINITIONS`` says what they mean."""

    requests: int
    ok: int
    rejected: int
    unavailable: int
    failed: int
    unfinished: int
    elapsed_s: float
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    without_usage: int
    """Complete answers whose tokens the server did not count."""
    reference_tokens: float | None
    tokens_per_s: TokenRates
    requests_per_s: float
    ttft_scheduled: Percentiles | None
    ttft_sent: Percentiles | None
    tpot: Percentiles | None
    e2e_scheduled: Percentiles | None
    e2e_sent: Percentiles | None
    late: Percentiles | None
    statuses: dict[str, int]
    """How many requests were answered with each HTTP status; ``none`` for no answer."""
    errors: dict[str, int]
    """What failures said, and how often; at most ten kinds."""


def quantile(ordered: Sequence[float], part: float) -> float:
    """The smallest of the values (in rising order) that ``part`` of them do not exceed."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def percentiles(values: Iterable[float | None]) -> Percentiles | None:
    """None where there is no value."""
    ordered = sorted(value for value in values if value is not None)
    if not ordered:
        return None
    return Percentiles(
        count=len(ordered),
        mean=math.fsum(ordered) / len(ordered),
        p50=quantile(ordered, 0.50),
        p90=quantile(ordered, 0.90),
        p95=quantile(ordered, 0.95),
        p99=quantile(ordered, 0.99),
        max=ordered[-1],
    )


def summarize(samples: Sequence[Sample], weights: Weights | None) -> Summary:
    """``weights``: of the endpoint; None where they are not known."""
    ok = [sample for sample in samples if sample.outcome == "ok"]
    elapsed = max((s.end_s for s in samples), default=0.0) - min((s.sent_s for s in samples), default=0.0)
    input_tokens = sum(sample.input_tokens for sample in ok)
    output_tokens = sum(sample.output_tokens for sample in ok)
    work = None
    if weights is not None:
        work = math.fsum(weights.work(s.input_tokens - s.cached_tokens, s.cached_tokens, s.output_tokens) for s in ok)

    def rate(amount: float) -> float:
        return amount / elapsed if elapsed > 0 else 0.0

    return Summary(
        requests=len(samples),
        ok=len(ok),
        rejected=_count(samples, "rejected"),
        unavailable=_count(samples, "unavailable"),
        failed=_count(samples, "failed"),
        unfinished=_count(samples, "unfinished"),
        elapsed_s=elapsed,
        input_tokens=input_tokens,
        cached_tokens=sum(sample.cached_tokens for sample in ok),
        output_tokens=output_tokens,
        without_usage=sum(1 for sample in ok if not sample.counted),
        reference_tokens=work,
        tokens_per_s=TokenRates(
            input=rate(input_tokens),
            output=rate(output_tokens),
            input_and_output=rate(input_tokens + output_tokens),
            reference=None if work is None else rate(work),
        ),
        requests_per_s=rate(len(ok)),
        ttft_scheduled=percentiles(s.ttft_scheduled_s for s in ok),
        ttft_sent=percentiles(s.ttft_sent_s for s in ok),
        tpot=percentiles(s.tpot_s for s in ok),
        e2e_scheduled=percentiles(s.e2e_scheduled_s for s in ok),
        e2e_sent=percentiles(s.e2e_sent_s for s in ok),
        late=percentiles(s.sent_s - s.scheduled_s for s in samples),
        statuses=_tally("none" if s.status is None else str(s.status) for s in samples),
        errors=dict(list(_tally(s.error for s in samples if s.error).items())[:10]),
    )


def _count(samples: Iterable[Sample], outcome: str) -> int:
    return sum(1 for sample in samples if sample.outcome == outcome)


def _tally(words: Iterable[str | None]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        if word is not None:
            counts[word] = counts.get(word, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
