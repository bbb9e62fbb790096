"""The sign of life of a long command."""

from __future__ import annotations

import sys

import pytest

from headrace.cli.live_line import LOGGED_EVERY_S, Logged, live_line


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_in_a_file_a_line_is_written_now_and_then() -> None:
    clock, lines = Clock(), list[str]()
    logged = Logged(lines.append, clock)
    for _ in range(int(4 * LOGGED_EVERY_S)):
        clock.now_s += 1
        logged.show(f"{clock.now_s:g} s", 0.5)
    assert [line.split()[1] for line in lines] == [f"{100 + times * LOGGED_EVERY_S:g}" for times in (1, 2, 3, 4)]
    assert lines[0].startswith(" 50% ")


def test_a_short_command_writes_none(capsys: pytest.CaptureFixture[str]) -> None:
    with live_line(quiet=False) as show:
        show("nearly there", 0.9)
    assert capsys.readouterr().err == ""


def test_a_quiet_command_writes_none_however_long_it_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.cli.live_line.LOGGED_EVERY_S", 0.0)
    with live_line(quiet=True) as show:
        show("long", 0.1)
    assert capsys.readouterr().err == ""
    with live_line(quiet=False) as show:
        show("long", 0.1)
    assert capsys.readouterr().err == " 10% long\n"


def test_where_somebody_looks_the_line_is_drawn_and_taken_away(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with live_line(quiet=False) as show:
        show("[bold] is no markup", 0.5)
    assert "[bold] is no markup" in capsys.readouterr().err
