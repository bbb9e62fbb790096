"""Figures of a run that was interrupted and gone on with: those of its segments, each after a warm-up of its own, with
nothing of the time between them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from made_run import HEALTHY, changed, poisson, run, spec
from numpy.typing import NDArray

from headrace.bench import slo
from headrace.bench.client.joined import Part, join
from headrace.bench.client.records import Records
from headrace.bench.results import figures, records_file, window
from headrace.bench.results.compare import compare
from headrace.bench.results.report import write_html
from headrace.bench.results.span import Span
from headrace.bench.results.summary import Summary, summarize
from headrace.bench.results.write import read_json, write_csv, write_json
from headrace.policy.work import RAW_TOKENS

RATE, FIRST_S, SECOND_S = 20.0, 120.0, 80.0
LOAD = spec(duration_s=FIRST_S + SECOND_S)
OBJECTIVE = slo.parse("ttft_p90=1s")


def warm(due_s: NDArray[np.float64], seconds: float, seed: int = 1) -> Records:
    """A server that is slow for its first tenth, as an empty cache or a cold engine is."""
    noise = np.random.default_rng(seed).uniform(0.9, 1.1, len(due_s))
    return run(due_s, ttft_s=np.where(due_s < seconds / 10, 3.0, 0.5) * noise, tpot_s=0.01 * noise)


def parts(second: Records | None = None) -> list[Part]:
    first = warm(poisson(RATE, FIRST_S), FIRST_S)
    if second is None:
        second = warm(poisson(RATE, SECOND_S, seed=2), SECOND_S, seed=2)
    numbered = changed(second, number=len(first.requests) + np.arange(len(second.requests)))
    return [Part(first, 1_700_000_000.0, 0.0), Part(numbered, 1_700_009_000.0, FIRST_S)]


def summary(records: Records) -> Summary:
    return summarize(records, spec=LOAD, slo=OBJECTIVE, weights=RAW_TOKENS, target="http://h/v1")


def test_each_segment_has_a_warm_up_and_the_time_between_is_not_looked_at() -> None:
    joined = join(parts())
    found = window.steady(joined, LOAD)
    first, second = found.loads
    assert (first.start_s, first.end_s) == (0.0, FIRST_S)
    assert second.start_s > FIRST_S and second.seconds == pytest.approx(SECOND_S, abs=0.2)
    one, two = found.steady_spans
    for steady, load in ((one, first), (two, second)):
        assert load.start_s + load.seconds / 10 < steady.start_s < load.start_s + load.seconds / 2
        assert steady.end_s == load.end_s
    assert "segment 1 (0.0 to 120.0 s): MSER-5" in found.words and "segment 2" in found.words


def test_figures_are_those_of_both_steady_windows_together() -> None:
    made = parts()
    joined = join(made)
    told = summary(joined)
    assert told.steady is not None
    one, two = told.window.steady_spans
    offset = joined.segments[1].start_s
    alone = [
        figures.of_spans(made[0].records, [one], OBJECTIVE, RAW_TOKENS),
        figures.of_spans(
            made[1].records, [Span(two.start_s - offset, two.end_s - offset)], OBJECTIVE, RAW_TOKENS
        ),
    ]  # fmt: skip
    seconds = one.seconds + two.seconds
    assert told.steady.seconds == pytest.approx(seconds)
    assert told.steady.counts.requests == sum(each.counts.requests for each in alone)
    for rate in ("input", "output", "reference"):
        together = sum(getattr(each.tokens_per_s, rate) * each.seconds for each in alone) / seconds
        assert getattr(told.steady.tokens_per_s, rate) == pytest.approx(together)
    assert told.steady.in_flight == pytest.approx(sum(each.in_flight * each.seconds for each in alone) / seconds)
    assert told.steady.attainments[0].judged == sum(each.attainments[0].judged for each in alone)
    assert told.steady.latencies.ttft_scheduled is not None
    assert told.steady.latencies.ttft_scheduled.maximum < 1.0, "the slow beginning of the second is not in it"
    assert told.whole.seconds == pytest.approx(FIRST_S + SECOND_S, abs=0.2)
    assert told.whole.counts.requests == len(joined.requests)
    gates = {gate.name: gate.passed for gate in told.gates}
    assert gates["Little's law"] and gates["delivered rate"] and gates["gaps between requests"], told.reasons


def test_one_segment_that_does_not_settle_makes_the_run_unsteady() -> None:
    due_s = np.arange(0.0, SECOND_S, 1 / RATE)
    found = window.steady(join(parts(run(due_s, ttft_s=0.5 + due_s / 2))), LOAD)
    assert found.start_s is None and found.steady_spans == ()
    assert "no steady state" in found.words.partition("segment 2")[2]


def test_a_segment_that_is_too_short_to_judge_is_left_out_of_the_steady_window_alone() -> None:
    made = parts(run(np.arange(10) / RATE))
    told = summary(join(made))
    assert told.steady is not None and told.steady.parts == ()
    assert told.steady.end_s == FIRST_S
    assert told.whole.counts.requests == len(made[0].records.requests) + 10


def test_what_a_killed_client_did_not_tell_is_said() -> None:
    made = parts()
    made[0] = replace(made[0], told=False, records=replace(made[0].records, processes=()))
    seen = {gate.name: gate.words for gate in summary(join(made)).gates}
    for name in ("client CPU", "event-loop lag p99", "stolen CPU"):
        assert "not known of segment 1, whose client was killed" in seen[name]


def test_the_summary_says_when_the_run_was_gone_on_with_and_from_where() -> None:
    told = summary(join(parts()))
    assert told.gone_on.startswith("interrupted and gone on with at 2023-11-15 00:43:20 UTC from 120.0 s of its load.")
    assert summary(warm(poisson(RATE, FIRST_S), FIRST_S)).gone_on == ""


def test_files_of_a_resumed_run_hold_its_segments(tmp_path: Path) -> None:
    joined = join(parts())
    told = summary(joined)
    write_json(tmp_path / "run.json", told)
    records_file.save(tmp_path / "run.npz", joined)
    write_csv(tmp_path / "run.csv", joined)
    write_html(tmp_path / "run.html", told, joined)
    assert read_json(tmp_path / "run.json") == told
    assert records_file.load(tmp_path / "run.npz").segments == joined.segments
    with (tmp_path / "run.csv").open(newline="") as file:
        of = [row["segment"] for row in csv.DictReader(file)]
    first = len(parts()[0].records.requests)
    assert of == ["1"] * first + ["2"] * (len(joined.requests) - first)
    page = (tmp_path / "run.html").read_text()
    assert "<b>Resumed</b>: interrupted and gone on with at 2023-11-15" in page
    assert page.count('"fillcolor":"#009e73"') % 2 == 0, "each segment's steady window is shaded"


def test_a_resumed_run_compares_with_one_that_was_not_by_the_same_requests() -> None:
    made = parts()
    joined = join(made)
    first, second = (part.records.requests["scheduled_s"] for part in made)
    due_s = np.concatenate([first, FIRST_S + second])
    straight = warm(due_s, FIRST_S)
    found = compare((summary(joined), joined), (summary(straight), straight))
    assert found.paired and [each.name for each in found.differs] == ["resumed"]
    assert found.differs[0].a == "from 120.0 s on"
    rates = {each.name: each for each in found.differences if each.unit == "tokens/s"}
    for name in ("input tokens/s", "output tokens/s"):
        assert rates[name].a == pytest.approx(rates[name].b, rel=0.05)
    assert found.verdict == "no difference seen"


def test_the_processes_of_all_segments_are_held_to_the_limits() -> None:
    made = parts()
    busy = replace(made[0].records, processes=(msgspec.structs.replace(HEALTHY, cpu_s=95.0),))
    told = summary(join([replace(made[0], records=busy), made[1]]))
    assert any(reason.startswith("client CPU: the busiest of 2 client processes used 95%") for reason in told.reasons)
