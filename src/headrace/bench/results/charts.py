"""Plots as Plotly's own JSON: traces and layouts, rounded to what a screen shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from headrace.bench.client.records import Outcome
from headrace.bench.results import tables
from headrace.bench.results.curves import LEVELS, Curves, Histogram
from headrace.bench.results.percentiles import Distribution
from headrace.bench.results.summary import Summary

Json = dict[str, object]

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
    "#8a8f98",
)
"""Okabe and Ito's, which colour-blind readers can tell apart."""
OUTCOME_COLOURS = {
    Outcome.OK: GREEN,
    Outcome.REJECTED: ORANGE,
    Outcome.UNAVAILABLE: PURPLE,
    Outcome.FAILED: RED,
    Outcome.TIMED_OUT: BLUE,
    Outcome.UNFINISHED: GREY,
}
TIME = "seconds since the planned start"


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    words: str
    """What to see in it."""
    traces: list[Json]
    layout: Json


def of_run(summary: Summary, curves: Curves) -> list[Chart]:
    charts = [
        _over_time(
            "In flight",
            "Requests between their sending and the end of their answer. A line that keeps rising is a backlog.",
            [_line(curves.at_s, curves.in_flight, "requests in flight", BLUE)],
            "requests",
            summary,
            {"yaxis": {"rangemode": "tozero"}},
        ),
        _over_time(
            "Tokens per second",
            "Output when it arrived, input evenly from sending to first token.",
            [
                _line(curves.at_s, curves.input_rate, "input", SKY),
                _line(curves.at_s, curves.output_rate, "output", ORANGE),
            ],
            "tokens/s",
            summary,
        ),
        *(_latency(name, key, curves, summary) for name, key in (("TTFT", "ttft"), ("TPOT", "tpot"), ("E2E", "e2e"))),
        _over_time(
            "Outcomes",
            "How measured requests ended, by when they ended.",
            [
                {
                    "type": "bar",
                    "x": _rounded(curves.outcome_at_s),
                    "y": _rounded(counts / curves.outcome_width_s),
                    "name": outcome.name.lower().replace("_", " "),
                    "marker": {"color": OUTCOME_COLOURS[outcome]},
                }
                for outcome, counts in curves.outcomes.items()
            ],
            "requests/s",
            summary,
            {"barmode": "stack", "bargap": 0},
        ),
    ]
    ttft_s = [c.ttft_s for c in summary.slo.criteria if c.ttft_s is not None] if summary.slo else []
    charts += _distribution("TTFT distribution", "From when a request was due to its first token.", curves.ttft, ttft_s)
    charts += _distribution("ITL distribution", "From event to event in one answer.", curves.itl, [])
    charts.append(_intervals(curves))
    return [chart for chart in charts if chart.traces]


def of_levels(summaries: Sequence[Summary]) -> list[Chart]:
    """Latency against throughput, a point for each run of a sweep."""
    ordered = sorted(summaries, key=lambda summary: summary.headline.tokens_per_s.input_and_output)
    charts = []
    for name, field in (("TTFT", "ttft_scheduled"), ("TPOT", "tpot"), ("E2E", "e2e_scheduled")):
        traces = [
            trace
            for at, colour in ((0.5, BLUE), (0.99, RED))
            if (trace := _level_line(ordered, field, at, colour)) is not None
        ]
        if traces:
            words = f"{name} of each level; bars are 95% intervals. Hollow points are INVALID runs."
            layout = _layout("input + output tokens/s", "seconds", {"yaxis": {"type": "log"}})
            charts.append(Chart(f"{name} against throughput", words, traces, layout))
    return charts


def _level_line(ordered: Sequence[Summary], field: str, at: float, colour: str) -> Json | None:
    seen = [(s, found) for s in ordered if (found := getattr(s.headline.latencies, field)) is not None]
    if not seen:
        return None
    points = [_at(found, at) for _, found in seen]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": f"p{at * 100:g}",
        "x": _rounded([s.headline.tokens_per_s.input_and_output for s, _ in seen]),
        "y": _rounded([value for value, _, _ in points]),
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": _rounded([high - value for value, _, high in points]),
            "arrayminus": _rounded([value - low for value, low, _ in points]),
            "thickness": 1,
        },
        "text": [tables.level(s) for s, _ in seen],
        "line": {"color": colour, "width": 1.5},
        "marker": {"color": colour, "size": 8, "symbol": ["circle" if s.valid else "circle-open" for s, _ in seen]},
    }


def _at(found: Distribution, level: float) -> tuple[float, float, float]:
    """Value, and the ends of its interval: the value itself where there is none."""
    percentile = next(p for p in found.percentiles if p.level == level)
    low = percentile.value if percentile.low is None else percentile.low
    high = percentile.value if percentile.high is None else percentile.high
    return percentile.value, low, high


def _latency(name: str, key: str, curves: Curves, summary: Summary) -> Chart:
    levels = curves.latencies[key]
    traces = [
        _line(curves.coarse_at_s, row, f"p{level * 100:g}", colour)
        for level, row, colour in zip(LEVELS, levels, (BLUE, ORANGE, RED), strict=True)
        if not np.isnan(row).all()
    ]
    words = "By when requests were due. p99 of an interval with fewer than 100 answers is its largest."
    limits = {f"{key}_s"} if summary.slo else set()
    chart = _over_time(f"{name} over time", words, traces, "seconds", summary, {"yaxis": {"rangemode": "tozero"}})
    criteria = summary.slo.criteria if summary.slo else ()
    for limit in {getattr(c, field) for c in criteria for field in limits} - {None}:
        _add_shape(chart.layout, _limit(limit, "y"))
    return chart


def _intervals(curves: Curves) -> Chart:
    """Latency against throughput within one run: a point for each interval."""
    traces: list[Json] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": f"TTFT p{level * 100:g}",
            "x": _rounded(curves.coarse_input_and_output),
            "y": _rounded(row),
            "marker": {"color": colour, "size": 7, "opacity": 0.75},
        }
        for level, row, colour in ((0.5, curves.latencies["ttft"][0], BLUE), (0.9, curves.latencies["ttft"][1], ORANGE))
        if not np.isnan(row).all()
    ]
    words = "A point for each interval of the run: what was served in it, and the TTFT of the requests due in it."
    layout = _layout("input + output tokens/s", "seconds", {"yaxis": {"rangemode": "tozero"}})
    return Chart("Latency against throughput", words, traces, layout)


def _distribution(title: str, words: str, found: Histogram | None, limits: Sequence[float]) -> list[Chart]:
    if found is None:
        return []
    trace: Json = {
        "type": "scatter",
        "mode": "lines",
        "fill": "tozeroy",
        "x": _rounded(np.repeat(found.edges, 2)[1:-1]),
        "y": _rounded(np.repeat(found.shares * 100, 2)),
        "line": {"color": BLUE, "width": 1},
        "showlegend": False,
        "hovertemplate": "%{x:.3s}s: %{y:.2f}%<extra></extra>",
    }
    layout = _layout("seconds (log)", "% of values in a bin", {"xaxis": {"type": "log"}, "hovermode": "closest"})
    for limit in limits:
        _add_shape(layout, _limit(limit, "x"))
    return [Chart(title, words, [trace], layout)]


def _over_time(
    title: str, words: str, traces: list[Json], unit: str, summary: Summary, more: Json | None = None
) -> Chart:
    layout = _layout(TIME, unit, more or {})
    for span in summary.window.steady_spans:
        _add_shape(
            layout,
            {
                "type": "rect",
                "yref": "paper",
                "x0": round(span.start_s, 3),
                "x1": round(span.end_s, 3),
                "y0": 0,
                "y1": 1,
                "fillcolor": GREEN,
                "opacity": 0.08,
                "line": {"width": 0},
                "layer": "below",
            },
        )
    return Chart(title, words, traces, layout)


def _layout(x: str, y: str, more: Json) -> Json:
    layout: Json = {
        "margin": {"l": 60, "r": 15, "t": 10, "b": 45},
        "height": 300,
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#333"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "#fff",
        "hovermode": "x unified",
        "legend": {"orientation": "h", "x": 0, "y": 1.12},
        "xaxis": {"title": {"text": x}, "gridcolor": "#eee", "zeroline": False},
        "yaxis": {"title": {"text": y}, "gridcolor": "#eee", "zeroline": False},
        "shapes": [],
    }
    for name, value in more.items():
        old = layout.get(name)
        layout[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return layout


def _add_shape(layout: Json, shape: Json) -> None:
    shapes = layout["shapes"]
    assert isinstance(shapes, list)
    shapes.append(shape)


def _limit(value: float, axis: str) -> Json:
    """A dashed line across the plot at a limit of the objective."""
    across = "x" if axis == "y" else "y"
    return {
        "type": "line",
        f"{across}ref": "paper",
        f"{across}0": 0,
        f"{across}1": 1,
        f"{axis}0": value,
        f"{axis}1": value,
        "line": {"color": RED, "width": 1, "dash": "dash"},
    }


def _line(x: ArrayLike, y: ArrayLike, name: str, colour: str) -> Json:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": _rounded(x),
        "y": _rounded(y),
        "name": name,
        "line": {"color": colour, "width": 1.5},
    }


def _rounded(values: ArrayLike) -> list[float | None]:
    """Five digits; None, a gap in a line, for NaN."""
    return [None if np.isnan(value) else float(f"{value:.5g}") for value in np.asarray(values, np.float64).tolist()]
