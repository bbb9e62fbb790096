"""Tables and goals from what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cases import SEVERAL
from measure import Figures

OURS = "headrace"
BEATEN = ("aiperf", "guidellm")
PLACES = (
    ("seventy", "at 70% of its saturation"),
    ("promised", "at 70% of 5,000/s"),
    ("common", "at the common rate"),
)
"""Where a rate is kept."""

Rounds = Sequence[dict[str, dict[str, Figures]]]
"""By case and row, of each round."""


@dataclass(frozen=True)
class Column:
    title: str
    case: str
    figure: Callable[[Figures], float | None]


def of(name: str, scale: float = 1.0) -> Callable[[Figures], float | None]:
    return lambda figures: figures[name] * scale if name in figures else None


def per_s(name: str) -> Callable[[Figures], float | None]:
    """How many of what costs so many microseconds a core can do in a second."""
    return lambda figures: 1e6 / figures[name] if name in figures else None


COST = (
    Column("event alone µs", "apart", of("event_us")),
    Column("alone, dense µs", "dense", of("event_us")),
    Column("alone, dense events/s/core", "dense", per_s("event_us")),
    Column("together µs", "together", of("event_us")),
    Column("together events/s/core", "together", per_s("event_us")),
    Column("16-event stream µs", "requests", of("request_us")),
    Column("streams/s/core", "requests", per_s("request_us")),
)
TRUTH = (
    Column("70%: streams/s", "seventy", of("requests_per_s")),
    Column("added TTFT p50 ms", "seventy", of("added_ttft_p50_us", 1e-3)),
    Column("p99 ms", "seventy", of("added_ttft_p99_us", 1e-3)),
    Column("late p50 ms", "seventy", of("late_p50_us", 1e-3)),
    Column("late p99 ms", "seventy", of("late_p99_us", 1e-3)),
    Column("3,500/s: added TTFT p50 ms", "promised", of("added_ttft_p50_us", 1e-3)),
    Column("p99 ms", "promised", of("added_ttft_p99_us", 1e-3)),
    Column("late p99 ms", "promised", of("late_p99_us", 1e-3)),
    Column("40/s: added TTFT p50 ms", "common", of("added_ttft_p50_us", 1e-3)),
    Column("p99 ms", "common", of("added_ttft_p99_us", 1e-3)),
    Column("late p50 ms", "common", of("late_p50_us", 1e-3)),
    Column("late p99 ms", "common", of("late_p99_us", 1e-3)),
)
CHECKS = (
    Column("events read together %", "apart", of("unread_share", 100)),
    Column("dense %", "dense", of("unread_share", 100)),
    Column("client's core %: apart", "apart", of("client_share", 100)),
    Column("dense", "dense", of("client_share", 100)),
    Column("16-event", "requests", of("client_share", 100)),
    Column("70%", "seventy", of("client_share", 100)),
    Column("server's core %: dense", "dense", of("server_share", 100)),
    Column("16-event", "requests", of("server_share", 100)),
    Column("server µs: event", "dense", of("server_event_us")),
    Column("unrecorded", "dense_unrecorded", of("server_event_us")),
    Column("stream", "requests", of("server_request_us")),
    Column("cores taken by others", "requests", of("others_cores")),
    Column("start to end CPU s", "common", of("whole_cpu_s")),
)


def values(rounds: Rounds, case: str, row: str, figure: Callable[[Figures], float | None]) -> list[float]:
    """Of the rounds that have it."""
    found = [figure(figures[case][row]) for figures in rounds if row in figures.get(case, {})]
    return [value for value in found if value is not None]


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(found: Sequence[float]) -> str:
    """Median, and the least and the most."""
    if not found:
        return ""
    middle = number(statistics.median(found))
    return middle if len(found) == 1 else f"{middle} [{number(min(found))}, {number(max(found))}]"


def told(rounds: Rounds, rows: Sequence[str]) -> str:
    parts = [
        ("Processor time of the client, all its processes", table(rounds, rows, COST)),
        ("What it tells against the truth", table(rounds, rows, TRUTH)),
        ("Wrong token counts", tokens_table(rounds, rows)),
        ("Whether the figures can be trusted", table(rounds, rows, CHECKS)),
    ]
    return "\n".join(f"\n{title}; medians [least, most] over the rounds\n\n{body}" for title, body in parts)


def table(rounds: Rounds, rows: Sequence[str], columns: Sequence[Column]) -> str:
    shown = [each for each in columns if any(values(rounds, each.case, row, each.figure) for row in rows)]
    body = [[row, *(spread(values(rounds, each.case, row, each.figure)) for each in shown)] for row in rows]
    return markdown(["", *(each.title for each in shown)], [line for line in body if any(line[1:])])


def tokens_table(rounds: Rounds, rows: Sequence[str]) -> str:
    """Answers counted wrong of those counted; where every event has one token, and where it has several."""
    body = []
    for row in rows:
        cells = []
        for several in (False, True):
            found = [
                figures[case][row]
                for figures in rounds
                for case in figures
                if row in figures[case] and "told" in figures[case][row] and (case == "common") is several
            ]
            wrong, counted = (sum(figures[name] for figures in found) for name in ("wrong_tokens", "told"))
            cells.append(f"{wrong:,.0f} of {counted:,.0f}" if counted else "")
        body.append([row, *cells])
    return markdown(["", "one token an event", f"{SEVERAL.tokens_an_event} tokens an event"], body)


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |"
        for line in (head, *body)
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


@dataclass(frozen=True)
class Goal:
    """One promise, and what was measured of it: the median over the rounds decides."""

    what: str
    at_least: float | None
    at_most: float | None
    measured: tuple[float, ...]

    @property
    def met(self) -> bool:
        middle = statistics.median(self.measured)
        return (self.at_least is None or middle >= self.at_least) and (self.at_most is None or middle <= self.at_most)

    def __str__(self) -> str:
        limit = f"at least {self.at_least:,g}" if self.at_least is not None else f"at most {self.at_most:,g}"
        return f"{'met   ' if self.met else 'MISSED'} {self.what}: {spread(self.measured)}; goal: {limit}"


def goals(rounds: Rounds) -> list[Goal]:
    """Those of which something was measured."""
    found = [
        Goal("events/s per core, each read alone", 100_000, None, ours(rounds, "dense", per_s("event_us"))),
        Goal("16-event streams/s per core", 5_000, None, ours(rounds, "requests", per_s("request_us"))),
    ]
    for peer in BEATEN:
        for case, name, what in (
            ("apart", "event_us", "an event read alone"),
            ("together", "event_us", "an event read with others"),
            ("requests", "request_us", "a stream"),
        ):
            found.append(
                Goal(f"processor time of {what}: {peer}'s to ours", 10, None, ratios(rounds, case, name, peer))
            )
    found += [
        *(added_ttft(rounds, case, words) for case, words in PLACES[:2]),
        *(
            Goal(f"lateness p99 to the bare timer loop's, {words}", None, 1.5, late(rounds, case))
            for case, words in PLACES
        ),
        Goal("answers with a wrong number of tokens", None, 0, wrong(rounds)),
    ]
    return [goal for goal in found if goal.measured]


def ours(rounds: Rounds, case: str, figure: Callable[[Figures], float | None]) -> tuple[float, ...]:
    return tuple(values(rounds, case, OURS, figure))


def ratios(rounds: Rounds, case: str, name: str, to: str) -> tuple[float, ...]:
    """Another row's figure to ours, in the rounds that have both."""
    both = [figures[case] for figures in rounds if {OURS, to} <= figures.get(case, {}).keys()]
    return tuple(rows[to][name] / rows[OURS][name] for rows in both)


def added_ttft(rounds: Rounds, case: str, words: str) -> Goal:
    """Under half a millisecond; where the machine does not even let a bare loop have that, at most 1.5 times it."""
    absolute = Goal(f"added TTFT p99 {words}, ms", None, 0.5, ours(rounds, case, of("added_ttft_p99_us", 1e-3)))
    relative = tuple(1 / ratio for ratio in ratios(rounds, case, "added_ttft_p99_us", "bare"))
    if not relative or absolute.met:
        return absolute
    return Goal(f"added TTFT p99 {words}, to the bare loop's at the same rate", None, 1.5, relative)


def late(rounds: Rounds, case: str) -> tuple[float, ...]:
    return tuple(1 / ratio for ratio in ratios(rounds, case, "late_p99_us", "timer"))


def wrong(rounds: Rounds) -> tuple[float, ...]:
    found = [
        case[OURS]["wrong_tokens"] for figures in rounds for case in figures.values() if "told" in case.get(OURS, {})
    ]
    return (sum(found),) if found else ()


def goals_told(found: Sequence[Goal]) -> list[dict[str, Any]]:
    return [asdict(goal) | {"met": goal.met} for goal in found]
