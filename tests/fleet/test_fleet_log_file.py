"""The log of a child."""

from __future__ import annotations

import os
from pathlib import Path

from headrace.fleet.log_file import TAIL_LINES, LogFile, Tail


def test_a_full_file_is_rotated_and_three_are_kept(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", rotate_bytes=10)
    for number in range(9):
        log.write(f"line {number}\n".encode())  # 7 bytes: one fits
    log.close()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
        "x.log": "line 8\n",
        "x.log.1": "line 7\n",
        "x.log.2": "line 6\n",
    }


def test_a_log_is_its_owners_alone(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log")
    log.write(b"x")
    log.close()
    assert (tmp_path / "x.log").stat().st_mode & 0o777 == 0o600


def test_a_log_of_an_earlier_life_is_continued(tmp_path: Path) -> None:
    for text in (b"first\n", b"second\n"):
        log = LogFile(tmp_path / "x.log")
        log.write(text)
        log.close()
    assert (tmp_path / "x.log").read_bytes() == b"first\nsecond\n"


def test_a_disk_that_refuses_costs_lines_and_nothing_else() -> None:
    log = LogFile(Path(os.devnull) / "x.log")
    log.write(b"12345")
    log.write(b"123")
    assert log.lost_bytes == 8


def test_the_tail_is_the_last_lines_however_they_arrive() -> None:
    tail = Tail()
    text = "".join(f"line {number}\n" for number in range(100)) + "unfinished"
    for at in range(0, len(text), 7):
        tail.write(text[at : at + 7].encode())
    lines = tail.text().splitlines()
    assert lines[-1] == "unfinished"
    assert lines[:-1] == [f"line {number}" for number in range(100 - TAIL_LINES, 100)]


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    tail = Tail()
    for _ in range(100):
        tail.write(b"x" * 10_000)
    assert len(tail.text()) <= 500
