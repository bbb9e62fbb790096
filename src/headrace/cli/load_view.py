"""How a load run looks: a live line while it runs; figures with their intervals, gates and definitions at its end."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from headrace.cli.output import console, number, print_table

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from headrace.bench.results.figures import Attainment, Figures
    from headrace.bench.results.percentiles import Distribution
    from headrace.bench.results.summary import Summary
    from headrace.bench.session import Look
    from headrace.bench.workload.spec import Arrivals, LoadSpec

LATENCIES = (
    ("ttft_scheduled", "TTFT, from when due"),
    ("ttft_sent", "TTFT, from sending"),
    ("tpot", "TPOT"),
    ("itl_event", "ITL, by event"),
    ("itl_token", "ITL, by token"),
    ("e2e_scheduled", "E2E, from when due"),
    ("e2e_sent", "E2E, from sending"),
    ("lag", "sent late by"),
)


class Live:
    """One line on standard error that says how the run stands; nothing where nobody looks."""

    def __init__(self, spec: LoadSpec, progress: Progress | None) -> None:
        self._amount = spec.amount
        self._progress = progress
        self._task: TaskID | None = None if progress is None else progress.add_task("", total=1.0)

    def say(self, words: str) -> None:
        self._update(0.0, words)

    def show(self, look: Look) -> None:
        parts = [0.0]
        if self._amount.requests:
            parts.append(look.ended / self._amount.requests)
        if self._amount.duration_s:
            parts.append(look.elapsed_s / self._amount.duration_s)
        words = [
            f"{look.elapsed_s:5.0f} s  {look.in_flight} in flight",
            f"{look.ok} answered",
            f"{look.tokens_per_s:,.0f} tokens/s (input + output)",
        ]
        if look.ttft_p50_s is not None:
            words.append(f"TTFT p50 {look.ttft_p50_s:.3f} s")
        if look.attainment is not None:
            words.append(f"{look.attainment:.1%} good")
        if look.rejected:
            words.append(f"{look.rejected} refused (429)")
        if look.failed:
            words.append(f"{look.failed} failed")
        self._update(min(1.0, max(parts)), ", ".join(words))

    def _update(self, completed: float, words: str) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=completed, description=words)


@contextmanager
def live_progress(spec: LoadSpec, *, quiet: bool) -> Iterator[Live]:
    if quiet or not sys.stderr.isatty():
        yield Live(spec, None)
        return
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    columns = BarColumn(bar_width=24), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        yield Live(spec, progress)


def print_note(words: str) -> None:
    console(stderr=True).print(f"note: {words}", markup=False, highlight=False)


def json_summary(summary: Summary) -> dict[str, Any]:
    import msgspec  # noqa: PLC0415

    return {"valid": summary.valid, "reasons": summary.reasons, **msgspec.to_builtins(summary)}


def print_levels(summaries: Sequence[Summary]) -> None:
    """All levels of a sweep, one a row."""
    print_table(
        ["load", ">requests/s", ">tokens/s (in + out)", ">TTFT p50", ">p99", ">TPOT p50", ">p99", ">good", ""],
        [_level(summary) for summary in summaries],
        title="all levels; TTFT from when due, and seconds",
    )


def _level(summary: Summary) -> list[str]:
    figures = summary.headline
    latencies = [
        number(None if found is None else found.at(level), 3)
        for found in (figures.latencies.ttft_scheduled, figures.latencies.tpot)
        for level in (0.5, 0.99)
    ]
    shares = [attainment.share for attainment in figures.attainments if attainment.share is not None]
    return [
        describe(summary.spec.arrivals),
        number(figures.completed_per_s, 3),
        number(figures.tokens_per_s.input_and_output, 1),
        *latencies,
        f"{min(shares):.2%}" if shares else "-",
        "" if summary.valid else "INVALID",
    ]


def print_summary(summary: Summary) -> None:
    """INVALID first, where it is; then counts, rates, latencies, attainment, gates, findings and definitions."""
    out, figures = console(), summary.headline
    out.print(f"{summary.target}: {describe(summary.spec.arrivals)}", markup=False, highlight=False)
    if summary.simulated:
        out.print("[yellow]The endpoint runs the simulated engine: these figures are no model's.[/yellow]")
    for reason in summary.reasons if summary.whole.counts.ok else ():
        out.print(f"INVALID: {reason}", style="bold red", markup=False)
    which = "steady window" if summary.steady is not None else "whole load"
    mark = "" if summary.valid else "INVALID "
    out.print(
        f"Figures of the {which}, {figures.start_s:.1f} to {figures.end_s:.1f} s ({summary.window.words})",
        markup=False,
        highlight=False,
    )
    print_table(
        [">requests", ">answered", ">rejected (429)", ">unavailable (503)", ">failed", ">timed out", ">unfinished"],
        [_counts(summary.whole)],
        title=f"{mark}requests, whole load",
    )
    if summary.whole.counts.ok:
        _print_figures(summary, figures, mark)
    for finding in summary.findings:
        out.print(f"found: {finding.words}", markup=False, highlight=False)
    if not summary.whole.counts.ok:
        return
    print_table(
        ["gate", "", "what was seen"],
        [[gate.name, {True: "ok", False: "FAILED", None: "-"}[gate.passed], gate.words] for gate in summary.gates],
    )
    for name, words in _defined(summary, figures):
        out.print(f"{name}: {words}", style="dim", markup=False)


def _print_figures(summary: Summary, figures: Figures, mark: str) -> None:
    out, rates = console(), figures.tokens_per_s
    print_table(
        ["per second", f">{mark}mean", ">of a request"],
        [
            ["requests offered", number(figures.offered_per_s, 3), ""],
            ["requests answered", number(figures.completed_per_s, 3), ""],
            ["input tokens", number(rates.input, 1), number(figures.input_tokens, 1)],
            ["output tokens", number(rates.output, 1), number(figures.output_tokens, 1)],
            ["input + output tokens", number(rates.input_and_output, 1), _both(figures)],
            ["reference tokens (work)", number(rates.reference, 1), number(figures.work, 1)],
        ],
    )
    print_table(
        ["seconds", ">p50", ">p90", ">p95", ">p99", ">p99.9", ">mean", ">max"],
        [[name, *_latency(getattr(figures.latencies, field))] for field, name in LATENCIES],
        title=f"{mark}latency [95% interval]",
    )
    for share, words in (
        (
            figures.latencies.several_token_events,
            "of the events carry several tokens: ITL by token is an even split there",
        ),
        (figures.latencies.guessed_events, "of the events carry a number of tokens that was not told: a guess"),
    ):
        if share:
            out.print(f"{share:.1%} {words}", markup=False, highlight=False)
    for attainment in figures.attainments:
        out.print(f"{mark}{_attained(attainment)}", markup=False, highlight=False)
    if summary.notebook is not None:
        book = summary.notebook
        out.print(
            f"As Databricks' notebook would say: {book.tokens_per_s:,.1f} tokens/s "
            f"= ({book.mean_input_tokens:.1f} + {book.mean_output_tokens:.1f}) x {book.users} / "
            f"{book.median_latency_s:.3f} s",
            style="dim",
            markup=False,
        )


def describe(arrivals: Arrivals) -> str:
    from headrace.bench.workload.spec import ClosedLoop, Constant, Gamma, Poisson, Stages  # noqa: PLC0415

    match arrivals:
        case ClosedLoop(users=users):
            return f"closed loop, {users} user{'' if users == 1 else 's'}"
        case Constant(rate=rate):
            return f"open loop, constant, {rate:.4g} requests/s"
        case Poisson(rate=rate):
            return f"open loop, Poisson, {rate:.4g} requests/s"
        case Gamma(rate=rate, cv=cv):
            return f"open loop, gamma with CV {cv:g}, {rate:.4g} requests/s"
        case Stages(stages=stages):
            return f"open loop, {len(stages)} stages"
    return "open loop, the times of a trace"


def _counts(figures: Figures) -> list[int]:
    counts = figures.counts
    return [
        counts.requests,
        counts.ok,
        counts.rejected,
        counts.unavailable,
        counts.failed,
        counts.timed_out,
        counts.unfinished,
    ]


def _both(figures: Figures) -> str:
    if figures.input_tokens is None or figures.output_tokens is None:
        return "-"
    return number(figures.input_tokens + figures.output_tokens, 1)


def _latency(found: Distribution | None) -> list[str]:
    if found is None:
        return ["-"] * 7
    cells = []
    for point in found.percentiles:
        interval = "" if point.low is None or point.high is None else f" [{_short(point.low)}, {_short(point.high)}]"
        cells.append(f"{_short(point.value)}{interval}")
    return [*cells, _short(found.mean), _short(found.maximum)]


def _short(seconds: float) -> str:
    """To the millisecond, and finer where a millisecond is much."""
    return f"{seconds:.3f}" if abs(seconds) >= 0.1 else f"{seconds:.5f}"


def _attained(found: Attainment) -> str:
    if found.share is None or found.low is None or found.high is None:
        return f"{found.words}: no request could be judged"
    with_rejected = ""
    if found.rejected and found.share_with_rejected is not None:
        with_rejected = f"; {found.share_with_rejected:.2%} with {found.rejected} refused (429) as not good"
    return (
        f"{found.words}: {found.share:.2%} [{found.low:.2%}, {found.high:.2%}] of {found.judged}, "
        f"goodput {found.goodput_per_s:.3g} requests/s{with_rejected}"
    )


def _defined(summary: Summary, figures: Figures) -> Iterator[tuple[str, str]]:
    """Those of the figures that are shown."""
    missing = {
        "notebook": summary.notebook is None,
        "tokens_reference": not summary.weights_known,
        "attainment": summary.slo is None,
        "attainment_with_rejected": summary.slo is None or not summary.whole.counts.rejected,
        "goodput_per_s": summary.slo is None,
        "several_token_events": not figures.latencies.several_token_events,
        "guessed_events": not figures.latencies.guessed_events,
        "steady": summary.steady is None,
    }
    for name, words in summary.definitions.items():
        if not missing.get(name, False):
            yield name, words
