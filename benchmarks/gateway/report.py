"""Tables and goals from what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from measures import Figures
from memory import LEVELS, MANY_REQUESTS
from pairs import Ratio, ratio

FLOOR, OURS, RUST = "relay", "headrace", "vllm-router"
ENOUGH = 6
"""Pairs that an interval takes."""

Rounds = dict[str, list[Figures]]
"""Figures of each row, one of a round; of rows that were measured next to each other."""

COLUMNS = {
    "request_us": "request µs",
    "request_alone_us": "alone µs",
    "request_16kb_us": "16 KB µs",
    "event_us": "event µs",
    "events_a_read": "events a read",
    "stream_22_us": "22-event stream µs",
    "stream_256_us": "256-event stream µs",
    "requests_per_s": "requests/s",
    "streams_22_per_s": "22-event streams/s",
    "latency_p50_ms": "p50 ms",
    "latency_p99_ms": "p99 ms",
    "first_byte_p50_ms": "first byte ms",
}
MEMORY = {
    "start_s": "start s",
    "rss_idle_mb": "idle MB",
    **{f"rss_{level}_mb": f"{level} streams MB" for level in LEVELS},
    "longest_gap_s": "longest gap s",
    "grown_by_them_mb": f"grown by {MANY_REQUESTS:,} requests MB",
}


def values(rounds: Rounds, row: str, name: str) -> list[float]:
    return [figures[name] for figures in rounds.get(row, []) if name in figures]


def compared(rounds: Rounds, row: str, name: str, to: str = FLOOR, plus: float = 0.0) -> Ratio | None:
    """To another row in the same rounds (``plus`` something); None where there are too few."""
    ours, theirs = values(rounds, row, name), values(rounds, to, name)
    if row == to or len(ours) != len(theirs) or len(ours) < ENOUGH or not all(theirs):
        return None
    return ratio(ours, [value + plus for value in theirs])


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |"
        for line in (head, *body)
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def rounds_table(groups: Sequence[Rounds]) -> str:
    """Medians over the rounds."""
    first = groups[0]
    rows = {row: group for group in reversed(groups) for row in group} | dict.fromkeys(first, first)
    shown = [name for name in COLUMNS if any(values(group, row, name) for group in groups for row in group)]
    body = []
    for group in groups:
        for row in group:
            if rows[row] is group:
                found = [values(group, row, name) for name in shown]
                body.append([row, *(number(statistics.median(each)) if each else "" for each in found)])
    return markdown(["", *(COLUMNS[name] for name in shown)], body)


def ratios_table(groups: Sequence[Rounds]) -> str:
    """To the relay in the same rounds."""
    shown = [
        "request_us",
        "request_alone_us",
        "request_16kb_us",
        "event_us",
        "stream_22_us",
        "latency_p50_ms",
        "latency_p99_ms",
    ]
    body = []
    for group in groups:
        for row in (row for row in group if row != "direct"):
            found = [compared(group, row, name) for name in shown]
            if any(found):
                body.append(
                    [
                        row,
                        *(
                            "" if each is None else f"{each.median:.2f} [{each.low:.2f}, {each.high:.2f}]"
                            for each in found
                        ),
                    ]
                )
    return markdown(
        [f"to the {FLOOR}", *(COLUMNS[name].removesuffix(" µs").removesuffix(" ms") for name in shown)], body
    )


def memory_table(memory: dict[str, Figures]) -> str:
    """With what was reached where it was less than asked for."""

    def cell(figures: Figures, name: str) -> str:
        if name not in figures:
            return ""
        for level in LEVELS:
            if name == f"rss_{level}_mb" and figures[f"streams_open_{level}"] < level:
                return f"{number(figures[name])} with {figures[f'streams_open_{level}']:.0f}"
        if name == "grown_by_them_mb" and figures["requests_in_a_row"] < MANY_REQUESTS:
            return f"{number(figures[name])} by {figures['requests_in_a_row']:,.0f}"
        return number(figures[name])

    return markdown(
        ["", *MEMORY.values()], [[row, *(cell(each, name) for name in MEMORY)] for row, each in memory.items()]
    )


@dataclass(frozen=True)
class Goal:
    """One promise, and what was measured of it."""

    what: str
    target: float
    measured: float
    """The bound that has to meet the target, where there is an interval."""
    told: str

    @property
    def met(self) -> bool:
        return self.measured <= self.target

    def __str__(self) -> str:
        return f"{'met   ' if self.met else 'MISSED'} {self.what}: {self.told}; goal: at most {self.target:g}"


def goals(rounds: Rounds, memory: dict[str, Figures]) -> list[Goal]:
    """Those of which enough was measured."""
    found: list[Goal] = []

    def add(what: str, target: float, measured: Ratio | None) -> None:
        if measured is not None:
            found.append(Goal(what, target, measured.high, str(measured)))

    for name, users in (("request_us", "8 users"), ("request_alone_us", "one at a time")):
        add(f"processor time of a request, {users}, to the relay", 3.0, compared(rounds, OURS, name))
        add(f"processor time of a request, {users}, to {RUST}", 1.0, compared(rounds, OURS, name, RUST))
    add("processor time of an event, to the relay", 1.15, compared(rounds, OURS, "event_us"))
    add("p50 one at a time, to the relay's + 0.2 ms", 1.0, compared(rounds, OURS, "latency_p50_ms", plus=0.2))
    add("p99 one at a time, to the relay's", 2.0, compared(rounds, OURS, "latency_p99_ms"))
    ours = memory.get(OURS, {})
    limits: list[tuple[str, str, float, Callable[[float], float]]] = [
        ("rss_5000_mb", "resident memory with 5,000 streams open, MB", 300.0, float),
        ("streams_open_5000", "of 5,000 streams not open", 0.0, lambda opened: LEVELS[-1] - opened),
        ("longest_gap_s", "longest gap on 5,000 streams of an event a second, s", 1.5, float),
        ("grown_by_them_mb", "memory grown by 10,000 requests, MB", 5.0, float),
    ]
    for name, what, target, of in limits:
        if name in ours:
            found.append(Goal(what, target, of(ours[name]), number(of(ours[name]))))
    return found


def goals_told(found: Sequence[Goal]) -> list[dict[str, Any]]:
    return [asdict(goal) | {"met": goal.met} for goal in found]
