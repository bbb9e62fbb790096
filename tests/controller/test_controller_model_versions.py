"""Versions of a model over the REST API: which are there, what each is sold by, and an update from one to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from controller_http import Http
from controller_world import CHUNK, World

from headrace.config import FirstEndpoint
from headrace.controller.bootstrap import Outcome, first_endpoint, measure_first
from headrace.models.registry import Registry
from headrace.profiles.files import load, path_of, save

BASE = "/api/2.0/serving-endpoints"
SECOND_CHUNK = 400


def second(http: Http) -> None:
    """A second version is registered and measured."""
    http.world.model(version="2", chunk=SECOND_CHUNK)


def asked(version: str | None = None, *, chunk: int = CHUNK, name: str | None = None) -> dict[str, Any]:
    """A served entity of one chunk."""
    given = {"name": name, "entity_name": "toy", "entity_version": version}
    size = {"min_provisioned_throughput": chunk, "max_provisioned_throughput": chunk}
    return {key: value for key, value in (given | size).items() if value is not None}


async def put(http: Http, *entities: dict[str, Any], **traffic: int) -> tuple[int, Any]:
    routes = [{"served_entity_name": name, "traffic_percentage": part} for name, part in traffic.items()]
    body: dict[str, Any] = {"served_entities": list(entities)}
    return await http.put(f"{BASE}/a/config", body | ({"traffic_config": {"routes": routes}} if routes else {}))


def served(http: Http) -> list[tuple[str, str, int]]:
    """Name, version and chunk of what is served by the newest config."""
    return [(one.name, one.model.version, one.chunk) for one in http.world.get("a").target.entities]


async def test_each_version_has_its_own_chunk_and_the_models_list_has_both(http: Http) -> None:
    second(http)
    for version, chunk in (("1", CHUNK), ("2", SECOND_CHUNK)):
        info = (await http.get(f"{BASE}/get-model-optimization-info/toy/{version}"))[1]
        assert info["throughput_chunk_size"] == chunk
        profile = (await http.get(f"/api/headrace/v1/models/toy/profile?version={version}"))[1]
        assert (profile["chunk"], profile["model_version"]) == (chunk, version)
    assert (await http.get("/api/headrace/v1/models/toy/profile"))[1]["model_version"] == "2"
    models = (await http.get("/api/headrace/v1/models"))[1]["models"]
    listed = [(one["version"], one["chunk"]) for one in models if one["name"] == "toy"]
    assert listed == [("1", CHUNK), ("2", SECOND_CHUNK)]


async def test_the_versions_of_a_model_are_told_the_newest_last(http: Http) -> None:
    second(http)
    path = "/api/headrace/v1/models"
    assert (await http.get(f"{path}/toy/versions"))[1] == {"name": "toy", "versions": ["1", "2"]}
    status, answer = await http.get(f"{path}/llama/versions")
    assert (status, answer["message"].partition(";")[0]) == (404, "no model 'llama'")


async def test_a_version_that_was_not_measured_is_not_sold_by_the_profile_of_another(http: Http) -> None:
    second(http)
    path_of(Registry(http.world.data.models).get("toy", "2"), http.world.data.profiles).unlink()
    info = (await http.get(f"{BASE}/get-model-optimization-info/toy/2"))[1]
    assert info["optimizable"] is False and "run `headrace profile toy` first" in info["message"]
    status, answer = await http.post(BASE, {"name": "a", "config": {"served_entities": [asked("2")]}})
    assert (status, answer["param"]) == (400, "entity_name")
    assert "never measured" in answer["message"]
    path_of(Registry(http.world.data.models).get("toy", "1"), http.world.data.profiles).unlink()
    info = (await http.get(f"{BASE}/get-model-optimization-info/toy/1"))[1]
    assert "run `headrace profile toy/1` first" in info["message"], "the name alone is the newest"


@pytest.mark.parametrize("version", ["7", "0", "01", "two", "../1"])
async def test_a_version_that_is_not_there_is_refused_with_those_that_are(http: Http, version: str) -> None:
    second(http)
    status, answer = await http.post(BASE, {"name": "a", "config": {"served_entities": [asked(version)]}})
    assert (status, answer["error_code"], answer["param"]) == (404, "RESOURCE_DOES_NOT_EXIST", "entity_version")
    assert answer["message"] == f"model 'toy' has versions 1 and 2, not {version}"
    if version.isalnum():
        status, answer = await http.get(f"{BASE}/get-model-optimization-info/toy/{version}")
        assert (status, answer["message"]) == (404, f"model 'toy' has versions 1 and 2, not {version}")


async def test_an_update_to_version_2_comes_up_beside_version_1_and_takes_over(http: Http) -> None:
    http.world.create("a", 1, 1)
    await http.world.step()
    await http.world.step()
    second(http)
    http.world.fleet.ready_at_once = False
    assert (await put(http, asked("2", chunk=SECOND_CHUNK)))[0] == 200
    assert served(http) == [("toy-2", "2", SECOND_CHUNK)], "a name that was made of the version follows it"
    await http.world.step()
    await http.world.step()
    assert http.world.phases("a") == ["loading", "ready"]
    assert [one.model.version for one in http.world.get("a").current.entities] == ["1"]
    http.world.fleet.load()
    await http.world.step(1)
    await http.world.step(1)
    (now,) = (await http.get(f"{BASE}/a"))[1]["config"]["served_entities"]
    assert (now["entity_version"], now["name"]) == ("2", "toy-2")
    told = [one["message"] for one in (await http.get("/api/headrace/v1/events?endpoint=a"))[1]["events"]]
    assert any("of toy/2 (measured profile" in message for message in told)


async def test_who_waits_for_an_update_learns_how_long_its_starts_take(http: Http) -> None:
    http.world.create("a", 1, 1)
    await http.world.step()
    await http.world.step()
    assert (await http.get("/api/headrace/v1/endpoints/a"))[1]["start_s"] == 1.0, "as the fleet told"
    second(http)
    path = path_of(Registry(http.world.data.models).get("toy", "2"), http.world.data.profiles)
    save(path, msgspec.structs.replace(load(path), start_s=90.0))
    assert (await put(http, asked("2", chunk=SECOND_CHUNK)))[0] == 200
    assert (await http.get("/api/headrace/v1/endpoints/a"))[1]["start_s"] == 90.0


async def test_a_version_that_is_not_said_stays_and_a_new_endpoint_has_the_newest(http: Http) -> None:
    http.world.create("a", 1, 1)
    await http.world.step()
    await http.world.step()
    second(http)
    assert (await put(http, asked(chunk=CHUNK)))[0] == 200
    assert served(http) == [("toy-1", "1", CHUNK)]
    answer = await http.post(BASE, {"name": "b", "config": {"served_entities": [asked(chunk=SECOND_CHUNK)]}})
    assert answer[0] == 200
    assert http.world.get("b").target.entities[0].model.version == "2"


async def test_two_versions_share_the_traffic_under_the_names_that_databricks_gives_them(http: Http) -> None:
    http.world.create("a", 1, 1)
    await http.world.step()
    await http.world.step()
    second(http)
    before = http.world.fleet.living()
    both = (asked("2", chunk=SECOND_CHUNK), asked("1"))
    assert (await put(http, *both, **{"toy-2": 10, "toy-1": 90}))[0] == 200
    assert [name for name, _, _ in served(http)] == ["toy-2", "toy-1"]
    await http.world.step()
    await http.world.step()
    assert set(before) < set(http.world.fleet.living()), "version 1 goes on in the same replica"


async def test_a_name_that_people_gave_stays_for_another_version(http: Http) -> None:
    await http.post(BASE, {"name": "a", "config": {"served_entities": [asked("1", name="current")]}})
    await http.world.step()
    await http.world.step()
    second(http)
    assert (await put(http, asked("2", chunk=SECOND_CHUNK)))[0] == 200
    assert served(http) == [("current", "2", SECOND_CHUNK)]


async def test_a_version_that_was_removed_serves_on(http: Http) -> None:
    http.world.create("a", 1, 1)
    second(http)
    Registry(http.world.data.models).remove("toy", "1")
    await http.world.step()
    await http.world.step()
    told = (await http.get("/api/headrace/v1/endpoints/a"))[1]
    assert (told["state"], told["problems"]) == ("ready", [])
    assert (await put(http, asked()))[1]["message"] == "model 'toy' has version 2, not 1"


async def test_the_first_endpoint_is_measured_in_the_version_that_it_serves(tmp_path: Path) -> None:
    world = World(tmp_path / "data", places=2)
    world.model(status="provisional")
    world.fleet.ready_at_once = True
    await first_endpoint(world.controller, FirstEndpoint(name="a", model="toy"))
    await world.step()
    await world.step()
    world.model(version="2", chunk=SECOND_CHUNK)
    measured: list[str] = []

    async def measure(model: str, data_dir: Path) -> Outcome:
        measured.append(model)
        world.model(chunk=700, status="quick")
        return Outcome(0, "")

    await measure_first(world.controller, world.get("a"), "toy", measure)
    assert measured == ["toy/1"]
    (sold,) = world.get("a").target.entities
    assert (sold.model.version, sold.chunk, sold.profile_status) == ("1", 700, "quick")
