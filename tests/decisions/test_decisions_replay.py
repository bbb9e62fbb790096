"""Recorded decisions are decided again to the same, and what differs is named with its place."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from decisions_toy import Toy, log_in

from headrace import __version__
from headrace.cli.main import main
from headrace.decisions.reader import DecisionLogError, read
from headrace.planner.replay import Replay, replay
from headrace.policy.scaling import LAW, Knobs


def live(folder: Path, *, seconds: int = 200, rotate_bytes: int = 1 << 20, seed: int = 1) -> int:
    """Decisions of an entity under random load; how many."""
    draw = random.Random(seed)
    toy = Toy(log_in(folder, rotate_bytes))
    work = 0.0
    for second in range(seconds):
        work += draw.expovariate(1 / 150) if second < seconds / 2 else 0.0
        toy.report(work)
        toy.decide(Knobs(headroom=0.1 if second < 100 else 0.3))
    return seconds


def again(folder: Path) -> Replay:
    return replay(read(folder / "d.jsonl"))


def change(folder: Path, which: Callable[[dict[str, Any]], bool], **to: Any) -> None:
    """Another value in the first record that ``which`` names."""
    lines = [json.loads(line) for line in (folder / "d.jsonl").read_text().splitlines()]
    next(line for line in lines if which(line)).update(to)
    (folder / "d.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("seed", range(3))
def test_every_decision_comes_out_the_same(tmp_path: Path, seed: int) -> None:
    made = live(tmp_path, seed=seed)
    came = again(tmp_path)
    assert came.difference is None
    assert (came.decisions, came.segments, len(came.entities)) == (made, 1, 1)
    assert came.changes >= 2
    assert came.seconds == pytest.approx(200, abs=2)


def test_what_is_left_of_a_rotated_log_replays_too(tmp_path: Path) -> None:
    made = live(tmp_path, rotate_bytes=12_000)
    came = again(tmp_path)
    assert came.difference is None
    assert 0 < came.decisions < made
    assert came.segments > 1


def test_two_lives_replay_each_from_nothing(tmp_path: Path) -> None:
    made = live(tmp_path, seed=1) + live(tmp_path, seed=2)
    came = again(tmp_path)
    assert came.difference is None
    assert (came.decisions, came.segments) == (made, 2)


def scaled(line: dict[str, Any]) -> bool:
    return line["record"] == "decision" and line["reason"].startswith("1 -> ")


def test_another_decision_is_a_difference_at_its_place(tmp_path: Path) -> None:
    live(tmp_path)
    change(tmp_path, scaled, chunks=9)
    difference = again(tmp_path).difference
    assert difference is not None
    assert difference.chunks[0] == 9 != difference.chunks[1]
    assert difference.entity == "chat/big"
    file, _, number = difference.place.rpartition(":")
    assert '"chunks": 9' in Path(file).read_text().splitlines()[int(number) - 1]


@pytest.mark.parametrize(
    ("which", "to"),
    [
        (lambda line: line["record"] == "report" and line.get("offered_work", 0) > 100, {"offered_work": 1e5}),
        (lambda line: line["record"] == "decision", {"metrics_age_s": 0.4}),
        (lambda line: line["record"] == "terms" and line["knobs"]["headroom"] == 0.3, {"knobs": {"headroom": 0.31}}),
        (lambda line: line["record"] == "watched", {"memory": {"since": 99.0}}),
    ],
)
def test_another_input_is_a_difference_even_where_the_words_are_the_same(
    tmp_path: Path, which: Callable[[dict[str, Any]], bool], to: dict[str, Any]
) -> None:
    live(tmp_path)
    change(tmp_path, which, **to)
    assert again(tmp_path).difference is not None


@pytest.mark.parametrize(("version", "differs"), [(__version__, True), ("0.0.1", False)])
def test_of_another_version_number_and_words_must_agree_but_not_every_input(
    tmp_path: Path, version: str, differs: bool
) -> None:
    live(tmp_path)
    change(tmp_path, lambda line: line["record"] == "began", version=version)
    change(tmp_path, lambda line: line["record"] == "decision", digest="00000000")
    assert (again(tmp_path).difference is not None) is differs
    change(tmp_path, scaled, reason="as I like it")
    assert again(tmp_path).difference is not None


def of_another_law(line: dict[str, Any]) -> bool:
    """The record that says by which law what follows was decided, as it was before laws had numbers."""
    if line["record"] != "began":
        return False
    assert line.pop("law") == LAW
    return True


def test_of_another_law_the_number_of_chunks_must_agree_but_not_the_words(tmp_path: Path) -> None:
    live(tmp_path)
    change(tmp_path, of_another_law)
    change(tmp_path, scaled, reason="as I like it")
    came = again(tmp_path)
    assert (came.difference, came.laws) == (None, {1})
    change(tmp_path, lambda line: line.get("reason") == "as I like it", chunks=9)
    assert again(tmp_path).difference is not None


def test_a_record_of_what_was_not_introduced_is_an_error(tmp_path: Path) -> None:
    live(tmp_path, seconds=3)
    change(tmp_path, lambda line: line["record"] == "report", of=7)
    with pytest.raises(DecisionLogError, match=r"d\.jsonl:3: what number 7 is"):
        again(tmp_path)


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


def test_the_command_says_that_all_are_identical(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    live(tmp_path)
    assert run("decisions", "replay", str(tmp_path / "d.jsonl")) == 0
    assert "200 decisions on 1 served entity of 1 endpoint over 199 s, all identical" in capsys.readouterr().out
    assert run("decisions", "replay", str(tmp_path / "d.jsonl"), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["decisions"], told["identical"], told["difference"]) == (200, True, None)


def test_the_command_fails_at_the_first_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    live(tmp_path)
    change(tmp_path, scaled, chunks=9, reason="as I like it")
    assert run("decisions", "replay", str(tmp_path / "d.jsonl")) == 1
    said = capsys.readouterr().err
    assert "another decision on chat/big after" in said
    assert "recorded 'as I like it', decided again '1 -> " in said


def test_the_command_tells_what_another_law_decided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    live(tmp_path)
    change(tmp_path, of_another_law)
    by = f"recorded by law 1, and this is law {LAW}"
    assert run("decisions", "replay", str(tmp_path / "d.jsonl")) == 0
    assert f"all with the same number of chunks; {by}" in capsys.readouterr().out
    assert run("decisions", "replay", str(tmp_path / "d.jsonl"), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["laws"], told["law"]) == ([1], LAW)
    change(tmp_path, scaled, chunks=9)
    assert run("decisions", "replay", str(tmp_path / "d.jsonl")) == 1
    assert by in capsys.readouterr().err


def test_the_command_fails_on_what_is_no_decision_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("decisions", "replay", str(tmp_path / "none")) == 1
    assert "there is no file" in capsys.readouterr().err
