"""A run, or a sweep, as one self-contained page of HTML that needs no network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

import msgspec

from headrace.bench.client.records import Records
from headrace.bench.results import charts, curves, tables
from headrace.bench.results.charts import Chart
from headrace.bench.results.summary import Summary
from headrace.bench.results.tables import Table, number, seconds

STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 1180px; padding: 24px; color: #1f2430; background: #f7f8fa;
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 18px; margin: 36px 0 8px; }
.target { color: #5b6270; overflow-wrap: anywhere; margin: 2px 0 16px; }
.banner { border-radius: 8px; padding: 12px 16px; margin: 12px 0; border-left: 6px solid; background: #fff; }
.banner ul { margin: 6px 0 0; padding-left: 20px; }
.valid { border-color: #009e73; } .invalid { border-color: #d55e00; background: #fdf1ea; }
.note, .simulated { border-color: #e69f00; background: #fff8e8; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 10px; margin: 16px 0; }
.card { background: #fff; border: 1px solid #e3e6eb; border-radius: 8px; padding: 10px 14px; }
.card b { display: block; font-size: 20px; font-weight: 600; } .card span { color: #5b6270; font-size: 13px; }
.invalid-run .card b { color: #8a8f98; }
.scroll { overflow-x: auto; background: #fff; border: 1px solid #e3e6eb; border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 10px; border-bottom: 1px solid #eef0f3; vertical-align: top; }
tr:last-child td { border-bottom: 0; } th { color: #5b6270; font-weight: 600; background: #fbfbfc; }
td { overflow-wrap: break-word; }
td.short { white-space: nowrap; }
td .interval { color: #5b6270; display: block; font-size: 12px; white-space: nowrap; }
td.definition { color: #5b6270; font-size: 12.5px; min-width: 240px; } td.failed { color: #b34700; font-weight: 600; }
p.note-below { color: #5b6270; font-size: 13px; margin: 6px 2px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(500px, 1fr)); gap: 14px; }
.chart { background: #fff; border: 1px solid #e3e6eb; border-radius: 8px; padding: 12px; min-width: 0; }
.chart h3 { margin: 0; font-size: 15px; } .chart p { margin: 2px 0 4px; color: #5b6270; font-size: 13px; }
details { margin: 10px 0; } summary { cursor: pointer; color: #0072b2; }
@media (max-width: 640px) { .charts { grid-template-columns: 1fr; } body { padding: 12px; } }
"""

SHORT = 18
"""Letters of a cell that is not broken into lines: a figure and its unit."""

DRAW = """
for (const holder of document.querySelectorAll('[data-chart]')) {
  const chart = JSON.parse(document.getElementById(holder.dataset.chart).textContent);
  Plotly.newPlot(holder, chart.traces, chart.layout, {responsive: true, displayModeBar: false});
}
"""


def write_html(path: Path, summary: Summary, records: Records, *, levels: Sequence[Summary] = ()) -> None:
    """Replaces the file. ``levels``: all runs of a sweep, of which ``summary`` and ``records`` are the one shown in
    full."""
    from plotly.offline import get_plotlyjs  # noqa: PLC0415  4 MB of text, for the report alone

    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(_title(summary))}</title><style>{STYLE}</style></head>"
    )
    shown = [*charts.of_levels(levels), *charts.of_run(summary, curves.of_run(records, summary.window))]
    parts = [
        head,
        f'<body class="{"" if summary.valid else "invalid-run"}">',
        *_headline(summary),
        *_levels(levels),
        *_charts(shown),
        *_details(summary),
        *(_data(index, chart) for index, chart in enumerate(shown)),
        f"<script>{get_plotlyjs()}</script><script>{DRAW}</script></body></html>\n",
    ]
    path.write_text("\n".join(parts), encoding="utf-8")


def _title(summary: Summary) -> str:
    return f"Load on {summary.spec.model}: {tables.level(summary)}"


def _headline(summary: Summary) -> Iterator[str]:
    yield f"<h1>{escape(_title(summary))}</h1>"
    yield f'<p class="target">{escape(summary.target)}</p>'
    if summary.valid:
        yield '<div class="banner valid"><b>VALID</b>: no gate failed.</div>'
    else:
        yield (
            '<div class="banner invalid"><b>INVALID</b>: these figures do not show what the server can do.'
            f"{_list(summary.reasons)}</div>"
        )
    if summary.simulated:
        yield '<div class="banner simulated"><b>Simulated engine</b>: these are no model\'s figures.</div>'
    if summary.gone_on:
        yield f'<div class="banner note"><b>Resumed</b>: {escape(summary.gone_on)}.</div>'
    if summary.steady is None:
        yield f'<div class="banner note">{escape(_sentence(summary.window.words))}</div>'
    if summary.findings:
        words = _list(finding.words for finding in summary.findings)
        yield f'<div class="banner note"><b>What the run shows of the server</b>{words}</div>'
    yield '<div class="cards">'
    for value, name in _cards(summary):
        yield f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
    yield "</div>"
    span = "the steady window" if summary.steady else "the whole load"
    yield f'<p class="note-below">Of {span}; every definition stands in the tables below.</p>'


def _cards(summary: Summary) -> Iterator[tuple[str, str]]:
    figures = summary.headline
    rates = figures.tokens_per_s
    for a in figures.attainments:
        yield ("nothing judged" if a.share is None else f"{a.share:.2%}"), f"attained; wanted: {a.words}"
    yield number(figures.completed_per_s), "requests completed/s"
    yield number(rates.input_and_output), "input + output tokens/s"
    yield f"{number(rates.input)} + {number(rates.output)}", "input and output tokens/s"
    if rates.reference is not None:
        yield number(rates.reference), "reference tokens/s"
    for name, found in (
        ("TTFT from scheduled", figures.latencies.ttft_scheduled),
        ("TPOT", figures.latencies.tpot),
        ("E2E from scheduled", figures.latencies.e2e_scheduled),
    ):
        if found is not None:
            yield f"{seconds(found.at(0.5))} · {seconds(found.at(0.99))}", f"{name}, p50 · p99"


def _levels(levels: Sequence[Summary]) -> Iterator[str]:
    if levels:
        yield from _table(tables.levels(levels))


def _charts(shown: Sequence[Chart]) -> Iterator[str]:
    yield "<h2>Plots</h2>"
    yield '<p class="note-below">Shaded green: the steady window. Dashed red: limits of the objective.</p>'
    yield '<div class="charts">'
    for index, chart in enumerate(shown):
        yield (
            f'<div class="chart"><h3>{escape(chart.title)}</h3><p>{escape(chart.words)}</p>'
            f'<div data-chart="chart-{index}"></div></div>'
        )
    yield "</div>"


def _data(index: int, chart: Chart) -> str:
    # "<" would end the element, whatever the JSON around it says.
    data = msgspec.json.encode({"traces": chart.traces, "layout": chart.layout}).decode().replace("<", "\\u003c")
    return f'<script type="application/json" id="chart-{index}">{data}</script>'


def _details(summary: Summary) -> Iterator[str]:
    yield from _table(tables.throughput(summary))
    if summary.slo:
        yield from _table(tables.attainment(summary.headline))
    yield from _table(tables.latencies(summary.headline))
    if summary.headline.seconds < summary.whole.seconds:
        yield "<details><summary>Latency of the whole load, warm-up included</summary>"
        yield from _table(tables.latencies(summary.whole))
        yield "</details>"
    yield from _table(tables.outcomes(summary))
    yield from _table(tables.gates(summary))
    if summary.processes:
        yield from _table(tables.processes(summary))
    as_notebook = tables.notebook(summary)
    if as_notebook:
        yield from _table(as_notebook)
    yield from _table(tables.inputs(summary))


def _table(table: Table) -> Iterator[str]:
    yield f'<h2>{escape(table.title)}</h2><div class="scroll"><table>'
    if any(table.header):
        yield f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in table.header)}</tr>"
    for row in table.rows:
        cells = zip(table.header, row, strict=True)
        yield f"<tr>{''.join(_cell(name, cell) for name, cell in cells)}</tr>"
    yield "</table></div>"
    if table.note:
        yield f'<p class="note-below">{escape(_sentence(table.note))}</p>'


def _cell(header: str, cell: str) -> str:
    if header == "definition":
        return f'<td class="definition">{escape(cell)}</td>'
    if cell in ("FAILED", "INVALID", "missed"):
        return f'<td class="failed">{escape(cell)}</td>'
    value, bracket, interval = cell.partition(" [")
    if bracket and interval.endswith("]"):
        return f'<td>{escape(value)}<span class="interval">[{escape(interval)}</span></td>'
    return f'<td class="short">{escape(cell)}</td>' if len(cell) <= SHORT else f"<td>{escape(cell)}</td>"


def _list(items: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def _sentence(words: str) -> str:
    """``words`` begun in upper case and ended with a stop."""
    return words[:1].upper() + words[1:].rstrip(".") + "."
