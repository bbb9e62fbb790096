"""The benchmark of load clients runs, tells what it measured, and leaves nothing behind. The figures are not judged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

RUN = Path(__file__).parents[2] / "benchmarks" / "load" / "run.py"
ENVIRONMENT = {**os.environ, "QUICK": "1"}
WITHIN_S = 90


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(RUN), *arguments]


def test_a_small_part_of_it_gives_figures_of_each_row_and_a_table(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    done = subprocess.run(
        command("--rows", "bare,timer,headrace", "--cases", "requests,common", "--rounds", "1", "--results", str(file)),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert file.exists(), done.stderr
    results = json.loads(file.read_text())
    assert results["failed"] == {}
    (measured,) = results["rounds"]
    assert set(measured["requests"]) == {"bare", "headrace"}  # the timer loop keeps a rate and does nothing else
    assert set(measured["common"]) == {"bare", "timer", "headrace"}
    for figures in (figures for rows in measured.values() for figures in rows.values()):
        assert figures["told"] > 0 and figures["wrong_tokens"] == 0
    assert all(figures["request_us"] > 0 for figures in measured["requests"].values())
    assert measured["common"]["headrace"]["added_ttft_p50_us"] > 0
    assert any(line.startswith("| headrace") for line in done.stdout.splitlines())


def test_a_row_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    done = subprocess.run(command("--rows", "locusts"), capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 2
    assert "there is no row 'locusts'" in done.stderr and "guidellm" in done.stderr


def test_ended_in_the_middle_it_leaves_no_process(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("--rows", "bare", "--cases", "requests", "--rounds", "1000", "--results", str(tmp_path / "r")),
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert "round 1/1000" in process.stderr.readline()
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 130
    finally:
        process.kill()
        process.wait()
    assert children  # the server, and mostly a client
    assert psutil.wait_procs(children, WITHIN_S)[1] == []
    assert not (tmp_path / "r").exists()
