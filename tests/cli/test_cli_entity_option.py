"""``--entity``: a served entity in one word, and the config that several of them make."""

from __future__ import annotations

import re
from typing import Any

import pytest
from cli_api import ToyApi, versions_of

from headrace.cli.connection import Connection
from headrace.cli.endpoint_body import API, several
from headrace.cli.entity_option import EntityWords, parse
from headrace.cli.errors import UsageError

CHUNKS = {("llama", "1"): 100, ("llama", "2"): 120, ("smol", "1"): 10}
"""By model and version."""


def config(*texts: str, before: tuple[dict[str, Any], ...] = ()) -> Any:
    answers = {
        f"{API}/get-model-optimization-info/{model}/{version}": [{"optimizable": True, "headrace": {"chunk": size}}]
        for (model, version), size in CHUNKS.items()
    }
    answers |= versions_of("llama", "1", "2") | versions_of("smol", "1")
    with ToyApi(answers) as api:
        return several(Connection(api.url, None), [parse(text) for text in texts], before)


def entity(name: str, model: str = "llama", **more: Any) -> dict[str, Any]:
    """As the server tells of one."""
    told = {"name": name, "model": model, "model_version": "1", "min_chunks": 1, "max_chunks": 3}
    return told | {"scale_to_zero": False, "traffic": 60} | more


def test_everything_can_be_said_in_one_word() -> None:
    assert parse("big=llama,min=0,max=2,traffic=80,version=2,scale-to-zero") == EntityWords(
        name="big", model="llama", version="2", min_chunks=0, max_chunks=2, traffic=80, scale_to_zero=True
    )
    assert parse("big=llama") == EntityWords(name="big", model="llama")
    assert parse("big=llama/2") == parse("big=llama,version=2") == EntityWords(name="big", model="llama", version="2")
    assert parse("big=llama,scale-to-zero=no").scale_to_zero is False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("llama", "--entity is 'llama'; expected NAME=MODEL[,min=CHUNKS]"),
        ("=llama", "expected NAME=MODEL"),
        ("big=", "expected NAME=MODEL"),
        ("big=llama,speed=9", "--entity big: 'speed=9' is none of min, max, traffic, version and scale-to-zero"),
        ("big=llama,min=1,min=2", "--entity big: min stands twice"),
        ("big=llama,max=two", "--entity big: max is 'two'; expected a whole number"),
        ("big=llama,max=", "--entity big: max is ''"),
        ("big=llama,traffic=50%", "traffic is '50%'"),
        ("big=llama,traffic=-5", "traffic is '-5'"),
        ("big=llama/2,version=1", "'llama/2' is version 2, and --model-version says 1"),
        ("big=llama/new", "'llama/new' is no model: expected its name"),
        ("big=llama,scale-to-zero=maybe", "scale-to-zero is 'maybe'; expected yes or no"),
    ],
)
def test_what_cannot_be_understood_is_named(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        parse(text)


def test_ranges_are_in_chunks_of_each_model_and_one_chunk_by_default() -> None:
    told = config("big=llama,max=2,traffic=80,version=1", "small=smol,min=0,max=4,traffic=20,scale-to-zero")
    assert told["served_entities"] == [
        {
            "name": "big",
            "entity_name": "llama",
            "entity_version": "1",
            "min_provisioned_throughput": 100,
            "max_provisioned_throughput": 200,
            "scale_to_zero_enabled": False,
        },
        {
            "name": "small",
            "entity_name": "smol",
            "entity_version": "1",
            "min_provisioned_throughput": 0,
            "max_provisioned_throughput": 40,
            "scale_to_zero_enabled": True,
        },
    ]
    assert told["traffic_config"]["routes"] == [
        {"served_entity_name": "big", "traffic_percentage": 80},
        {"served_entity_name": "small", "traffic_percentage": 20},
    ]


def test_the_newest_version_is_meant_where_none_is_said() -> None:
    (told,) = config("big=llama")["served_entities"]
    assert (told["entity_version"], told["max_provisioned_throughput"]) == ("2", 120)


def test_a_new_version_of_a_model_is_tried_on_a_part_of_the_requests() -> None:
    told = config("now=llama,traffic=90", "next=llama/2,traffic=10", before=(entity("now", traffic=100),))
    assert [one["entity_version"] for one in told["served_entities"]] == ["1", "2"]


def test_one_entity_needs_no_traffic_and_several_do() -> None:
    assert "traffic_config" not in config("big=llama")
    with pytest.raises(UsageError, match="which percentage of the requests, such as --entity big=llama,traffic=80"):
        config("big=llama", "small=smol")
    routes = config("big=llama,traffic=100", "spare=smol")["traffic_config"]["routes"]
    assert [route["served_entity_name"] for route in routes] == ["big"]


def test_an_update_keeps_what_is_not_said_of_an_entity_and_drops_what_is_not_named() -> None:
    before = (entity("big", scale_to_zero=True, min_chunks=0), entity("small", "smol", traffic=40))
    told = config("big=llama,traffic=90", "new=smol,traffic=10", before=before)
    big, new = told["served_entities"]
    assert (big["min_provisioned_throughput"], big["max_provisioned_throughput"]) == (0, 300)
    assert big["scale_to_zero_enabled"] is True
    assert (new["name"], new["max_provisioned_throughput"]) == ("new", 10)
    kept = config("big=llama,max=1", "small=smol", before=before)
    assert [route["traffic_percentage"] for route in kept["traffic_config"]["routes"]] == [60, 40]


def test_the_one_entity_that_is_left_gets_all_the_traffic() -> None:
    before = (entity("big"), entity("small", "smol", traffic=40))
    assert "traffic_config" not in config("big=llama", before=before)


def test_another_model_under_a_name_has_the_same_chunks_and_its_own_version() -> None:
    (told,) = config("big=smol", before=(entity("big", model_version="2"),))["served_entities"]
    assert (told["entity_version"], told["max_provisioned_throughput"]) == ("1", 30)
    (told,) = config("big=llama", before=(entity("big", model_version="2"),))["served_entities"]
    assert (told["entity_version"], told["max_provisioned_throughput"]) == ("2", 360)
