"""How a load run looks: a live line while it runs, tables and definitions at its end."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn

from headrace.cli.output import console, number, print_table

if TYPE_CHECKING:
    from headrace.bench.load import Load, Now, Result
    from headrace.bench.metrics import Percentiles

LATENCIES = (
    ("ttft_scheduled", "TTFT, from when due"),
    ("ttft_sent", "TTFT, from sending"),
    ("tpot", "TPOT"),
    ("e2e_scheduled", "E2E, from when due"),
    ("e2e_sent", "E2E, from sending"),
    ("late", "sent late by"),
)


class LiveProgress:
    """One line on standard error that says how the run stands."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._progress = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            console=console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("", total=1.0)

    def __enter__(self) -> LiveProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, now: Now) -> None:
        parts = []
        if self._load.requests is not None:
            parts.append(now.sent / self._load.requests)
        if self._load.duration_s is not None:
            parts.append(now.elapsed_s / self._load.duration_s)
        refused = now.rejected + now.unavailable
        rate = now.tokens / now.elapsed_s if now.elapsed_s > 0 else 0.0
        words = (
            f"{now.elapsed_s:5.0f} s  {now.ok} answered, {now.in_flight} in flight, {refused} refused, "
            f"{now.failed} failed  {rate:,.0f} tokens/s (input + output)"
        )
        self._progress.update(self._task, completed=min(1.0, max(parts)), description=words)


def print_result(result: Result, *, simulated: bool) -> None:
    """Counts, tokens/s and latencies, then what they mean."""
    out, summary = console(), result.summary
    if result.users is not None:
        how = f"closed loop, {result.users} user{'s' if result.users != 1 else ''}"
    else:
        how = f"open loop, {result.requests_per_s_planned:.4g} requests/s"
        if result.reference_tokens_per_s_planned is not None:
            how += f" = {result.reference_tokens_per_s_planned:,.1f} reference tokens/s"
    out.print(f"{result.model} at {result.url}: {how}, {summary.elapsed_s:.1f} s", highlight=False)
    if simulated:
        out.print("[yellow]The endpoint runs the simulated engine: these figures are no model's.[/yellow]")
    print_table(
        [">requests", ">answered", ">rejected (429)", ">unavailable (503)", ">failed", ">unfinished"],
        [
            [
                summary.requests,
                summary.ok,
                summary.rejected,
                summary.unavailable,
                summary.failed,
                summary.unfinished,
            ]
        ],
    )
    rates = summary.tokens_per_s
    print_table(
        ["tokens", ">total", ">tokens/s"],
        [
            ["input", number(summary.input_tokens), number(rates.input, 1)],
            ["output", number(summary.output_tokens), number(rates.output, 1)],
            ["input + output", number(summary.input_tokens + summary.output_tokens), number(rates.input_and_output, 1)],
            ["reference (work)", number(summary.reference_tokens), number(rates.reference, 1)],
        ],
    )
    print_table(
        ["seconds", ">p50", ">p90", ">p95", ">p99", ">mean", ">max"],
        [[name, *_figures(getattr(summary, field))] for field, name in LATENCIES],
    )
    for message, times in summary.errors.items():
        out.print(f"{times} × {message}", markup=False)
    if summary.without_usage:
        out.print(f"{summary.without_usage} answers came without usage; their output was counted by events")
    _print_definitions(result)


def _figures(figures: Percentiles | None) -> list[str]:
    if figures is None:
        return ["-"] * 6
    return [f"{value:.3f}" for value in (figures.p50, figures.p90, figures.p95, figures.p99, figures.mean, figures.max)]


def _print_definitions(result: Result) -> None:
    names = {
        "ttft_scheduled": "TTFT, from when due",
        "ttft_sent": "TTFT, from sending",
        "tpot": "TPOT",
        "e2e_scheduled": "E2E, from when due",
        "e2e_sent": "E2E, from sending",
        "late": "sent late by",
        "percentiles": "percentiles",
        "tokens": "tokens",
        "tokens_per_s": "tokens/s",
        "reference_tokens_per_s": "reference tokens/s",
    }
    out = console()
    for key, name in names.items():
        out.print(f"[dim]{name}: {result.definitions[key]}[/dim]")
