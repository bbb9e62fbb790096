"""What is written of a run can be read back, by this program and by others."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_run import failing, poisson, run, spec, unstreamed

from headrace.bench import slo
from headrace.bench.client.records import Outcome, Records
from headrace.bench.errors import BenchError
from headrace.bench.results import records_file
from headrace.bench.results.summary import Summary, summarize
from headrace.bench.results.write import COLUMNS, read_json, write_csv, write_json
from headrace.policy.work import RAW_TOKENS


@pytest.fixture
def records() -> Records:
    due = poisson(10.0, 30.0)
    made = failing(run(due, lag_s=0.001), [3], Outcome.FAILED, status=500, error='500: "out, of" memory')
    return replace(made, stolen_share=0.01)


@pytest.fixture
def summary(records: Records) -> Summary:
    objective = slo.parse("ttft_p99=1s")
    return summarize(records, spec=spec(duration_s=30.0), slo=objective, weights=RAW_TOKENS, target="http://h/v1")


def test_a_summary_is_read_back_as_it_was(tmp_path: Path, summary: Summary) -> None:
    write_json(tmp_path / "run.json", summary)
    assert read_json(tmp_path / "run.json") == summary


def test_json_says_first_whether_the_run_is_valid_and_defines_its_figures(tmp_path: Path, summary: Summary) -> None:
    write_json(tmp_path / "run.json", summary)
    written = json.loads((tmp_path / "run.json").read_text())
    assert list(written)[:3] == ["format", "valid", "reasons"]
    assert written["valid"] is summary.valid
    assert "first token" in written["summary"]["definitions"]["ttft_scheduled"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"{}", "is no summary of a load run"), (b"\xff", "is no summary of a load run"), (None, "cannot read")],
)
def test_what_is_no_summary_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "run.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BenchError, match=said):
        read_json(path)


def test_a_summary_of_another_format_is_refused(tmp_path: Path, summary: Summary) -> None:
    path = tmp_path / "run.json"
    write_json(path, summary)
    path.write_text(path.read_text().replace('"format": 1', '"format": 2', 1))
    with pytest.raises(BenchError, match="has format 2; this version reads 1"):
        read_json(path)


def test_every_request_is_a_row_with_times_in_seconds(tmp_path: Path, records: Records) -> None:
    write_csv(tmp_path / "run.csv", records)
    with (tmp_path / "run.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == len(records.requests)
    first = rows[0]
    assert float(first["ttft_scheduled_s"]) == pytest.approx(0.101, abs=1e-6)
    assert float(first["ttft_sent_s"]) == pytest.approx(0.1, abs=1e-6)
    assert float(first["tpot_s"]) == pytest.approx(0.01, abs=1e-6)
    assert float(first["e2e_scheduled_s"]) == pytest.approx(0.201, abs=1e-6)
    assert (first["outcome"], first["status"], first["usage_told"], first["tokens_from"]) == (
        "ok",
        "200",
        "1",
        "agreed",
    )
    assert (first["input_tokens"], first["output_tokens"], first["token_events"]) == ("100", "11", "11")
    failed = rows[3]
    assert (failed["outcome"], failed["first_token_s"], failed["tpot_s"]) == ("failed", "", "")
    assert failed["error"] == '500: "out, of" memory'


def test_the_csv_of_answers_that_were_no_streams_leaves_their_first_token_out(tmp_path: Path) -> None:
    write_csv(tmp_path / "run.csv", unstreamed([0.0], e2e_s=1.0))
    with (tmp_path / "run.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["first_token_s"], row["ttft_sent_s"], row["tpot_s"], row["e2e_sent_s"]) == ("", "", "", "1.000000")


def test_records_are_kept_to_the_bit(tmp_path: Path, records: Records) -> None:
    records_file.save(tmp_path / "run.npz", records)
    kept = records_file.load(tmp_path / "run.npz")
    assert kept.requests.tobytes() == records.requests.tobytes() and kept.requests.dtype == records.requests.dtype
    assert np.array_equal(kept.event_s, records.event_s) and np.array_equal(kept.event_tokens, records.event_tokens)
    assert (kept.errors, kept.processes, kept.planned_s, kept.stolen_share) == (
        records.errors,
        records.processes,
        records.planned_s,
        records.stolen_share,
    )


def test_what_holds_no_records_is_refused(tmp_path: Path, records: Records) -> None:
    with pytest.raises(BenchError, match="cannot read"):
        records_file.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(BenchError, match="holds no records"):
        records_file.load(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", requests=np.zeros(3))
    with pytest.raises(BenchError, match="holds no records"):
        records_file.load(tmp_path / "other.npz")


def test_records_of_another_version_are_refused(tmp_path: Path, records: Records) -> None:
    fewer = replace(records, requests=records.requests[["number", "outcome"]])
    records_file.save(tmp_path / "old.npz", fewer)
    with pytest.raises(BenchError, match="another version"):
        records_file.load(tmp_path / "old.npz")
