"""What commands say of endpoints, and how ``--wait`` ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cli_api import ToyApi, versions_of
from cli_told import DATABRICKS_PATH, NOTED, PATH, PERMISSIONS_PATH, endpoint, entity

from headrace.cli.connection import Connection
from headrace.cli.endpoint_view import print_endpoint, print_endpoints
from headrace.cli.endpoint_wait import patience_of, wait_until_ready
from headrace.cli.errors import CommandError
from headrace.cli.main import main

API = "/api/2.0/serving-endpoints"


def test_one_endpoint_is_told_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    print_endpoint(endpoint(problems=["the machine has room for 1"], measuring=True))
    said = capsys.readouterr().out
    for words in (
        "1 to 2 chunks, 1,200 to 2,400 reference tokens/s",
        "quick, simulated, measuring: sim-20261122",
        "1 new + 1.5 out",
        "demand 300 fits 1 chunk",
        "the machine has room for 1",
        "1 of 4",
        "2, 3",
        "version 3",
    ):
        assert words in said


def test_what_is_done_otherwise_than_asked_is_told_by_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with ToyApi({PATH: [endpoint()], DATABRICKS_PATH: [NOTED]}) as api:
        words = ["endpoints", "get", "chat", "--url", api.url, "--api-key", "k"]
        for more, said in (([], "sim-1: a fixed size"), (["--json"], '"sim-1: a fixed size"')):
            with pytest.raises(SystemExit) as ended:
                main([*words, *more])
            assert ended.value.code == 0
            assert said in capsys.readouterr().out


def run(api: ToyApi, *words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--url", api.url, "--api-key", "k"])
    return int(ended.value.code or 0)


def test_limits_and_permissions_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    none = {"principal": None, "calls": None, "tokens": None}
    limits = [
        none | {"key": "endpoint", "tokens": 600_000},
        none | {"key": "user", "calls": 60},
        none | {"key": "service_principal", "principal": "job", "calls": 5, "tokens": 9},
    ]
    given = {"permission_level": "CAN_QUERY", "inherited": False}
    entries = [
        {"user_name": "ann", "display_name": "ann", "all_permissions": [given]},
        {"group_name": "admins", "display_name": "admins", "all_permissions": [given | {"inherited": True}]},
    ]
    limited = endpoint(options=endpoint()["options"] | {"rate_limits": limits})
    answers = {PATH: [limited], DATABRICKS_PATH: [NOTED], PERMISSIONS_PATH: [{"access_control_list": entries}]}
    with ToyApi(answers) as api:
        assert run(api, "endpoints", "get", "chat") == 0
    said = capsys.readouterr().out
    assert "all callers together: 600,000 tokens/min" in said
    assert "each user: 60 calls/min" in said
    assert "service principal job: 5 calls/min, 9 tokens/min" in said
    assert "user ann: CAN_QUERY" in said and "admins" not in said


def test_where_the_log_of_a_failed_update_is_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    print_endpoint(endpoint(config_update="UPDATE_FAILED"))
    assert "headrace events chat --kind config_failed --json" in capsys.readouterr().out


def test_events_say_how_to_see_the_log_of_a_replica(capsys: pytest.CaptureFixture[str]) -> None:
    failed = {"id": 1, "at_ms": 0, "endpoint": "chat", "kind": "config_failed", "message": "m", "data": {"tail": "t"}}
    with ToyApi({"/api/headrace/v1/events": [{"events": [failed]}]}) as api:
        assert run(api, "events", "chat") == 0
    assert "--json has the last lines of the log" in capsys.readouterr().out


def test_events_of_an_endpoint_that_never_was_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with ToyApi({"/api/headrace/v1/events": [{"events": []}]}) as api:
        assert run(api, "events", "nope") == 1
    assert "nothing at /api/headrace/v1/endpoints/nope" in capsys.readouterr().err


def test_what_an_update_does_to_the_range_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    info = {f"{API}/get-model-optimization-info/other/1": [{"optimizable": True, "headrace": {"chunk": 300}}]}
    falls = "the range falls from 1200..2400 to 300..600 reference tokens/s"
    reply = {"name": "chat", "headrace": {"notes": ["sim-1: a fixed size", falls]}}
    answers = {PATH: [endpoint()], DATABRICKS_PATH: [NOTED]} | info | versions_of("other", "1")
    with ToyApi(answers, replies={f"{DATABRICKS_PATH}/config": reply}) as api:
        assert run(api, "endpoints", "update", "chat", "--model", "other") == 0
        said = capsys.readouterr().out
        assert (said.count(falls), said.count("sim-1: a fixed size")) == (1, 1)
        assert run(api, "endpoints", "update", "chat", "--model", "other", "--json") == 0
    assert json.loads(capsys.readouterr().out)["headrace"]["notes"] == ["sim-1: a fixed size", falls]


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_an_update_that_names_nothing_changes_nothing_and_says_so(
    capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    with ToyApi({PATH: [endpoint()], DATABRICKS_PATH: [NOTED]}) as api:
        assert run(api, "endpoints", "update", "chat", *more) == 0
        assert api.sent_to == []
    assert "nothing to change was named, and nothing was changed" in capsys.readouterr().err


def test_several_served_entities_are_told_each_with_its_traffic(capsys: pytest.CaptureFixture[str]) -> None:
    big, small = (
        entity(name="big", traffic=80),
        entity(name="small", traffic=20, model="tiny", model_version="2", state="asleep"),
    )
    told = endpoint(entities=[big, small], options={"overload": "spill", "fallback": True, "rate_limits": []})
    print_endpoint(told)
    said = capsys.readouterr().out
    for words in ("chat/big", "ready, 80% of the traffic", "asleep, 20% of the traffic", "spill, falls back", "sim-1"):
        assert words in said
    print_endpoints([told, endpoint(name="other")])
    rows = [line.split()[:5] for line in capsys.readouterr().out.splitlines() if line.strip()[:4] in ("chat", "othe")]
    assert rows == [
        ["chat", "big", "80%", "sim/1", "ready"],
        ["chat", "small", "20%", "tiny/2", "asleep"],
        ["other", "sim-1", "100%", "sim/1", "ready"],
    ]


def test_an_endpoint_without_replicas_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_endpoint(endpoint(replicas=[]))
    assert "no replicas" in capsys.readouterr().out


@pytest.mark.parametrize(("pending", "told"), [(None, False), (3, False), (4, True)])
def test_a_config_that_is_to_follow_is_told(
    capsys: pytest.CaptureFixture[str], pending: int | None, told: bool
) -> None:
    print_endpoint(endpoint(pending_version=pending))
    assert ("is to follow" in capsys.readouterr().out) is told


@pytest.mark.parametrize(
    ("more", "label"),
    [
        ({}, "quick, simulated"),
        (
            {"measuring": True, "entities": [entity(simulated=False, profile_status="provisional")]},
            "provisional, measuring",
        ),
    ],
)
def test_a_row_says_what_its_figures_are_worth(
    capsys: pytest.CaptureFixture[str], more: dict[str, Any], label: str
) -> None:
    print_endpoints([endpoint(**more)])
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("chat"))
    assert row.rstrip().endswith(label)


def test_waiting_tells_each_problem_once_and_ends_when_it_serves(capsys: pytest.CaptureFixture[str]) -> None:
    trying = endpoint(config_update="IN_PROGRESS", problems=["no core is free"])
    worse = endpoint(config_update="IN_PROGRESS", problems=["no core is free", "a replica failed"])
    with ToyApi({PATH: [trying, trying, worse, endpoint()]}) as api:
        wait_until_ready(Connection(api.url, None), "chat", poll_s=0)
    assert capsys.readouterr().err.splitlines() == ["chat: no core is free", "chat: a replica failed"]


def test_waiting_fails_with_the_reason_of_a_failed_update() -> None:
    failed = endpoint(config_update="UPDATE_FAILED", update_message="the weights are gone")
    with ToyApi({PATH: [failed]}) as api, pytest.raises(CommandError, match="new config: the weights are gone"):
        wait_until_ready(Connection(api.url, None), "chat", poll_s=0)


def test_waiting_ends_while_the_server_goes_on_trying() -> None:
    stuck = endpoint(config_update="IN_PROGRESS", problems=["no core is free"])
    with (
        ToyApi({PATH: [stuck]}) as api,
        pytest.raises(CommandError, match=r"not ready after 0 s: no core is free\. The server goes on st") as ended,
    ):
        wait_until_ready(Connection(api.url, None), "chat", patience_s=0)
    assert ended.value.status == 1
    assert "`headrace endpoints get chat` shows how far it is" in str(ended.value)


@pytest.mark.parametrize(("start_s", "waits_s"), [(None, 120), (0.5, 121.5), (90.0, 390)])
def test_waiting_is_as_patient_as_a_start_is_long(start_s: float | None, waits_s: float) -> None:
    assert patience_of(endpoint(start_s=start_s)) == waits_s


def test_who_says_how_long_to_wait_waits_so_long(capsys: pytest.CaptureFixture[str]) -> None:
    stuck = endpoint(config_update="IN_PROGRESS", start_s=1000.0)
    with ToyApi({PATH: [stuck], DATABRICKS_PATH: [NOTED]}) as api:
        words = ("endpoints", "update", "chat", "--overload", "reject", "--wait-timeout", "1ms")
        assert run(api, *words) == 1
    assert "'chat' was not ready after 0 s: 0 of its chunks are loading" in capsys.readouterr().err


def test_a_range_of_one_size_is_told_as_that_size(capsys: pytest.CaptureFixture[str]) -> None:
    print_endpoint(endpoint(entities=[entity(max_chunks=1, max_tokens_s=1200)]))
    assert "1 chunk, 1,200 reference tokens/s" in capsys.readouterr().out
