"""A profile that was measured elsewhere, or of another engine or weights, is said to be wherever its figures are shown:
by the API that the page, the status and the start of a server read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from controller_http import Http

from headrace.controller.refusal import Refusal
from headrace.models.registry import Registry
from headrace.profiles.files import load, save
from headrace.profiles.hardware import this_machine

HERE = this_machine()
NOT_HERE = [
    ({"engine_version": "simulated 0"}, "measured with version simulated 0 of the engine, which is now simulated"),
    ({"hardware": msgspec.structs.replace(HERE, cpu="Other CPU")}, "measured on other hardware: processor Other CPU"),
]


def change(http: Http, changes: dict[str, Any]) -> None:
    """The profile's file, under the id by which the endpoint was sold."""
    path = http.world.controller.data.profiles / "toy.json"
    save(path, msgspec.structs.replace(load(path), **changes))


async def toy(http: Http) -> dict[str, Any]:
    """What is told of the model."""
    models: list[dict[str, Any]] = (await http.get("/api/headrace/v1/models"))[1]["models"]
    return next(model for model in models if model["name"] == "toy")


async def told(http: Http) -> tuple[dict[str, Any], list[str], list[str]]:
    """What is told of the model, the problems of its endpoint, and those of the server."""
    endpoint = (await http.get("/api/headrace/v1/endpoints/a"))[1]
    status = (await http.get("/api/headrace/v1/status"))[1]
    return await toy(http), endpoint["problems"], status["problems"]


@pytest.mark.parametrize(("changes", "doubt"), NOT_HERE)
async def test_a_profile_that_does_not_hold_here_is_a_problem_of_what_is_sold_by_it(
    http: Http, changes: dict[str, Any], doubt: str
) -> None:
    http.world.create("a", 1, 1)
    model, problems, _ = await told(http)
    assert (model["profile_doubts"], problems) == ([], [])
    change(http, changes)
    model, problems, of_server = await told(http)
    assert model["profile_status"] == "provisional"
    assert model["profile_doubts"][0].startswith(doubt)
    assert any(doubt in problem and "`headrace profile toy`" in problem for problem in problems)
    assert any(doubt in problem for problem in of_server)


async def test_a_newer_profile_is_no_problem_of_what_was_sold_by_an_older_one(http: Http) -> None:
    http.world.create("a", 1, 1)
    change(http, {"id": "newer", **NOT_HERE[0][0]})
    model, problems, _ = await told(http)
    assert model["profile_doubts"] and not problems


async def test_a_measurement_that_was_not_valid_is_told_of_the_model(http: Http) -> None:
    change(http, {"problems": ("others used the cores",)})
    model = await toy(http)
    assert model["profile_doubts"] == ["its measurement is not valid: others used the cores"]
    assert model["profile_status"] == "doubtful"


async def test_what_is_sold_by_a_measurement_that_was_not_valid_is_doubtful_wherever_it_is_named(http: Http) -> None:
    change(http, {"problems": ("others used the cores",)})
    http.world.create("a", 1, 1)
    (entity,) = (await http.get("/api/headrace/v1/endpoints/a"))[1]["entities"]
    assert entity["profile_status"] == "doubtful"
    created = (await http.get("/api/headrace/v1/events"))[1]["events"][-1]
    assert "(doubtful profile, simulated engine)" in created["message"]
    _, problems, of_server = await told(http)
    assert any("its measurement is not valid: others used the cores" in problem for problem in problems)
    assert any("its measurement is not valid" in problem for problem in of_server)


async def test_a_model_that_runs_by_another_engine_now_was_never_measured(http: Http) -> None:
    http.world.create("a", 1, 1)
    before = http.world.get("a").target
    registry = Registry(http.world.data.models)
    registry.add("toy", url="http://127.0.0.1:9", replace=True)
    model = await toy(http)
    assert (model["profile_status"], model["chunk"], model["profile_doubts"]) == (None, None, [])
    assert "was never measured here by the engine openai, only by the engine simulated" in model["problem"]
    assert "`headrace profile toy`" in model["problem"]
    _, info = await http.get("/api/2.0/serving-endpoints/get-model-optimization-info/toy/1")
    assert info["optimizable"] is False
    with pytest.raises(Refusal, match="only by the engine simulated"):
        http.world.create("b", 1, 1)
    # What was sold keeps its terms, and its owner is told.
    assert http.world.get("a").target == before
    _, problems, _ = await told(http)
    assert any("measured with the engine simulated, which is now openai" in problem for problem in problems)


async def test_other_timings_of_a_simulated_engine_make_its_profile_provisional(http: Http) -> None:
    registry = Registry(http.world.data.models)
    model = registry.get("toy")
    change(http, {"pace": model.pace})
    assert (await toy(http))["profile_status"] == "measured"
    registry.put(msgspec.structs.replace(model, engine_args={"null": True, "start_s": 0.5}), replace=True)
    told_now = await toy(http)
    assert told_now["profile_status"] == "provisional"
    assert "measured with start_s" in told_now["profile_doubts"][0]
