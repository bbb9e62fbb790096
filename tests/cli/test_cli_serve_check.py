"""``headrace serve --check``: whether a server could start, before anything is fetched for it or started."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from headrace.cli.main import main
from headrace.fleet.listener import lock
from headrace.paths import DataDir


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but the command's own."""
    monkeypatch.chdir(tmp_path)


def check(data: DataDir, *words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--check", "--data-dir", str(data.root), *words])
    return int(ended.value.code or 0)


def test_what_is_free_can_be_started_on_and_stays_free(data_dir: DataDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(data_dir, "--port", "0") == 0
    assert capsys.readouterr().out == "A server can start on 127.0.0.1 port 0\n"
    assert check(data_dir, "--port", "0", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"can_start": True, "host": "127.0.0.1", "port": 0}
    os.close(lock(data_dir.lock))
    assert not data_dir.server_note.exists()


def test_a_port_that_is_taken_is_told_at_once(data_dir: DataDir, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert check(data_dir, "--port", str(port)) == 1
    said = capsys.readouterr().err
    assert f"cannot listen on 127.0.0.1 port {port}: it is in use; stop what listens there, or choose another" in said


def test_a_server_that_runs_on_the_data_directory_is_told(
    data_dir: DataDir, capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir.create()
    held = lock(data_dir.lock)
    try:
        assert check(data_dir, "--port", "0") == 1
    finally:
        os.close(held)
    assert f"a server already runs on this data directory (process {os.getpid()}" in capsys.readouterr().err
