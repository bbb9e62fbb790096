"""Which call ``endpoints create`` and ``update`` make, and the config that they send."""

from __future__ import annotations

from typing import Any

import pytest
from cli_api import ToyApi, versions_of

from headrace.cli.connection import Connection
from headrace.cli.endpoint_config import OneEntity, entities_of, first_config, next_config
from headrace.cli.errors import UsageError

API = "/api/2.0/serving-endpoints"
CHUNK = {"optimizable": True, "headrace": {"chunk": 100}}
OLD = {"name": "m-2", "model": "m", "model_version": "2", "min_chunks": 1, "max_chunks": 2, "scale_to_zero": False}
ANSWERS: dict[str, list[Any]] = {
    f"{API}/get-model-optimization-info/m/2": [CHUNK],
    f"{API}/get-model-optimization-info/m/3": [CHUNK],
    f"{API}/get-model-optimization-info/n/1": [CHUNK],
    **versions_of("m", "1", "2", "3"),
    **versions_of("n", "1"),
    "/api/headrace/v1/endpoints/x": [{"entities": [OLD]}],
}


def one(**said: Any) -> OneEntity:
    nothing = dict.fromkeys(OneEntity.__dataclass_fields__)
    return OneEntity(**nothing | said)


def connection(api: ToyApi) -> Connection:
    return Connection(api.url, "k")


def test_a_new_endpoint_of_a_fixed_size_is_made_in_model_units() -> None:
    with ToyApi({}) as api:
        path, config = first_config(connection(api), one(model="m", version="2", units=100), [])
    assert path == f"{API}/pt"
    assert config == {"served_entities": [{"entity_name": "m", "entity_version": "2", "provisioned_model_units": 100}]}


def test_the_size_of_an_endpoint_in_model_units_is_changed_and_its_model_stays() -> None:
    with ToyApi(ANSWERS) as api:
        path, body = next_config(connection(api), "x", one(units=150), [])
    assert path == f"{API}/pt/x/config"
    entity = {"entity_name": "m", "entity_version": "2", "provisioned_model_units": 150}
    assert body == {"config": {"served_entities": [entity]}}


def test_what_is_not_said_of_a_range_stays_in_chunks() -> None:
    with ToyApi(ANSWERS) as api:
        path, body = next_config(connection(api), "x", one(max_chunks=5), [])
    entity = body["served_entities"][0]
    assert path == f"{API}/x/config"
    assert (entity["min_provisioned_throughput"], entity["max_provisioned_throughput"]) == (100, 500)
    assert (entity["entity_name"], entity["entity_version"]) == ("m", "2")


def test_another_model_is_not_asked_for_in_the_version_of_the_old_one() -> None:
    with ToyApi(ANSWERS) as api:
        _, body = next_config(connection(api), "x", one(model="n"), [])
    assert (body["served_entities"][0]["entity_name"], body["served_entities"][0]["entity_version"]) == ("n", "1")


def test_a_new_endpoint_serves_the_newest_version_where_none_is_said() -> None:
    with ToyApi(ANSWERS) as api:
        _, config = first_config(connection(api), one(model="m"), [])
    assert config["served_entities"][0]["entity_version"] == "3"


@pytest.mark.parametrize("said", [{}, {"model": "m"}])
def test_an_endpoint_stays_at_its_version_until_another_is_said(said: dict[str, str]) -> None:
    with ToyApi(ANSWERS) as api:
        _, stays = next_config(connection(api), "x", one(max_chunks=2, **said), [])
        _, moves = next_config(connection(api), "x", one(max_chunks=2, version="3", **said), [])
    assert stays["served_entities"][0]["entity_version"] == "2"
    assert moves["served_entities"][0]["entity_version"] == "3"


def test_model_units_and_a_range_are_two_sizes() -> None:
    for said in ({"min_chunks": 1}, {"max_tokens_s": 100}, {"scale_to_zero": True}):
        with pytest.raises(UsageError, match="--units is a fixed size"):
            one(units=50, **said)


def test_options_for_one_served_entity_do_not_stand_beside_several() -> None:
    assert [words.name for words in entities_of(["a=m", "b=m"], one())] == ["a", "b"]
    with pytest.raises(UsageError, match="--units"):
        entities_of(["a=m"], one(units=50))


def test_something_is_to_be_served() -> None:
    with ToyApi({}) as api, pytest.raises(UsageError, match="say what to serve"):
        first_config(connection(api), one(units=50), [])
