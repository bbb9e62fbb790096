"""``--dry-run``: what a create or an update would do and cost, as commands tell it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cli_api import ToyApi, versions_of

from headrace.cli.main import main

API = "/api/2.0/serving-endpoints"
CHUNK = {"optimizable": True, "headrace": {"chunk": 100}}
INFO = {f"{API}/get-model-optimization-info/m/1": [CHUNK], **versions_of("m", "1")}
NOW = {
    "/api/headrace/v1/endpoints/x": [
        {
            "entities": [
                {"name": "m-1", "model": "m", "model_version": "1", "min_chunks": 1, "max_chunks": 2}
                | {"scale_to_zero": False}
            ]
        }
    ]
}
TOLD: dict[str, Any] = {
    "served_entities": [
        {
            "name": "m-1",
            "entity_name": "m",
            "entity_version": "1",
            "traffic_percentage": 100,
            "min_chunks": 1,
            "max_chunks": 3,
            "chunk": 1200,
            "chunks_kept": 1,
            "chunks_started": 0,
            "chunks_pending": 2,
        }
    ],
    "says": ["m-1: restarts nothing", "it costs 1.00 to 3.00 USD an hour"],
}


def run(api: ToyApi, *words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--url", api.url, "--api-key", "k"])
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("create", "x", "--model", "m", "--max-chunks", "3"), API),
        (("update", "x", "--max-chunks", "3"), f"{API}/x/config"),
        (("create", "x", "--model", "m", "--units", "50"), f"{API}/pt"),
        (("update", "x", "--units", "50"), f"{API}/pt/x/config"),
    ],
)
def test_what_would_be_done_is_told_and_nothing_is_done(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], path: str
) -> None:
    with ToyApi(INFO | NOW, replies={path: TOLD}) as api:
        assert run(api, "endpoints", *words, "--dry-run") == 0
        assert [sent for _, sent in api.sent_to] == [path + "?dry_run=true"]
    said = capsys.readouterr().out
    (row,) = (line.split() for line in said.splitlines() if line.strip().startswith("m-1 "))
    assert row == ["m-1", "m,", "version", "1", "100%", "1", "to", "3", "1,200", "1", "0", "2"]
    assert "it costs 1.00 to 3.00 USD an hour" in said
    assert "Nothing was changed." in said


def test_programs_get_it_as_the_server_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    with ToyApi(INFO, replies={API: TOLD}) as api:
        assert run(api, "endpoints", "create", "x", "--model", "m", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out) == TOLD


def test_options_have_no_dry_run_and_what_autoscaling_costs_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with ToyApi(NOW) as api:
        assert run(api, "endpoints", "update", "x", "--overload", "reject", "--dry-run") == 2
        assert run(api, "endpoints", "update", "x", "--autoscaling", "off", "--dry-run") == 2
        assert api.bodies == []
    said = capsys.readouterr().err
    assert "leave --overload, --autoscaling and what follows them out" in said
    assert "--autoscaling off keeps the chunks, and the bill, at the minimum of the range" in said
