"""How a capacity search looks: a live line, then the answer, its curve and what led to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headrace.cli.live_line import Show, live_line
from headrace.cli.output import console, number, print_table

if TYPE_CHECKING:
    from headrace.bench.capacity.answer import Answer, Point
    from headrace.bench.capacity.live import Look
    from headrace.bench.results.findings import Finding
    from headrace.bench.slo import Slo
    from headrace.bench.target import Target


class Live:
    """Says how the search stands."""

    def __init__(self, show: Show, budget_s: float) -> None:
        self._show, self._budget_s = show, budget_s

    def say(self, words: str) -> None:
        self._show(words, 0.0)

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
        self._show(", ".join(words), look.spent_s / self._budget_s)


@contextmanager
def live_progress(budget_s: float, *, quiet: bool) -> Iterator[Live]:
    with live_line(quiet=quiet) as show:
        yield Live(show, budget_s)


def print_answer(answer: Answer, findings: Sequence[Finding], slo: Slo, target: Target) -> None:
    from headrace.bench import slo as objectives  # noqa: PLC0415
    from headrace.bench.capacity.evidence import USUAL_EFFECT  # noqa: PLC0415

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
    if not answer.curve:
        return
    print_table(
        ["phase", ">load", ">good", ">95% from", ">to", ">requests", ">design effect", ">backlog", "verdict"],
        [_probe(point) for point in answer.curve],
        title=f"{answer.requests:,} requests in {answer.seconds:,.0f} s",
    )
    for point in answer.curve:
        if point.invalid:
            say(f"INVALID, {point.phase} at {_load(point)}: {'; '.join(point.invalid)}")
    say(
        "design effect: requests in a batch share their fate, so many of them count for one. Intervals and "
        f"verdicts have it; assumed: {USUAL_EFFECT:g}, until bad requests show it",
        "dim",
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


def _load(point: Point) -> str:
    return f"{point.rate:.4g}/s" if point.users is None else f"{point.users} users = {point.rate:.4g}/s"


def _probe(point: Point) -> list[str]:
    low, high = point.interval
    verdict = "INVALID" if point.invalid else "429" if point.limited else point.verdict
    return [
        point.phase,
        _load(point),
        f"{point.attainment:.2%}",
        f"{low:.2%}",
        f"{high:.2%}",
        str(point.n),
        f"{point.design_effect:.2f}",
        f"{point.drift:+.1%}",
        verdict,
    ]
