"""Scaling on the command line: what is sent for knobs and autoscaling, and how decisions are told."""

from __future__ import annotations

from typing import Any

import pytest
from cli_api import ToyApi, versions_of
from cli_told import DATABRICKS_PATH, NOTED, PATH, endpoint, entity

from headrace.cli.endpoint_view import print_endpoint
from headrace.cli.main import main
from headrace.cli.output import at
from headrace.cli.scaling_view import print_scaling

API = "/api/2.0/serving-endpoints"
INFO = f"{API}/get-model-optimization-info/sim/1"
EVENTS = "/api/headrace/v1/events"


@pytest.fixture
def api() -> Any:
    chunk = {"optimizable": True, "throughput_chunk_size": 1200, "headrace": {"chunk": 1200}}
    answers = {PATH: [endpoint()], DATABRICKS_PATH: [NOTED], INFO: [chunk], EVENTS: [{"events": []}]}
    with ToyApi(answers | versions_of("sim", "1"), replies={f"{DATABRICKS_PATH}/config": NOTED}) as api:
        yield api


def run(api: ToyApi, *words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--url", api.url, "--api-key", "k"])
    return int(ended.value.code or 0)


def test_a_change_of_knobs_alone_leaves_the_config_alone(api: ToyApi) -> None:
    words = ("--autoscaling", "off", "--headroom", "0.2", "--down-window", "default", "--queue-deadline", "5")
    assert run(api, "endpoints", "update", "chat", *words) == 0
    assert api.sent_to == [("PATCH", PATH)]
    scaling = {"headroom": 0.2, "down_window_s": None}
    assert api.bodies == [{"queue_deadline_s": 5.0, "autoscaling": "off", "scaling": scaling}]


@pytest.mark.parametrize(("switch", "order"), [("off", ["PUT", "PATCH"]), ("on", ["PATCH", "PUT"])])
def test_a_minimum_of_zero_and_autoscaling_that_is_off_never_stand_together(
    api: ToyApi, switch: str, order: list[str]
) -> None:
    assert run(api, "endpoints", "update", "chat", "--min-chunks", "1", "--autoscaling", switch) == 0
    assert [method for method, _ in api.sent_to] == order


def test_a_new_endpoint_is_made_with_its_knobs(api: ToyApi) -> None:
    knobs = ("--fast-window", "5", "--slow-window", "30s", "--wait-target", "2s", "--idle-to-zero", "1m")
    assert run(api, "endpoints", "create", "chat", "--model", "sim", *knobs, "--autoscaling", "on") == 0
    (body,) = api.bodies
    scaling = {"fast_window_s": 5.0, "slow_window_s": 30.0, "wait_target_s": 2.0, "idle_to_zero_s": 60.0}
    assert body["headrace"] == {"autoscaling": "on", "scaling": scaling}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--autoscaling", "no"), "--autoscaling is 'no'; expected on or off"),
        (("--headroom", "a lot"), "--headroom is 'a lot'; expected a number, or default for the server's"),
        (("--slow-window", "nan"), "--slow-window is 'nan'; expected a time such as 90s or 20m"),
    ],
)
def test_words_that_are_no_numbers_are_refused_before_anything_is_asked(
    api: ToyApi, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert run(api, "endpoints", "update", "chat", *words) == 2
    assert said in capsys.readouterr().err
    assert api.sent_to == []


def test_events_are_asked_for_by_kind_and_page(api: ToyApi) -> None:
    assert run(api, "events", "--kind", "scaled", "--kind", "place_taken", "--before", "7") == 0
    assert api.asked[-1] == f"{EVENTS}?kind=scaled&kind=place_taken&limit=50&before=7"


@pytest.mark.parametrize("words", [("chat",), ("--endpoint", "chat")])
def test_events_of_one_endpoint_are_asked_for_by_its_name(api: ToyApi, words: tuple[str, ...]) -> None:
    assert run(api, "events", *words, "--kind", "scaled") == 0
    assert api.asked[-1] == f"{EVENTS}?endpoint=chat&kind=scaled&limit=50"


def test_events_are_not_asked_for_by_two_names(api: ToyApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(api, "events", "chat", "--endpoint", "other") == 2
    assert "name the endpoint once" in capsys.readouterr().err


UNTIL = 1_700_000_000_000


@pytest.mark.parametrize(
    ("standing", "until", "said"),
    [
        ("steady", None, ""),
        ("stabilising", UNTIL, f"stabilising: fewer chunks at {at(UNTIL)} at the earliest"),
        ("idle", UNTIL, f"idle: without a request to zero at {at(UNTIL)}"),
        ("frozen", None, "frozen until a gateway reports"),
    ],
)
def test_what_follows_the_last_decision_is_told(
    capsys: pytest.CaptureFixture[str], standing: str, until: int | None, said: str
) -> None:
    told = [endpoint(entities=[entity(scaling_standing=standing, scaling_until_ms=until)])]
    print_scaling(told)
    print_endpoint(told[0])
    words = capsys.readouterr().out
    assert words.count("demand 300 fits 1 chunk") == 2
    assert words.count(said) >= 2


def test_the_knobs_in_force_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    print_endpoint(endpoint(entities=[entity(scale_to_zero=True)]))
    expected = "windows 12 s and 2 min, headroom 10%, down after 60 s, wait target 10 s, to zero after 5 min"
    assert expected in capsys.readouterr().out
    print_endpoint(endpoint(entities=[entity(scaling_standing="off")]))
    assert "nothing: autoscaling is off" in capsys.readouterr().out
