"""The gateway's benchmark runs, tells what it measured, and leaves nothing behind. What it measured is not judged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

RUN = Path(__file__).parents[2] / "benchmarks" / "gateway" / "run.py"
ENVIRONMENT = {**os.environ, "QUICK": "1"}
WITHIN_S = 60


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(RUN), *arguments]


def test_a_small_part_of_it_gives_figures_of_each_row_and_a_table(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    done = subprocess.run(
        command("--rows", "relay,headrace", "--measure", "request", "--rounds", "1", "--results", str(file)),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(file.read_text())
    assert (results["failed"], results["wrong"], results["goals"]) == ({}, {}, [])
    (rounds,) = results["rounds"]
    assert set(rounds) == {"relay", "headrace"}
    for figures in rounds.values():
        assert len(figures) == 1 and set(figures[0]) == {"request_us", "request_16kb_us"}
        assert all(microseconds > 0 for microseconds in figures[0].values())
    table = [line for line in done.stdout.splitlines() if line.startswith("| headrace")]
    assert len(table) == 1 and table[0].count("|") == 4  # two figures


def test_a_row_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    done = subprocess.run(command("--rows", "relais"), capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 2
    assert "there is no row 'relais'" in done.stderr and "vllm-router" in done.stderr


def test_ended_in_the_middle_it_leaves_no_process(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(
            "--rows", "relay,headrace", "--measure", "request", "--rounds", "1000", "--results", str(tmp_path / "r")
        ),
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
    assert len(children) == 3  # the upstream and two rows
    assert psutil.wait_procs(children, WITHIN_S)[1] == []
    assert not (tmp_path / "r").exists()
