"""How a load run looks when it has ended: what it shows of the server, figures with what each of them is, and at the
end whether they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from headrace.cli.output import console, number, print_table

if TYPE_CHECKING:
    from headrace.bench.results.figures import Attainment, Figures
    from headrace.bench.results.percentiles import Distribution
    from headrace.bench.results.summary import Summary
    from headrace.bench.workload.spec import Arrivals, LoadSpec

LATENCIES = (
    ("ttft_scheduled", "TTFT: when due to first token"),
    ("ttft_sent", "TTFT: sending to first token"),
    ("tpot", "TPOT: first to last token, a token"),
    ("itl_event", "ITL: event to event"),
    ("itl_token", "ITL: event to event, a token"),
    ("e2e_scheduled", "E2E: when due to end of answer"),
    ("e2e_sent", "E2E: sending to end of answer"),
    ("lag", "late: when due to sending, the client's"),
)
"""With what each is in few words; ``bench.results.definitions`` has it in full."""


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


def print_summary(summary: Summary, *, explain: bool = False) -> None:
    """What was found, counts, rates, latencies, attainment, and last whether it is to be believed. ``explain``: every
    definition in full and every gate, before all of it."""
    from headrace.bench.results.tables import stretch  # noqa: PLC0415

    out, figures = console(), summary.headline
    if explain and summary.whole.counts.ok:
        _print_explained(summary, figures)
    out.print(f"{summary.target}: {_load(summary.spec)}", markup=False, highlight=False)
    if summary.simulated:
        out.print("[yellow]The endpoint runs the simulated engine: these figures are no model's.[/yellow]")
    if summary.gone_on:
        out.print(f"resumed: {summary.gone_on}", markup=False, highlight=False)
    for finding in summary.findings:
        out.print(f"found: {finding.words}", markup=False, highlight=False)
    mark = "" if summary.valid else "INVALID "
    print_table(
        [">requests", ">answered", ">rejected (429)", ">unavailable (503)", ">failed", ">timed out", ">unfinished"],
        [_counts(summary.whole)],
        title=f"{mark}requests, whole load",
    )
    if not summary.whole.counts.ok:
        return
    which = "steady window" if summary.steady is not None else "whole load"
    out.print(
        f"Figures of the {which}, {stretch(figures)} ({summary.window.words})",
        markup=False,
        highlight=False,
    )
    _print_figures(summary, figures, mark)
    _print_verdict(summary)


def _print_figures(summary: Summary, figures: Figures, mark: str) -> None:
    out, rates = console(), figures.tokens_per_s
    print_table(
        ["per second", f">{mark}mean", ">of a request", "what is counted"],
        [
            ["requests offered", number(figures.offered_per_s, 3), "", "due in the span"],
            ["requests answered", number(figures.completed_per_s, 3), "", "complete answers that ended in the span"],
            ["input tokens", number(rates.input, 1), number(figures.input_tokens, 1), "from sending to first token"],
            ["output tokens", number(rates.output, 1), number(figures.output_tokens, 1), "when each one's event came"],
            ["input + output tokens", number(rates.input_and_output, 1), _both(figures), "both together"],
            *(
                [
                    [
                        "reference tokens",
                        number(rates.reference, 1),
                        number(figures.work, 1),
                        "work; 2048/256 weighs 2304",
                    ]
                ]
                if summary.weights_known
                else []
            ),
        ],
    )
    if summary.notebook is not None:
        book = summary.notebook
        out.print(
            f"As Databricks' notebook would say, which is not tokens over time: {book.tokens_per_s:,.1f} tokens/s "
            f"= ({book.mean_input_tokens:.1f} + {book.mean_output_tokens:.1f}) x {book.users} / "
            f"{book.median_latency_s:.3f} s",
            style="dim",
            markup=False,
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
    print_table(
        ["seconds", ">p50", ">p90", ">p95", ">p99", ">p99.9", ">mean", ">max"],
        [[name, *_latency(getattr(figures.latencies, field))] for field, name in LATENCIES],
        title=f"{mark}latency of complete answers [95% interval, by order statistics]",
    )
    for attainment in figures.attainments:
        out.print(f"{mark}{_attained(attainment)}", markup=False, highlight=False)
    if figures.attainments:
        out.print(
            "good: complete and within every limit, from when due; 429s are apart [95% interval, exact binomial]; "
            "goodput: good answers that ended in the span, a second",
            style="dim",
            markup=False,
            highlight=False,
        )


def _print_verdict(summary: Summary) -> None:
    """Passed gates in a few words, failed ones in full."""
    passed = sum(gate.passed is True for gate in summary.gates)
    idle = sum(gate.passed is None for gate in summary.gates)
    counted = f"{passed} of {len(summary.gates)} gates passed" + (f", {idle} do not apply" if idle else "")
    if summary.valid:
        console().print(f"VALID: {counted} (--explain tells what each saw, and defines every figure)", style="bold")
        return
    for reason in summary.reasons:
        console().print(f"INVALID: {reason}", style="bold red", markup=False)
    console().print(f"{counted} (--explain tells what each saw, and defines every figure)", highlight=False)


def _print_explained(summary: Summary, figures: Figures) -> None:
    for name, words in _defined(summary, figures):
        console().print(f"{name}: {words}", style="dim", markup=False)
    print_table(
        ["gate", "", "what was seen"],
        [[gate.name, {True: "ok", False: "FAILED", None: "-"}[gate.passed], gate.words] for gate in summary.gates],
    )


def _load(spec: LoadSpec) -> str:
    load = describe(spec.arrivals)
    if spec.sessions is None:
        return load
    return f"{load.replace('requests/s', 'sessions/s')}; {spec.sessions.think_s:g} s to think before each further turn"


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
        f"{found.words}: {found.share:.2%} [{found.low:.2%}, {found.high:.2%}] of {found.judged}: {found.met}; "
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
