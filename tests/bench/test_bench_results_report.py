"""The page of a run: whole, offline, small beside its library, and safe whatever a server says."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
from made_run import HEALTHY, failing, poisson, run, spec

from headrace.bench import slo
from headrace.bench.client.records import Outcome, Records
from headrace.bench.results import charts, curves, tables
from headrace.bench.results.report import write_html
from headrace.bench.results.summary import Summary, summarize
from headrace.bench.workload.spec import Amount, ClosedLoop, Content, Dataset, LoadSpec, Poisson, Synthetic

HOSTILE = "</script><img src=x onerror=alert(1)><b>&"
OBJECTIVE = slo.parse("ttft_p99=1s,tpot_p99=100ms")


def made(records: Records, **more: object) -> tuple[Summary, Records]:
    given = spec(Poisson(20.0), duration_s=100.0)
    return summarize(records, spec=given, slo=OBJECTIVE, target="m at http://h/v1", **more), records  # type: ignore[arg-type]


def page(path: Path, summary: Summary, records: Records, *, levels: tuple[Summary, ...] = ()) -> str:
    write_html(path / "run.html", summary, records, levels=levels)
    return (path / "run.html").read_text()


def without_library(text: str) -> str:
    """The page without Plotly's own text."""
    return re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)


class Outline(HTMLParser):
    """Every element, and every address that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]


DUE = poisson(20.0, 100.0)


def test_a_page_needs_no_network_and_holds_the_library_once(tmp_path: Path) -> None:
    text = page(tmp_path, *made(run(DUE)))
    outline = Outline()
    outline.feed(text)
    assert outline.fetched == []
    assert outline.tags.count("html") == 1
    assert text.count("plotly.js v") == 1
    assert len(without_library(text)) < 300_000


def test_a_valid_run_says_so_and_an_invalid_one_says_why(tmp_path: Path) -> None:
    assert "<b>VALID</b>" in page(tmp_path, *made(run(DUE)))
    busy = msgspec.structs.replace(HEALTHY, cpu_s=90.0)
    text = page(tmp_path, *made(run(DUE, processes=[busy])))
    assert "<b>INVALID</b>" in text and "used 90% of a core" in text


def test_what_a_server_says_cannot_run(tmp_path: Path) -> None:
    records = failing(run(DUE), [5], Outcome.FAILED, error=HOSTILE)
    summary, _ = made(records)
    summary = msgspec.structs.replace(summary, target=HOSTILE)
    outline = Outline()
    text = page(tmp_path, summary, records)
    outline.feed(text)
    assert "img" not in outline.tags
    assert "&lt;/script&gt;&lt;img" in text


def test_a_simulated_engine_is_labelled(tmp_path: Path) -> None:
    assert "no model's figures" in page(tmp_path, *made(run(DUE), simulated=True))
    assert "no model's figures" not in page(tmp_path, *made(run(DUE)))


def test_every_figure_has_its_definition_beside_it(tmp_path: Path) -> None:
    summary, records = made(run(DUE))
    text = without_library(page(tmp_path, summary, records))
    for name in ("ttft_scheduled", "tpot", "itl_token", "tokens_input", "completed_per_s"):
        assert summary.definitions[name].split(",")[0].replace("'", "&#x27;") in text


def test_plots_are_json_with_the_steady_window_and_the_limits(tmp_path: Path) -> None:
    summary, records = made(run(DUE))
    text = page(tmp_path, summary, records)
    plots = [json.loads(found) for found in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text)]
    assert len(plots) == text.count("data-chart=") == 9
    in_flight, ttft = plots[0], plots[2]
    assert summary.steady is not None
    assert in_flight["layout"]["shapes"][0]["x0"] == pytest.approx(summary.steady.start_s, abs=1e-3)
    assert [shape["y0"] for shape in ttft["layout"]["shapes"] if shape["type"] == "line"] == [1.0]
    assert all(len(trace["x"]) <= 1000 for plot in plots for trace in plot["traces"])


def test_a_sweep_shows_latency_against_throughput_with_a_point_for_each_level(tmp_path: Path) -> None:
    runs = [made(run(poisson(rate, 100.0), ttft_s=0.01 * rate)) for rate in (5.0, 10.0, 20.0)]
    text = page(tmp_path, *runs[-1], levels=tuple(summary for summary, _ in runs))
    assert "TTFT against throughput" in text and "<h2>Levels</h2>" in text
    first = charts.of_levels([summary for summary, _ in runs])[0]
    assert [trace["name"] for trace in first.traces] == ["p50", "p99"]
    assert first.traces[0]["y"] == pytest.approx([0.05, 0.1, 0.2])


@pytest.mark.parametrize("records", [run(np.empty(0)), failing(run(DUE), np.arange(len(DUE)), Outcome.TIMED_OUT)])
def test_a_run_without_answers_still_makes_a_page(tmp_path: Path, records: Records) -> None:
    assert "<b>INVALID</b>" in page(tmp_path, *made(records))


def test_curves_are_the_run_over_time() -> None:
    due = np.arange(0.003, 100.0, 0.05)
    summary, records = made(run(due, ttft_s=np.where(due < 50.0, 0.1, 0.4)))
    found = curves.of_run(records, summary.window)
    settled = (found.at_s > 5.0) & (found.at_s < 45.0)
    assert found.in_flight[settled].mean() == pytest.approx(4.0, rel=0.02)
    assert found.output_rate[settled].mean() == pytest.approx(220.0, rel=0.02)
    p50 = found.latencies["ttft"][0]
    assert p50[0] == pytest.approx(0.1) and p50[-1] == pytest.approx(0.4)
    assert sum(found.outcomes[Outcome.OK]) == 2000
    assert found.ttft is not None and found.ttft.shares.sum() == pytest.approx(1.0)


def test_percentiles_of_an_interval_are_those_of_its_requests() -> None:
    due = np.arange(0.0, 100.0, 0.5)
    records = run(due, ttft_s=(np.arange(200) % 40 + 1) / 100)
    found = curves.of_run(records, made(records)[0].window)
    assert len(found.coarse_at_s) == 10  # of twenty requests each
    assert found.latencies["ttft"][:, 1] == pytest.approx([0.30, 0.38, 0.40])


def test_the_notebooks_figure_stands_beside_the_one_over_time(tmp_path: Path) -> None:
    records = run(np.repeat(np.arange(0.0, 100.0), 4), ttft_s=0.5, tpot_s=0.05, planned=False)
    summary = summarize(records, spec=spec(ClosedLoop(users=4), requests=400))
    table = tables.notebook(summary)
    assert table is not None and table.rows[0][0] == "4" and "444" in table.rows[0]
    assert "notebook" in page(tmp_path, summary, records)


@pytest.mark.parametrize(
    ("source", "content", "idle"),
    [
        (Synthetic(), Content(), set()),
        (Synthetic(), Content(prompt="text"), {"content.vocabulary"}),
        (Synthetic(), Content(api="chat"), {"content.prompt", "content.vocabulary"}),
        (Dataset(path="a", format="lengths"), Content(), set()),
        (
            Dataset(path="a", format="chat"),
            Content(reuse=True),
            {"content.api", "content.prompt", "content.vocabulary", "content.salt"},
        ),
        (Dataset(path="a", format="prompts"), Content(), {"content.prompt", "content.vocabulary"}),
    ],
)
def test_inputs_show_only_what_has_a_part_in_the_load(
    source: Synthetic | Dataset, content: Content, idle: set[str]
) -> None:
    given = LoadSpec(model="m", source=source, content=content, arrivals=Poisson(20.0), amount=Amount(duration_s=100.0))
    summary = summarize(run(DUE), spec=given)
    shown = {row[0] for row in tables.inputs(summary).rows}
    settings = {"content.api", "content.prompt", "content.vocabulary", "content.salt"}
    assert settings - shown == idle
    assert {"arrivals.rate", "seed", "client"} <= shown


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0 ms"), (12e-6, "12 us"), (0.00123, "1.23 ms"), (0.9996, "1 s"), (1.5, "1.5 s"), (1234.5, "1,234 s")],
)
def test_seconds_are_told_in_three_digits(value: float, words: str) -> None:
    assert tables.seconds(value) == words
