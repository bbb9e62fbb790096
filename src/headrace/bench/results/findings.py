"""What a run shows about the server that a figure alone would hide: each in words, with what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.bench.client.records import FIRST_FOLLOW_UP, Outcome, Records
from headrace.bench.results import timings
from headrace.bench.results.timings import Chosen
from headrace.bench.workload.spec import LoadSpec

ODD_TOKENS = 2
"""By so many may usage and events differ: an end token is counted and has no text, a start may be empty."""
MANY_TOKENS = 1.5
"""Output tokens for each event, above which events carry several."""
NOTABLE_CACHE = 0.01
SAME_BEGINNING = 16
"""Tokens by which a beginning that all prompts have may differ in what is found of it: a block of a cache."""
NOTABLE_COALESCING = 0.05
FEW_CONNECTIONS = 20
"""Among fewer requests, new connections are the start of the run."""
NOT_KEPT = 0.9
KINDS_OF_ERRORS = 10


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    """Stable, for programs."""
    requests: int
    """How many show it."""
    words: str


def findings(records: Records, spec: LoadSpec) -> tuple[Finding, ...]:
    """Of the measured requests, the gravest first; empty for a run without anything odd."""
    records = replace(records, requests=records.requests[records.requests["measured"]])
    if not len(records.requests):
        return (Finding(name="nothing_sent", requests=0, words="no request was sent"),)
    return (
        *_refusals(records),
        *_failures(records),
        *_streams(records, spec),
        *_usage(records),
        *_lengths(records, spec),
    )


def _found(name: str, chosen: Chosen, words: Callable[[int], str]) -> Iterator[Finding]:
    """Where any request is chosen; ``words`` is given their number, and called only then."""
    count = int(chosen.sum())
    if count:
        yield Finding(name=name, requests=count, words=words(count))


def _refusals(records: Records) -> Iterator[Finding]:
    requests = records.requests
    status, outcome = requests["status"], requests["outcome"]

    def refused(name: str, chosen: Chosen, words: str) -> Iterator[Finding]:
        return _found(
            name, chosen, lambda count: f"{count} of {len(requests)} requests {words}{_told(records, chosen)}"
        )

    keys = np.isin(status, (401, 403))
    yield from refused(
        "wrong_key", keys, "were refused (401 or 403): the key is missing, wrong, or not for this endpoint."
    )
    yield from refused("wrong_path", status == 404, "were answered 404: check the URL's path and the model's name.")
    other = (status >= 400) & (status < 500) & ~np.isin(status, (401, 403, 404, 408, 429))
    yield from refused("bad_request", other, "were refused as ones that the server does not take.")
    limited = outcome == Outcome.REJECTED
    yield from refused("rejected", limited, "were answered 429: a limit of the endpoint or key, not its capacity.")
    yield from refused("unavailable", outcome == Outcome.UNAVAILABLE, "were answered 503.")


def _failures(records: Records) -> Iterator[Finding]:
    requests = records.requests
    outcome, status = requests["outcome"], requests["status"]
    late = outcome == Outcome.TIMED_OUT
    silent = int((late & np.isnan(requests["first_byte_s"])).sum())
    yield from _found(
        "timed_out",
        late,
        lambda n: (
            f"{n} requests ran into the client's time-out{_when(records, late)}, {silent} without a byte of answer."
        ),
    )
    # By what they say: a refused connection, a cut stream and broken SSE are different ailments.
    failed = (outcome == Outcome.FAILED) & ((status < 400) | (status >= 500))
    kinds, counts = np.unique(requests["error"][failed], return_counts=True)
    for kind in kinds[np.argsort(-counts)][:KINDS_OF_ERRORS]:
        alike = failed & (requests["error"] == kind)
        said = records.errors[kind] if kind >= 0 else "no word of why"
        many = "1 request" if alike.sum() == 1 else f"{alike.sum()} requests"
        yield Finding(
            name="failed",
            requests=int(alike.sum()),
            words=f"{many} failed{_when(records, alike)}: {said}",
        )
    if len(kinds) > KINDS_OF_ERRORS:
        rest = int(np.sort(counts)[:-KINDS_OF_ERRORS].sum())
        yield Finding(name="failed", requests=rest, words=f"{rest} more requests failed in other ways.")
    cut = outcome == Outcome.UNFINISHED
    yield from _found("unfinished", cut, lambda n: f"{n} measured requests were cut off by the end of the run.")
    if not timings.ok(records).any():
        words = "Not one request was answered in full: there are no latencies."
        yield Finding(name="no_answer", requests=len(requests), words=words)


def _streams(records: Records, spec: LoadSpec) -> Iterator[Finding]:
    requests = records.requests
    complete = timings.ok(records)
    total = int(complete.sum())
    if not total:
        return
    if spec.content.stream:
        whole = complete & np.isnan(requests["first_s"])
        yield from _found(
            "never_streamed",
            whole,
            lambda n: (
                f"{n} of {total} answers were no stream although one was asked for: they show no TTFT, TPOT or ITL, "
                "and are judged by their end."
            ),
        )
        yield from _found(
            "one_event",
            complete & ~whole & (requests["events"] == 1) & (requests["output_tokens"] > 1),
            lambda n: (
                f"{n} of {total} streams brought all their tokens in one event: their TPOT cannot be seen, and is "
                "judged by what it cannot exceed. Something on the way holds streams back, or the server makes none."
            ),
        )
    gaps, _ = timings.gaps_s(records, complete)
    close = float((gaps < timings.COALESCED_S).mean()) if len(gaps) else 0.0
    if close > NOTABLE_COALESCING:
        words = (
            f"{close:.0%} of events arrived together with the one before (within {timings.COALESCED_S * 1e6:g} us): "
            "ITL per event shows how they were bundled on the way; TPOT is the figure to trust."
        )
        yield Finding(name="coalesced", requests=total, words=words)
    odd = complete & (requests["error"] >= 0)
    for kind in np.unique(requests["error"][odd])[:KINDS_OF_ERRORS]:
        count = int((odd & (requests["error"] == kind)).sum())
        yield Finding(name="odd_answer", requests=count, words=f"{count} complete answers: {records.errors[kind]}")
    fresh = complete & requests["new_connection"]
    if total >= FEW_CONNECTIONS and fresh.sum() > NOT_KEPT * total:
        words = "needed a new connection: the server keeps none open, and latencies hold its set-up."
        yield from _found("no_keep_alive", fresh, lambda n: f"{n} of {total} requests {words}")
    yield from _found(
        "retried",
        requests["retries"] > 0,
        lambda n: f"{n} requests were sent more than once; their latency counts from when they were first due.",
    )


def _usage(records: Records) -> Iterator[Finding]:
    """What the server tells of its tokens, against the events it sent."""
    requests = records.requests
    complete = timings.ok(records)
    yield from _found(
        "no_usage",
        complete & ~requests["counted"],
        lambda n: (
            f"{n} of {complete.sum()} answers told no usage: their input is what was sent, and their output the "
            "number of events, which is too few where an event carries several tokens."
        ),
    )
    counted = complete & requests["counted"]
    output, events = requests["output_tokens"], requests["events"]
    fewer = counted & (events > output + ODD_TOKENS)
    yield from _found(
        "usage_too_low",
        fewer,
        lambda n: (
            f"{n} answers contradict their usage: {_mean(events[fewer])} events that carry text, but "
            f"{_mean(output[fewer])} output tokens told. Usage tells too few, or events are not tokens."
        ),
    )
    more = counted & (events > 1) & (output > MANY_TOKENS * events + ODD_TOKENS)
    yield from _found(
        "several_tokens",
        more,
        lambda n: (
            f"{n} answers tell {_mean(output[more])} output tokens in {_mean(events[more])} events: either events "
            "carry several tokens, and ITL per token is a split, or usage tells too many."
        ),
    )


def _lengths(records: Records, spec: LoadSpec) -> Iterator[Finding]:
    """Whether answers and prompts are as long as was asked for."""
    requests = records.requests
    complete = timings.ok(records)
    output, asked = requests["output_tokens"], requests["asked_output"]
    over = complete & (asked >= 0) & (output > asked)
    yield from _found(
        "max_tokens_ignored",
        over,
        lambda n: (
            f"{n} answers have {_mean(output[over])} output tokens where max_tokens was {_mean(asked[over])}: the "
            "server ignores it."
        ),
    )
    under = complete & (asked >= 0) & (output < asked)
    yield from _found(
        "ended_early",
        under,
        lambda n: (
            f"{n} answers ended after {_mean(output[under])} output tokens where {_mean(asked[under])} were to be "
            "forced: the server does not take ignore_eos."
        ),
    )
    told, sent = requests["input_tokens"], requests["asked_input"]
    off = complete & requests["counted"] & (sent > 0) & (np.abs(told - sent) > np.maximum(0.01 * sent, ODD_TOKENS))
    yield from _found(
        "input_differs",
        off,
        lambda n: (
            f"{n} answers tell {_mean(told[off])} input tokens where {_mean(sent[off])} were sent: prompts are "
            "wrapped or cut, made for another tokenizer, or usage is wrong."
        ),
    )
    if not spec.content.reuse:
        # What a later turn of a session repeats is meant to be found.
        first = requests[requests["number"] < FIRST_FOLLOW_UP]
        yield from _cache(replace(records, requests=first))


def _cache(records: Records) -> Iterator[Finding]:
    """Where every prompt has a head of its own, and still something of it was in the server's cache."""
    complete = timings.ok(records)
    found, told = records.requests["cached_tokens"], records.requests["input_tokens"]
    cached = complete & (found > 0)
    share = found[cached].sum(dtype=np.int64) / max(1, told[complete].sum(dtype=np.int64))
    if share <= NOTABLE_CACHE:
        return
    seen = f"{share:.1%} of input tokens came from a prefix cache"
    least, most = np.quantile(found[cached], (0.05, 0.95), method="nearest").tolist()
    if most - least <= SAME_BEGINNING and np.median(told[cached] - found[cached]) > SAME_BEGINNING / 2:
        same = f"{least}" if most == least else f"{least} to {most}"
        words = (
            f"{seen}, the first {same} of each prompt: a beginning that all of them have, such as what a chat's "
            "template puts before its messages. Your users' prompts have it too, so TTFT is as they would see it."
        )
        yield from _found("cache_beginning", cached, lambda _: words)
        return
    words = (
        f"{seen} although every prompt has a head of its own: TTFT is better than on new prompts. Give another --seed, "
        "or turn the cache off."
    )
    yield from _found("cache_hits", cached, lambda _: words)


def _told(records: Records, chosen: Chosen) -> str:
    """What most of the chosen requests were answered."""
    kinds = records.requests["error"][chosen]
    kinds = kinds[kinds >= 0]
    return f" The answer says: {records.errors[int(np.bincount(kinds).argmax())]}" if len(kinds) else ""


def _when(records: Records, chosen: Chosen) -> str:
    times = records.requests["end_s"][chosen]
    times = times[~np.isnan(times)]
    if not len(times):
        return ""
    first, last = float(times.min()), float(times.max())
    return f" (at {first:.1f} s)" if last - first < 0.1 else f" (between {first:.1f} s and {last:.1f} s)"


def _mean(values: NDArray[np.int32]) -> str:
    return f"{np.mean(values):.4g} (mean)" if np.ptp(values) else f"{values[0]}"
