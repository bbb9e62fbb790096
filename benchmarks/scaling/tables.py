"""What was measured, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from cases import Case
from steady import LAWS, Steady
from sweep import CAREFUL, DEFAULT_RAY, EAGER_HPA, HEADRACE, HPA, KNOWN, KNOWN_RATE, RAY, TARGETS, Row, saved


def whole(cases: Sequence[Case], rows: Sequence[Row], draws: Sequence[Row], hours: Sequence[Steady]) -> str:
    """All tables. ``rows`` of draw 0, ``draws`` of others."""
    return "\n".join(
        [
            "# What a run gave",
            "",
            "[What it means](README.md). Deterministic: the same on every machine.",
            *("", "## Chunk-hours saved at equal attainment", "", *_saved(cases, rows)),
            *("", "## What laws that know the traffic would save beside HPA", "", *_known(cases, rows)),
            *(
                "",
                "## Other draws of chance: saved beside HPA, mean of those that attain it",
                "",
                *_draws(cases, draws),
            ),
            *("", "## Constant demand", "", *_steady(hours)),
            *("", "## The settings that a careful operator would take", "", *_careful(cases, rows)),
            "",
        ]
    )


def _saved(cases: Sequence[Case], rows: Sequence[Row]) -> list[str]:
    lines = _head("case", "beside", *(f"{target:.1%}" for target in TARGETS))
    for case in cases:
        first = f"{case.name}{' (held out)' if case.held_out else ''}: {case.words}"
        for law in (HPA, RAY, DEFAULT_RAY, EAGER_HPA):
            lines.append(_line(first, law, *map(_part, saved(_of(case, rows), HEADRACE, law))))
            first = ""
    return lines


def _known(cases: Sequence[Case], rows: Sequence[Row]) -> list[str]:
    lines = _head("case", "knows", *(f"{target:.1%}" for target in TARGETS))
    for case in (case for case in cases if not case.held_out):
        for first, law in ((case.name, KNOWN), ("", KNOWN_RATE)):
            lines.append(_line(first, law.removesuffix(" known"), *map(_part, saved(_of(case, rows), law, HPA))))
    return lines


def _draws(cases: Sequence[Case], rows: Sequence[Row]) -> list[str]:
    lines = _head("case", "draws", *(f"{target:.1%}" for target in TARGETS))
    for case in (case for case in cases if not case.held_out):
        of_case = _of(case, rows)
        numbers = sorted({row.draw for row in of_case})
        each = [saved([row for row in of_case if row.draw == number], HEADRACE, HPA) for number in numbers]
        cells: list[str] = []
        for parts in zip(*each, strict=True):
            known = [part for part in parts if part is not None]
            few = f" ({len(known)})" if len(known) < len(parts) else ""
            cells.append(f"{fmean(known):+.1%}{few}" if known else "")
        lines.append(_line(case.name, str(len(numbers)), *cells))
    return lines


def _steady(hours: Sequence[Steady]) -> list[str]:
    lines = _head("law", "hours", "given back and asked for again", "chunk-hours")
    for law in LAWS:
        own = [hour for hour in hours if hour.law == law]
        cycles, chunk_hours = sum(hour.cycles for hour in own), sum(hour.chunk_hours for hour in own)
        lines.append(_line(law, str(len(own)), str(cycles), f"{chunk_hours:.1f}"))
    return lines


def _careful(cases: Sequence[Case], rows: Sequence[Row]) -> list[str]:
    lines = _head(
        *("case", "law", "setting", "attained", "chunk-hours", "held", "met, s", "over", "short", "events", "refused")
    )
    for case in cases:
        first = case.name
        for law, knob in CAREFUL:
            (row,) = (row for row in _of(case, rows) if (row.law, row.knob) == (law, knob))
            lines.append(_line(first, law, knob, *figures(row), str(row.refused)))
            first = ""
    return lines


def figures(row: Row) -> list[str]:
    return [
        f"{row.attainment:.2%}",
        f"{row.chunk_hours:.2f}",
        f"{row.held_chunk_hours:.2f}",
        "" if row.met_s is None else f"{row.met_s:.0f}",
        "" if row.overshoot is None else f"{row.overshoot}",
        f"{row.short:.1%}",
        f"{row.events}",
    ]


def _of(case: Case, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.case == case.name]


def _part(part: float | None) -> str:
    return "" if part is None else f"{part:+.0%}"


def _head(*names: str) -> list[str]:
    return [_line(*names), "|" + "---|" * len(names)]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
