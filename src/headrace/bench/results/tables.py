"""A summary as tables of words, for a terminal and for the report alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from headrace.bench.results.definitions import DEFINITIONS
from headrace.bench.results.figures import Figures
from headrace.bench.results.inputs import inputs as of_summary
from headrace.bench.results.percentiles import LEVELS, Distribution, Percentile
from headrace.bench.results.summary import Summary
from headrace.bench.workload.spec import ClosedLoop

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    header: Row
    rows: tuple[Row, ...]
    note: str = ""
    """What holds for all rows."""


LATENCIES = {
    "ttft_scheduled": "TTFT from scheduled",
    "ttft_sent": "TTFT from sent",
    "tpot": "TPOT",
    "itl_event": "ITL per event",
    "itl_token": "ITL per token",
    "e2e_scheduled": "E2E from scheduled",
    "e2e_sent": "E2E from sent",
    "lag": "sent late by",
}


def throughput(summary: Summary) -> Table:
    """Of the steady window, and of the whole load beside it where a warm-up was cut off."""
    spans = [summary.headline, summary.whole] if summary.headline.seconds < summary.whole.seconds else [summary.whole]
    rows: tuple[tuple[str, str, Sequence[float | None]], ...] = (
        ("requests offered/s", "offered_per_s", [f.offered_per_s for f in spans]),
        ("requests completed/s", "completed_per_s", [f.completed_per_s for f in spans]),
        *(
            (f"goodput, requests/s: {a.words}", "goodput_per_s", [f.attainments[index].goodput_per_s for f in spans])
            for index, a in enumerate(summary.whole.attainments)
        ),
        ("input tokens/s", "tokens_input", [f.tokens_per_s.input for f in spans]),
        ("output tokens/s", "tokens_output", [f.tokens_per_s.output for f in spans]),
        ("input + output tokens/s", "tokens_input_output", [f.tokens_per_s.input_and_output for f in spans]),
        ("reference tokens/s", "tokens_reference", [f.tokens_per_s.reference for f in spans]),
        ("requests in flight", "in_flight", [f.in_flight for f in spans]),
    )
    return Table(
        title="Throughput",
        header=("", *(_span_name(f, summary) for f in spans), "definition"),
        rows=tuple(
            (name, *("weights not known" if value is None else number(value) for value in values), DEFINITIONS[key])
            for name, key, values in rows
        ),
        note=summary.window.words,
    )


def latencies(figures: Figures) -> Table:
    several, guessed = figures.latencies.several_token_events, figures.latencies.guessed_events
    flags = f" {several:.1%} of events carry several tokens." if several else ""
    flags += f" Of {guessed:.1%} of events the number of tokens is a guess: usage spread evenly." if guessed else ""
    rows = tuple(
        _latency(name, getattr(figures.latencies, field), DEFINITIONS[field]) for field, name in LATENCIES.items()
    )
    return Table(
        title=f"Latency, {stretch(figures)}",
        header=("", "n", "mean", *(f"p{level * 100:g}" for level in LEVELS), "max", "definition"),
        rows=rows,
        note=f"Percentiles: {DEFINITIONS['percentile']}.{flags}",
    )


def _latency(name: str, found: Distribution | None, definition: str) -> Row:
    if found is None:
        return (name, "0", *("none seen" for _ in range(len(LEVELS) + 2)), definition)
    values = (with_interval(percentile) for percentile in found.percentiles)
    return (name, f"{found.count:,}", seconds(found.mean), *values, seconds(found.maximum), definition)


def attainment(figures: Figures) -> Table:
    def rows() -> Iterator[Row]:
        for a in figures.attainments:
            if a.share is None or a.low is None or a.high is None:
                yield (a.words, "nothing to judge", "", "", str(a.rejected), "")
                continue
            share = f"{a.share:.2%} [{a.low:.2%}, {a.high:.2%}]"
            with_rejected = "" if a.share_with_rejected is None else f"{a.share_with_rejected:.2%}"
            yield (a.words, share, a.met, f"{a.good:,} of {a.judged:,}", f"{a.rejected:,}", with_rejected)

    return Table(
        title="Attainment of the objective",
        header=("criterion", "attained", "", "good", "429", "attained with 429 as not good"),
        rows=tuple(rows()),
        note=f"Attained: {DEFINITIONS['attainment']}. Met where the whole interval is at or above what is wanted, "
        "missed where it is below, else not resolved.",
    )


def outcomes(summary: Summary) -> Table:
    counts = msgspec.structs.asdict(summary.whole.counts)
    return Table(
        title="Outcomes of the whole load",
        header=("", "requests", "definition"),
        rows=tuple((name.replace("_", " "), f"{counts[name]:,}", DEFINITIONS[name]) for name in counts),
    )


def gates(summary: Summary) -> Table:
    said = {True: "passed", False: "FAILED", None: "not applicable"}
    return Table(
        title="Validity",
        header=("gate", "", "what was seen"),
        rows=tuple((gate.name, said[gate.passed], gate.words) for gate in summary.gates),
        note="A run that fails one is INVALID: its figures may say more of the client or of chance than of the server.",
    )


def processes(summary: Summary) -> Table:
    return Table(
        title="Client processes",
        header=("process", "CPU of a core", "event-loop lag p50", "p99", "max", ""),
        rows=tuple(
            (
                str(p.process),
                f"{p.cpu_s / p.wall_s:.0%}" if p.wall_s > 0 else "",
                seconds(p.loop_lag_p50_s),
                seconds(p.loop_lag_p99_s),
                seconds(p.loop_lag_max_s),
                p.crashed or "",
            )
            for p in summary.processes
        ),
    )


def notebook(summary: Summary) -> Table | None:
    """None where the run has no such figure."""
    found = summary.notebook
    if found is None:
        return None
    wall = summary.headline.tokens_per_s.input_and_output
    return Table(
        title="As Databricks' notebook counts",
        header=("parallel", "mean input", "mean output", "median latency", "tokens/s by its formula", "over time"),
        rows=(
            (
                str(found.users),
                number(found.mean_input_tokens),
                number(found.mean_output_tokens),
                seconds(found.median_latency_s),
                number(found.tokens_per_s),
                number(wall),
            ),
        ),
        note=f"For comparison alone: {DEFINITIONS['notebook']}.",
    )


def levels(summaries: Sequence[Summary]) -> Table:
    """One row for each run of a sweep."""

    def row(summary: Summary) -> Row:
        figures = summary.headline
        ttft, tpot = figures.latencies.ttft_scheduled, figures.latencies.tpot
        return (
            level(summary),
            "valid" if summary.valid else "INVALID",
            number(figures.completed_per_s),
            number(figures.tokens_per_s.input_and_output),
            *(seconds(found.at(at)) if found else "none seen" for found in (ttft, tpot) for at in (0.5, 0.99)),
            *(f"{a.share:.2%}" if a.share is not None else "" for a in figures.attainments),
        )

    criteria = (f"attained: {a.words}" for a in summaries[0].whole.attainments) if summaries else ()
    return Table(
        title="Levels",
        header=(
            "load",
            "",
            "completed/s",
            "input + output tokens/s",
            "TTFT p50",
            "TTFT p99",
            "TPOT p50",
            "TPOT p99",
            *criteria,
        ),
        rows=tuple(map(row, summaries)),
    )


def inputs(summary: Summary) -> Table:
    """What was asked for, by its name in the specification."""
    return Table(title="Inputs of the run", header=("", ""), rows=tuple(of_summary(summary).items()))


def level(summary: Summary) -> str:
    """The load of a run in a few words."""
    arrivals = summary.spec.arrivals
    if isinstance(arrivals, ClosedLoop):
        return f"{arrivals.users} user{'' if arrivals.users == 1 else 's'}"
    return f"{number(summary.headline.offered_per_s)} requests/s"


def _span_name(figures: Figures, summary: Summary) -> str:
    name = "whole load" if figures is summary.whole else "steady window"
    return f"{name}, {stretch(figures)}"


def stretch(figures: Figures) -> str:
    """Which seconds of the run they are of, in words."""
    return " and ".join(f"{span.start_s:.1f} to {span.end_s:.1f} s" for span in figures.spans)


def with_interval(percentile: Percentile) -> str:
    if percentile.low is None or percentile.high is None:
        return seconds(percentile.value)
    return f"{seconds(percentile.value)} [{seconds(percentile.low)}, {seconds(percentile.high)}]"


def number(value: float) -> str:
    """At least three digits, none in exponents."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def seconds(value: float) -> str:
    """Three digits, in s, ms or us."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f} s"
    if size >= 0.9995:
        return f"{value:.3g} s"
    return f"{value * 1e3:.3g} ms" if size >= 0.9995e-3 or size == 0 else f"{value * 1e6:.3g} us"
