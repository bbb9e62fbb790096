"""What ``headrace serve`` says once it serves."""

from __future__ import annotations

import time
from typing import Any

import pytest
from cli_api import ToyApi

from headrace.cli import serve_view
from headrace.cli.serve_view import Announcer
from headrace.paths import DataDir

OWN = "/api/headrace/v1"


def said(data: DataDir, events: list[dict[str, Any]]) -> list[str]:
    data.admin_key.write_text("hr-admin.key\n")
    lines: list[str] = []
    answers = {"/healthz": ["ok"], f"{OWN}/endpoints": [{"endpoints": []}], f"{OWN}/events": [{"events": events}]}
    with ToyApi(answers) as api:
        Announcer(data, lines.append, lambda _: None).run(api.url)
    return lines


def refused(seconds_from_now: float) -> dict[str, Any]:
    at_ms = int((time.time() + seconds_from_now) * 1000)
    return {"kind": "first_endpoint_refused", "at_ms": at_ms, "message": "no first endpoint: no model 'nosuch'"}


def test_a_first_endpoint_that_was_refused_is_told_with_the_reason(data_dir: DataDir) -> None:
    lines = said(data_dir, [{"kind": "replica_failed", "at_ms": 0, "message": "other"}, refused(60)])
    assert "no first endpoint: no model 'nosuch'" in lines
    assert any("headrace endpoints create NAME" in line for line in lines)


@pytest.mark.parametrize("events", [[], [refused(-3600)]])
def test_a_refusal_of_an_earlier_start_is_not_told_again(data_dir: DataDir, events: list[dict[str, Any]]) -> None:
    lines = said(data_dir, events)
    assert not any("nosuch" in line for line in lines)
    assert any("There is no endpoint yet" in line for line in lines)


def an_endpoint(status: str, *, measuring: bool = False) -> dict[str, Any]:
    return {
        "name": "a",
        "state": "ready",
        "problems": [],
        "chunk": 100,
        "min_chunks": 1,
        "max_chunks": 2,
        "profile_status": status,
        "simulated": False,
        "measuring": measuring,
    }


def told_of_measuring(
    data: DataDir, after: dict[str, Any], told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """What is said of a measurement that ends in this endpoint, with these events."""
    monkeypatch.setattr(serve_view, "MEASURING_POLL_S", 0.0)
    data.admin_key.write_text("hr-admin.key\n")
    now_ms = int(time.time() * 1000) + 60_000
    answers = {
        "/healthz": ["ok"],
        f"{OWN}/endpoints": [{"endpoints": [an_endpoint("provisional", measuring=True)]}],
        f"{OWN}/endpoints/a": [an_endpoint("provisional", measuring=True), after],
        f"{OWN}/models": [{"models": []}],
        f"{OWN}/events": [{"events": [{"at_ms": now_ms} | event for event in told]}],
    }
    lines: list[str] = []
    with ToyApi(answers) as api:
        Announcer(data, lines.append, lambda _: None).run(api.url)
    return lines


def test_what_spoiled_a_measurement_is_told_once_and_no_provisional_figure_is_called_measured(
    data_dir: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [
        {"id": 1, "kind": "measuring_spoiled", "message": "attempt 1: not kept, since a request was served"},
        {"id": 2, "kind": "replica_ready", "message": "something else"},
        {"id": 3, "kind": "measuring_given_up", "message": "toy keeps its provisional profile"},
        {"id": 4, "kind": "measuring_spoiled", "message": "of an older start", "at_ms": 0},
    ]
    lines = told_of_measuring(data_dir, an_endpoint("provisional"), events, monkeypatch)
    assert lines[-2:] == ["attempt 1: not kept, since a request was served", "toy keeps its provisional profile"]
    assert any("headrace profile --stop" in line for line in lines), "and how to stop it"


def test_a_measurement_that_was_kept_is_told_with_its_range(data_dir: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = told_of_measuring(data_dir, an_endpoint("quick"), [], monkeypatch)
    assert lines[-1] == "Measured: a: 100 to 200 reference tokens/s, 1 to 2 chunks of 100, quick profile"


def test_a_profile_that_may_not_hold_here_is_told_with_what_to_do(data_dir: DataDir) -> None:
    data_dir.admin_key.write_text("hr-admin.key\n")
    endpoint = an_endpoint("measured")
    doubt = "measured with other weights of the model"
    models = [{"name": "toy", "profile_doubts": [doubt]}, {"name": "sound", "profile_doubts": []}]
    answers = {
        "/healthz": ["ok"],
        f"{OWN}/endpoints": [{"endpoints": [endpoint]}],
        f"{OWN}/models": [{"models": models}],
    }
    lines: list[str] = []
    with ToyApi(answers) as api:
        Announcer(data_dir, lines.append, lambda _: None).run(api.url)
    assert f"The profile of toy: {doubt}; `headrace profile toy`" in lines
    assert not any("sound" in line for line in lines)


def told_of(data: DataDir, *endpoints: dict[str, Any]) -> list[str]:
    data.admin_key.write_text("hr-admin.key\n")
    answers = {
        "/healthz": ["ok"],
        f"{OWN}/endpoints": [{"endpoints": list(endpoints)}],
        f"{OWN}/models": [{"models": []}],
    }
    lines: list[str] = []
    with ToyApi(answers) as api:
        Announcer(data, lines.append, lambda _: None).run(api.url)
    return lines


CANNOT = "there is no file /gone.gguf"
FAILED = {"state": "failed", "problems": ["its profile is old", CANNOT], "last_failure": {"message": CANNOT}}


def test_a_server_whose_only_endpoint_cannot_start_does_not_call_itself_ready(data_dir: DataDir) -> None:
    lines = told_of(data_dir, an_endpoint("quick") | FAILED)
    assert any(line.startswith("Up, but no endpoint can serve, after") for line in lines)
    assert [line for line in lines if "cannot serve:" in line] == [f"  cannot serve: {CANNOT}"]
    assert not any(line.startswith(("Ready", "Try it")) for line in lines)
    assert any("headrace status" in line for line in lines)


def test_what_is_to_be_tried_is_an_endpoint_that_serves(data_dir: DataDir) -> None:
    silent = FAILED | {"problems": [CANNOT], "last_failure": None}
    lines = told_of(data_dir, an_endpoint("quick") | silent, an_endpoint("quick") | {"name": "b"})
    assert any(line.startswith("Ready after") for line in lines)
    assert f"  cannot serve: {CANNOT}" in lines
    (tried,) = [line for line in lines if line.startswith("Try it")]
    assert '"model": "b"' in tried


@pytest.mark.parametrize(
    ("on_path", "said"), [("/usr/bin/headrace", "headrace --help"), (None, "v/bin/headrace --help")]
)
def test_other_commands_are_called_as_they_can_be_from_here(
    data_dir: DataDir, monkeypatch: pytest.MonkeyPatch, on_path: str | None, said: str
) -> None:
    monkeypatch.setattr("sys.argv", ["v/bin/headrace"])
    monkeypatch.setattr(serve_view, "which", lambda _: on_path)
    lines = told_of_measuring(data_dir, an_endpoint("quick"), [], monkeypatch)
    assert any(f"Other commands: {said}" in line for line in lines)
