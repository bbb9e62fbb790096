"""The decision log: what is written is read, within its bound, over deaths of its process and full disks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from decisions_toy import BOUGHT, Toy, log_in

from headrace.decisions.reader import DecisionLogError, read
from headrace.decisions.records import Began, Decided, Record, Reported, Terms, Watched
from headrace.decisions.writer import KEPT_FILES
from headrace.policy.observing import Memory
from headrace.policy.scaling import Knobs


def records(folder: Path) -> list[Record]:
    return [line.record for line in read(folder / "d.jsonl")]


def kinds(folder: Path) -> list[type]:
    return [type(record) for record in records(folder)]


def test_an_entity_is_introduced_with_its_memory_then_its_inputs_and_decisions_follow(tmp_path: Path) -> None:
    toy = Toy(log_in(tmp_path))
    toy.report(work=50.0)
    decision = toy.decide()
    assert kinds(tmp_path) == [Began, Watched, Reported, Terms, Decided]
    began, watched, report, terms, decided = records(tmp_path)
    assert isinstance(began, Began) and (began.why, began.at_ms, began.now) == ("start", 5000, 100.0)
    assert isinstance(watched, Watched) and watched.memory == Memory(since=100.0)
    assert isinstance(report, Reported) and (report.gateway, report.offered_work) == ("g1", 50.0)
    assert isinstance(terms, Terms) and (terms.endpoint, terms.name, terms.bought) == ("chat", "big", BOUGHT)
    assert isinstance(decided, Decided) and (decided.chunks, decided.reason) == (decision.chunks, decision.reason)


def test_terms_are_said_again_only_when_they_change(tmp_path: Path) -> None:
    toy = Toy(log_in(tmp_path))
    for headroom in (0.1, 0.1, 0.2, 0.2):
        toy.decide(Knobs(headroom=headroom))
    assert kinds(tmp_path) == [Began, Watched, Terms, Decided, Decided, Terms, Decided, Decided]


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    Toy(log_in(tmp_path)).decide()
    assert (tmp_path / "d.jsonl").stat().st_mode & 0o777 == 0o600


def test_it_is_rotated_and_each_file_begins_with_what_was_known(tmp_path: Path) -> None:
    toy = Toy(log_in(tmp_path, rotate_bytes=20_000))
    for _ in range(500):
        toy.report()
        toy.decide()
    files = sorted(tmp_path.iterdir())
    assert len(files) == KEPT_FILES
    assert all(file.stat().st_size < 60_000 for file in files)
    found = records(tmp_path)
    assert isinstance(found[0], Began) and found[0].why == "rotation"
    introduced = [record for record in found if isinstance(record, Watched)]
    assert len(introduced) == KEPT_FILES
    assert all(record.memory.demand is not None and record.state.target == 1 for record in introduced)


def test_another_life_goes_on_in_the_same_file_and_says_that_it_knows_nothing(tmp_path: Path) -> None:
    Toy(log_in(tmp_path)).decide()
    Toy(log_in(tmp_path)).decide()
    assert kinds(tmp_path) == [Began, Watched, Terms, Decided] * 2
    assert [record.why for record in records(tmp_path) if isinstance(record, Began)] == ["start", "start"]


def test_a_line_that_was_cut_off_with_its_process_is_left_out(tmp_path: Path) -> None:
    Toy(log_in(tmp_path)).decide()
    with (tmp_path / "d.jsonl").open("rb+") as file:
        file.truncate(os.path.getsize(tmp_path / "d.jsonl") - 7)
    assert kinds(tmp_path) == [Began, Watched, Terms]
    Toy(log_in(tmp_path)).decide()
    assert kinds(tmp_path) == [Began, Watched, Terms, Began, Watched, Terms, Decided]


def test_what_the_disk_refuses_ends_the_segment_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    log = log_in(folder)
    toy = Toy(log)
    toy.decide()
    assert log.failure is None
    log.close()
    (folder / "d.jsonl").rename(tmp_path / "d.jsonl")
    folder.rmdir()
    toy.decide()
    assert log.failure is not None and "No such file" in log.failure
    folder.mkdir()
    toy.decide()
    assert log.failure is None
    began, watched, *_ = records(folder)
    assert isinstance(began, Began) and began.why == "gap"
    assert isinstance(watched, Watched) and watched.state.target == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no file"),
        ("", "no segment begins"),
        ('{"a": 1}\n', "is no decision log"),
        ('{"record": "decision"}\n{"record": "nothing"}\n', "d.jsonl:1 is no record"),
        ('{"record":"began","format":9,"version":"1","at_ms":1,"now":1.0,"why":"start"}\n', "is of format 9"),
        ('{"record":"report","of":0,"now":1.0,"gateway":"g"}\n', "a part is missing"),
    ],
)
def test_what_is_no_decision_log_is_said_to_be_none(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "d.jsonl").write_text(text)
    with pytest.raises(DecisionLogError, match=said):
        records(tmp_path)
