"""Keys of users and service principals on the command line."""

from __future__ import annotations

import json

import pytest
from cli_api import ToyApi

from headrace.cli.main import main

PRINCIPALS = "/api/headrace/v1/service-principals"
JOB = {
    "client_id": "6da5587a-0a3b-45bc-82b6-fe6bec166bf1",
    "name": "job",
    "role": "query",
    "tiers": ["default", "flex"],
    "weight": 1.0,
    "created_ms": 1_700_000_000_000,
}


def run(api: ToyApi, *words: str) -> int:
    """The exit status."""
    try:
        main([*words, "--url", api.url, "--api-key", "k"])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_a_key_is_made_for_a_user_or_a_service_principal() -> None:
    with ToyApi({}) as api:
        api.replies["/api/headrace/v1/keys"] = {"key": "hr-1.s", "role": "query", "id": "1"}
        assert run(api, "keys", "create", "--user", "ann@example.com") == 0
        assert run(api, "keys", "create", "--service-principal", "job", "--admin") == 0
        assert run(api, "keys", "create") == 0
        assert api.bodies == [
            {"role": "query", "name": "", "user": "ann@example.com"},
            {"role": "admin", "name": "", "service_principal": "job"},
            {"role": "query", "name": ""},
        ]


def test_a_service_principal_is_made_with_a_secret_that_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    with ToyApi({PRINCIPALS: [{"service_principals": [JOB]}]}) as api:
        api.replies[PRINCIPALS] = JOB | {"client_secret": "hrs-s"}
        assert run(api, "service-principals", "create", "job", "--tiers", "default, flex", "--weight", "2") == 0
        made = capsys.readouterr()
        assert JOB["client_id"] in made.out and "hrs-s" in made.out
        assert "not shown again" in made.err
        assert api.bodies == [{"name": "job", "role": "query", "tiers": ["default", "flex"], "weight": 2.0}]
        assert run(api, "service-principals", "list") == 0
        listed = capsys.readouterr().out
        assert JOB["client_id"] in listed and "job" in listed and "hrs-s" not in listed
        assert run(api, "service-principals", "list", "--json") == 0
        assert json.loads(capsys.readouterr().out) == {"service_principals": [JOB]}


def test_a_secret_is_renewed_and_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    path = f"{PRINCIPALS}/{JOB['client_id']}/secret"
    with ToyApi({}, replies={path: JOB | {"client_secret": "hrs-new"}}) as api:
        assert run(api, "service-principals", "new-secret", str(JOB["client_id"])) == 0
        assert run(api, "service-principals", "new-secret", str(JOB["client_id"]), "--end-tokens") == 0
        assert api.bodies == [{"end_tokens": False}, {"end_tokens": True}]
    made = capsys.readouterr()
    assert "hrs-new" in made.out
    assert "not shown again" in made.err


def test_a_service_principal_is_deleted_by_its_client_id(capsys: pytest.CaptureFixture[str]) -> None:
    with ToyApi({f"{PRINCIPALS}/{JOB['client_id']}": [JOB | {"acknowledged": True, "waiting_for": []}]}) as api:
        assert run(api, "service-principals", "delete", str(JOB["client_id"])) == 0
        assert capsys.readouterr().out == "job is deleted\n"
        assert run(api, "service-principals", "delete", "nobody") == 1


def test_tiers_that_are_none_are_refused_before_anything_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    with ToyApi({}) as api:
        assert run(api, "service-principals", "create", "job", "--tiers", "gold") == 2
        assert "--tiers is 'gold'" in capsys.readouterr().err
        assert api.bodies == []
