"""``headrace load --resume``: an interrupted run is gone on with by the same words, and by no others."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cli_openai import OpenAi, complete

from headrace.bench.client.merge import Merge
from headrace.bench.client.records import Outcome
from headrace.bench.results import gates
from headrace.cli.load_runs import INVALID_STATUS
from headrace.cli.main import main

SMALL = ("--input-tokens", "16", "--output-tokens", "4", "--calibration", "0", "--slo", "ttft_p90=10s")
"""With so much room, a busy machine makes no run invalid."""
STEADY = ("--users", "2", "-n", "120", "--out", "run.json")

PROGRAM = "from headrace.cli.main import main; main()"

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs ``headrace load`` with these words: its exit status, and what it said on either output."""
    for name in ("HEADRACE_URL", "HEADRACE_API_KEY", "DATABRICKS_HOST", "DATABRICKS_TOKEN", "HEADRACE_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gates, "MAX_STOLEN", 1.0)  # of the machine that the tests run on

    def run(*words: str) -> tuple[int, str, str]:
        status = 0
        try:
            main(["load", *words])
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        assert "Traceback" not in said.err and "this is a bug" not in said.err
        return status, " ".join(said.out.split()), " ".join(said.err.split())

    return run


class Holding:
    """A server that answers so many requests, and no more until it is let go."""

    def __init__(self, count: int) -> None:
        self.count = self._left = count
        self._let_go = False
        self._never = asyncio.Event()

    async def __call__(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        if not self._left and not self._let_go:
            await self._never.wait()
        self._left -= not self._let_go
        await asyncio.sleep(0.01)  # at once, users would come back so fast that the client is the bottleneck
        await complete(body, writer)

    def let_go(self) -> None:
        self._let_go = True


def recorded(folder: Path) -> int:
    """Answers that are on record."""
    merge = Merge(sorted((folder / "run.json.unfinished").glob("*/*/records-*.bin")))
    merge.read()
    return int((merge.so_far().requests["outcome"] == Outcome.OK).sum())


def interrupted(
    server: OpenAi,
    held: Holding,
    folder: Path,
    number: signal.Signals,
    *words: str,
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[int, str]:
    """A load in a process group of its own, and what became of it when it got this signal: all that the server answers
    had been answered, and was on record. ``meanwhile`` comes just before the signal."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    with ExitStack() as closing:
        load = closing.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, "load", f"{server.url}/v1", *words],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        )
        closing.callback(load.kill)
        for _ in range(held.count):
            assert server.answered.acquire(timeout=60)
        latest = time.monotonic() + 60
        while recorded(folder) < held.count:  # files tell nobody
            assert time.monotonic() < latest
            time.sleep(0.02)
        meanwhile()
        (os.killpg if number == signal.SIGKILL else os.kill)(load.pid, number)
        _, err = load.communicate(timeout=60)
    held.let_go()
    return load.returncode, err


def summary(folder: Path, name: str = "run.json") -> Any:
    return json.loads((folder / name).read_text())["summary"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_was_interrupted_or_killed_is_gone_on_with(
    number: signal.Signals, command: Command, tmp_path: Path
) -> None:
    files = ("--csv", "run.csv", "--html", "run.html")
    with OpenAi(held := Holding(40)) as server:
        status, err = interrupted(server, held, tmp_path, number, *STEADY, *SMALL)
        sent = len(server.asked)
        resumed = command(f"{server.url}/v1", *STEADY, *files, *SMALL, "--resume")
        again = len(server.asked) - sent
    if number == signal.SIGINT:
        assert status == 130 and err.endswith("until then; the same words and --resume go on from there\n")
    else:
        assert status == -signal.SIGKILL
    assert resumed[0] == 0, resumed
    assert "note: the run goes on from " in resumed[2] and "are not sent again" in resumed[2]
    assert "resumed: interrupted and gone on with at " in resumed[1] and "VALID: " in resumed[1]
    assert 80 <= again <= 82, "what had been answered is not sent again"
    written = summary(tmp_path)
    assert written["whole"]["counts"]["ok"] == 120
    assert len(written["segments"]) == 2 and written["segments"][0]["told"] == (number == signal.SIGINT)
    with (tmp_path / "run.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["number"]) for row in rows) == list(range(120))
    assert {row["segment"] for row in rows} == {"1", "2"} and {row["outcome"] for row in rows} == {"ok"}
    assert "Resumed" in (tmp_path / "run.html").read_text()
    assert not (tmp_path / "run.json.unfinished").exists(), "a run that has ended is kept no longer"
    assert command("compare", "run.json", "run.json")[0] == 0


def test_an_open_loop_goes_on_at_its_own_times(command: Command, tmp_path: Path) -> None:
    words = ("--rate-requests", "40", "-n", "100", "--out", "run.json", *SMALL)
    with OpenAi(held := Holding(40)) as server:
        interrupted(server, held, tmp_path, signal.SIGKILL, *words)
        status, out, _ = command(f"{server.url}/v1", *words, "--resume")
    written = summary(tmp_path)
    assert status in (0, INVALID_STATUS)  # of so few requests, the steady window may hold too few
    assert written["whole"]["counts"]["ok"] == 100 and "resumed: " in out
    first, second = written["window"]["loads"]
    assert second["start_s"] >= first["end_s"]
    delivered = next(gate for gate in written["gates"] if gate["name"] == "delivered rate")
    assert delivered["passed"]


def test_a_sweep_goes_on_with_the_level_that_was_interrupted(command: Command, tmp_path: Path) -> None:
    words = ("--users", "1,2,3", "-n", "60", "--out", "run.json", *SMALL)
    with OpenAi(held := Holding(100)) as server:
        interrupted(server, held, tmp_path, signal.SIGKILL, *words)
        assert (tmp_path / "run-1.json").exists() and not (tmp_path / "run-2.json").exists()
        sent = len(server.asked)
        status, out, _ = command(f"{server.url}/v1", *words, "--resume", "--json")
        again = len(server.asked) - sent
    assert status == 0 and 60 < again <= 60 + 22
    levels = json.loads(out)["levels"]
    assert [level["whole"]["counts"]["ok"] for level in levels] == [60, 60, 60]
    assert [len(level["segments"]) for level in levels] == [0, 2, 0]
    assert not (tmp_path / "run.json.unfinished").exists()


DIFFERING = (
    (("--seed", "7"), "seed is 7, and was 0"),
    (("-n", "90"), "amount.requests is 90, and was 120"),
    (("--users", "3"), "arrivals.users is 3, and was 2"),
    (("--input-tokens", "17"), "source.input.low is 17, and was 16"),
    (("--users", "2,3"), "it has 2 levels, and had 1"),
    (("--processes", "2"), "processes is 2, and was 1"),
    (("--timeout", "5s"), "timeout is 5 s, and was 600 s"),
    (("--field", "top_p=0.5"), "content.extra.top_p is 0.5, and was not given"),
)


def test_a_run_of_something_else_is_not_gone_on_with_and_what_differs_is_named(
    command: Command, tmp_path: Path
) -> None:
    words = (*STEADY, *SMALL, "--processes", "1")
    with OpenAi(held := Holding(5)) as server:
        interrupted(server, held, tmp_path, signal.SIGKILL, *words)
        sent = len(server.asked)
        for other, said in DIFFERING:
            status, out, err = command(f"{server.url}/v1", *words, *other, "--resume")
            assert (status, out) == (1, "")
            assert f"cannot go on with run.json: {said}" in err and "leave --resume out to begin anew" in err
        assert len(server.asked) == sent
    assert (tmp_path / "run.json.unfinished").exists(), "it can still be gone on with"


def test_a_dataset_that_has_changed_is_another_one(command: Command, tmp_path: Path) -> None:
    lengths = tmp_path / "lengths.csv"
    lengths.write_text("input,output\n16,4\n")
    words = ("--users", "2", "-n", "120", "--dataset", "lengths.csv", *SMALL[4:], "--out", "run.json")
    with OpenAi(held := Holding(5)) as server:
        interrupted(server, held, tmp_path, signal.SIGKILL, *words)
        lengths.write_text("input,output\n16,5\n")
        status, _, err = command(f"{server.url}/v1", *words, "--resume")
    assert status == 1 and "content of lengths.csv is SHA-256 " in err


def test_there_must_be_something_to_go_on_with(command: Command, tmp_path: Path) -> None:
    with OpenAi() as server:
        nothing = command(f"{server.url}/v1", *STEADY, *SMALL, "--resume")
        nowhere = command(f"{server.url}/v1", "-n", "40", *SMALL, "--resume")
        (tmp_path / "chats.jsonl").write_text('{"messages": [{"role": "user", "content": "a"}]}\n')
        talk = ("--dataset", "chats.jsonl", "--sessions", "1s", "--rate-requests", "1", "--out", "run.json")
        sessions = command(f"{server.url}/v1", "-n", "40", *talk, "--resume")
        assert not server.asked
    assert nothing[0] == 1
    assert "there is no interrupted run to go on with: run.json.unfinished is not there" in nothing[2]
    assert nowhere[0] == 2 and "--resume goes with the --out of the run that was interrupted" in nowhere[2]
    assert sessions[0] == 2 and "--resume does not go with --sessions" in sessions[2]


def test_without_resume_a_run_begins_anew(command: Command, tmp_path: Path) -> None:
    with OpenAi(held := Holding(40)) as server:
        interrupted(server, held, tmp_path, signal.SIGKILL, *STEADY, *SMALL)
        sent = len(server.asked)
        status, out, err = command(f"{server.url}/v1", *STEADY, *SMALL)
        assert len(server.asked) - sent == 120
    assert "run.json.unfinished keeps of an interrupted run is replaced; --resume would go on with it" in err
    assert status == 0 and "resumed" not in out and not (tmp_path / "run.json.unfinished").exists()


@pytest.mark.parametrize("more", [(), ("--resume",)])
def test_a_run_that_is_under_way_is_left_alone(more: tuple[str, ...], command: Command, tmp_path: Path) -> None:
    others: list[tuple[int, str, str]] = []
    with OpenAi(held := Holding(40)) as server:
        words = (*STEADY, *SMALL)
        interrupted(
            server,
            held,
            tmp_path,
            signal.SIGINT,
            *words,
            meanwhile=lambda: others.append(command(f"{server.url}/v1", *words, *more)),
        )
        resumed = command(f"{server.url}/v1", *words, "--resume")
    assert others[0][0] == 1 and "another run is writing run.json now" in others[0][2]
    assert resumed[0] == 0 and summary(tmp_path)["whole"]["counts"]["ok"] == 120, "nothing of it was lost"


def test_a_folder_of_something_else_is_not_touched(command: Command, tmp_path: Path) -> None:
    own = tmp_path / "run.json.unfinished" / "mine.txt"
    own.parent.mkdir()
    own.write_text("mine")
    with OpenAi() as server:
        status, _, err = command(f"{server.url}/v1", *STEADY, *SMALL)
        assert not server.asked
    assert status == 1 and "run.json.unfinished is in the way" in err and own.read_text() == "mine"


def test_files_that_could_not_be_written_are_written_by_going_on(command: Command, tmp_path: Path) -> None:
    words = ("--users", "2", "-n", "40", "--out", "run.json", *SMALL)
    with OpenAi() as server:
        full = command(f"{server.url}/v1", *words, "--csv", "/dev/full")
        sent = len(server.asked)
        status, out, err = command(f"{server.url}/v1", *words, "--csv", "run.csv", "--resume")
        assert len(server.asked) == sent
    assert full[0] == 1 and "cannot write /dev/full" in full[2]
    assert status == 0 and "nothing more is sent" in err and "of 40" in out
    with (tmp_path / "run.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 40


def test_a_load_that_could_not_begin_leaves_nothing_behind(command: Command, tmp_path: Path) -> None:
    status, _, _ = command("http://127.0.0.1:9/v1", "--model", "m", "-n", "4", "--out", "run.json", *SMALL)
    assert status == 1 and not (tmp_path / "run.json.unfinished").exists()
