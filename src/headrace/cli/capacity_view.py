"""How a capacity search looks: a live line, then the answer, its curve and what led to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headrace.cli.output import console, number, print_table

if TYPE_CHECKING:
    from rich.progress import Progress

    from headrace.bench.capacity.answer import Answer, Point
    from headrace.bench.capacity.live import Look
    from headrace.bench.results.findings import Finding
    from headrace.bench.slo import Slo
    from headrace.bench.target import Target


class Live:
    """One line on standard error that says how the search stands; nothing where nobody looks."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._task = None if progress is None else progress.add_task("", total=None)

    def say(self, words: str) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=words)

    def show(self, look: Look) -> None:
        probe, observed = look.probe, look.observed
        load = f"{probe.users} users" if probe.rate is None else f"{probe.rate:.3g} requests/s"
        words = [f"{look.spent_s:5.0f} s  {probe.phase}: {load}", f"{len(observed.scheduled_s)} judged"]
        if len(observed.scheduled_s):
            words.append(f"{min(float(good.mean()) for good in observed.good):.1%} good")
        if observed.rejected:
            words.append(f"{observed.rejected} refused (429)")
        if look.interval is not None:
            words.append(f"capacity {look.interval[0]:.3g} to {look.interval[1]:.3g} requests/s")
        self.say(", ".join(words))


@contextmanager
def live_progress(*, quiet: bool) -> Iterator[Live]:
    if quiet:
        yield Live(None)
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn  # noqa: PLC0415

    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        yield Live(progress)


def print_answer(answer: Answer, findings: Sequence[Finding], slo: Slo, target: Target) -> None:
    from headrace.bench import slo as objectives  # noqa: PLC0415

    out = console()

    def say(words: str, style: str | None = None) -> None:
        out.print(words, style=style, markup=False, highlight=False)

    say(f"{target.model} at {target.url}")
    for criterion in slo.criteria:
        say(f"wanted: {objectives.describe(criterion)}, from when due")
    if target.terms.simulated:
        say("The endpoint runs the simulated engine: these figures are no model's.", "yellow")
    say(f"{answer.verdict}: {answer.reason}", "bold")
    if answer.confirmed is not None:
        print_table(["held, in replicates", ">per second"], _rates(answer, answer.confirmed))
    if answer.capacity is not None and answer.interval is not None:
        print_table(
            ["capacity", ">estimate", ">95% from", ">to"],
            [
                [name, *(number(value, digits) for value in values)]
                for name, digits, *values in _estimates(answer, answer.capacity, *answer.interval)
            ],
        )
    for words in answer.findings:
        say(f"found: {words}")
    for finding in findings:
        say(f"found: {finding.words}")
    print_table(
        ["phase", ">load", ">good", ">95% from", ">to", ">requests", ">design effect", ">backlog", "verdict"],
        [_probe(point) for point in answer.curve],
        title=f"{answer.requests:,} requests in {answer.seconds:,.0f} s",
    )


def _rates(answer: Answer, rate: float) -> list[list[str]]:
    tokens = answer.tokens(rate)
    return [
        ["requests", number(rate, 3)],
        ["input tokens", number(tokens.input, 1)],
        ["output tokens", number(tokens.output, 1)],
        ["input + output tokens", number(tokens.both, 1)],
        ["reference tokens (work)", number(tokens.reference, 1)],
    ]


def _estimates(answer: Answer, *rates: float) -> list[tuple[str, int, *tuple[float, ...]]]:
    tokens = [answer.tokens(rate) for rate in rates]
    rows: list[tuple[str, int, *tuple[float, ...]]] = [
        ("requests/s", 3, *rates),
        ("input tokens/s", 1, *(each.input for each in tokens)),
        ("output tokens/s", 1, *(each.output for each in tokens)),
        ("input + output tokens/s", 1, *(each.both for each in tokens)),
    ]
    work = [each.reference for each in tokens if each.reference is not None]
    if work:
        rows.append(("reference tokens/s", 1, *work))
    return rows


def _probe(point: Point) -> list[str]:
    load = f"{point.rate:.4g}/s" if point.users is None else f"{point.users} users = {point.rate:.4g}/s"
    low, high = point.interval
    verdict = "INVALID" if point.invalid else "429" if point.limited else point.verdict
    return [
        point.phase,
        load,
        f"{point.attainment:.2%}",
        f"{low:.2%}",
        f"{high:.2%}",
        str(point.n),
        f"{point.design_effect:.2f}",
        f"{point.drift:+.1%}",
        verdict,
    ]
