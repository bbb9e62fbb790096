"""What ``headrace serve`` says once it serves."""

from __future__ import annotations

import time
from typing import Any

import pytest
from cli_api import ToyApi

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


def test_a_profile_that_may_not_hold_here_is_told_with_what_to_do(data_dir: DataDir) -> None:
    data_dir.admin_key.write_text("hr-admin.key\n")
    endpoint = {
        "name": "a",
        "chunk": 100,
        "min_chunks": 1,
        "max_chunks": 2,
        "profile_status": "measured",
        "simulated": False,
        "measuring": False,
    }
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
