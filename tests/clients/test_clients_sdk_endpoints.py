"""``databricks-sdk``, unmodified, against a running server with simulated replicas: endpoints from their making to
their end."""

from __future__ import annotations

import pytest
from clients_programs import Program, Programs, Raised
from clients_server import CHAT, CHUNK, SIMULATED, config

ASK = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}

pytestmark = pytest.mark.system


@pytest.fixture(params=["tests", "databricks"], scope="module")
def sdk(programs: Programs, request: pytest.FixtureRequest) -> Program:
    """The version that the other tests use, and the newest, beside mlflow and LangChain."""
    return programs("with_databricks_sdk", request.param)


def test_an_endpoint_is_made_queried_changed_and_deleted(sdk: Program) -> None:
    made = sdk("create_and_wait", name="a", config=config(1, 1), tags=[{"key": "team", "value": "blue"}])
    assert made["state"] == made["state"] | {"ready": "READY", "config_update": "NOT_UPDATING"}
    (entity,) = made["config"]["served_entities"]
    assert (entity["name"], entity["entity_name"], entity["entity_version"]) == ("llama-1", "llama", "1")
    assert (entity["min_provisioned_throughput"], entity["max_provisioned_throughput"]) == (CHUNK, CHUNK)
    assert made["config"]["served_models"][0]["model_name"] == "llama"
    assert made["tags"] == [{"key": "team", "value": "blue"}]

    answered = sdk("query", name="a", **ASK)
    assert answered["choices"][0]["message"]["content"] == SIMULATED * 3
    assert (answered["usage"]["completion_tokens"], answered["served_model_name"]) == (3, "llama-1")

    changed = sdk("update_config_and_wait", name="a", config=config(1, 3))
    assert changed["config"]["config_version"] == 2
    assert changed["config"]["served_entities"][0]["max_provisioned_throughput"] == 3 * CHUNK

    assert {"a", CHAT} <= set(sdk("names"))
    sdk("delete", name="a")
    assert "a" not in sdk("names")
    with pytest.raises(Raised) as gone:
        sdk("get", name="a")
    assert "NotFound" in gone.value.kinds


def test_two_served_entities_share_the_requests(sdk: Program) -> None:
    entities = [config(1, 1, name=name)["served_entities"][0] for name in ("big", "small")]
    routes = [
        {"served_entity_name": "big", "traffic_percentage": 100},
        {"served_entity_name": "small", "traffic_percentage": 0},
    ]
    asked = {"served_entities": entities, "traffic_config": {"routes": routes}}
    made = sdk("create_and_wait", name="shared", config=asked, ai_gateway={"fallback_config": {"enabled": True}})
    assert made["ai_gateway"]["fallback_config"] == {"enabled": True}
    assert sdk("query", name="shared", **ASK)["served_model_name"] == "big"
    for route in routes:
        route["traffic_percentage"] = 100 - route["traffic_percentage"]
    changed = sdk("update_config_and_wait", name="shared", config=asked)
    assert [route["traffic_percentage"] for route in changed["config"]["traffic_config"]["routes"]] == [0, 100]
    assert sdk("query", name="shared", **ASK)["served_model_name"] == "small"
    sdk("delete", name="shared")


def test_a_completion_and_embeddings_are_queries_too(sdk: Program) -> None:
    assert sdk("query", name=CHAT, prompt="hello", max_tokens=2)["choices"][0]["text"] == SIMULATED * 2
    answered = sdk("query", name=CHAT, input=["hello", "you"])
    assert len({tuple(found["embedding"]) for found in answered["data"]}) == 2


def test_its_openai_client_chats(sdk: Program) -> None:
    told = sdk("chat_with_its_open_ai_client", name=CHAT, prompt="hello", max_tokens=4)
    assert told == {"whole": SIMULATED * 4, "streamed": SIMULATED * 4, "output_tokens": 4}


def test_tags_are_added_and_removed(sdk: Program) -> None:
    sdk("create_and_wait", name="tagged", config=config(), tags=[{"key": "old", "value": "x"}])
    tags = sdk("patch", name="tagged", add={"new": "y"}, delete=["old"])
    assert tags == {"tags": [{"key": "new", "value": "y"}]}
    assert sdk("get", name="tagged")["tags"] == tags["tags"]
    sdk("delete", name="tagged")


def test_a_model_that_is_sold_in_model_units_is_bought_in_them(sdk: Program) -> None:
    info = sdk("get_model_optimization_info", model="maverick", version="1")
    assert info["optimizable"] and info["model_unit_chunk_size"] == 50 and "throughput_chunk_size" not in info
    asked = {"served_entities": [{"entity_name": "maverick", "entity_version": "1", "provisioned_model_units": 50}]}
    made = sdk("create_provisioned_throughput_endpoint_and_wait", name="units", config=asked)
    assert made["config"]["served_entities"][0]["provisioned_model_units"] == 50
    assert sdk("query", name="units", **ASK)["choices"][0]["message"]["content"] == SIMULATED * 3
    asked["served_entities"][0]["provisioned_model_units"] = 100
    changed = sdk("update_provisioned_throughput_endpoint_config_and_wait", name="units", config=asked)
    assert changed["config"]["served_entities"][0]["provisioned_model_units"] == 100
    asked["served_entities"][0]["provisioned_model_units"] = 75
    with pytest.raises(Raised, match="50 and 100") as odd:
        sdk("update_provisioned_throughput_endpoint_config_and_wait", name="units", config=asked)
    assert "BadRequest" in odd.value.kinds
    sdk("delete", name="units")


def test_a_model_that_is_sold_in_tokens_says_its_chunk(sdk: Program) -> None:
    info = sdk("get_model_optimization_info", model="llama", version="1")
    assert (info["optimizable"], info["throughput_chunk_size"]) == (True, CHUNK)
    assert "model_unit_chunk_size" not in info
    assert info["dbus"] > 0


def test_its_metrics_can_be_exported(sdk: Program) -> None:
    sdk("query", name=CHAT, **ASK)
    lines = sdk("export_metrics", name=CHAT).splitlines()
    samples = [line for line in lines if line and not line.startswith("#")]
    assert samples and all(f'"{CHAT}"' in line for line in samples)


def test_it_describes_itself(sdk: Program) -> None:
    document = sdk("get_open_api", name=CHAT)
    assert document["openapi"].startswith("3.")
    assert f"/serving-endpoints/{CHAT}/invocations" in document["paths"]


def test_what_its_replicas_said_can_be_read(sdk: Program) -> None:
    assert isinstance(sdk("logs", name=CHAT, served="llama-1"), str)
    assert isinstance(sdk("build_logs", name=CHAT, served="llama-1"), str)
    with pytest.raises(Raised, match="no served entity"):
        sdk("logs", name=CHAT, served="nothing")


EXTERNAL = {"name": "gpt-4o", "provider": "openai", "task": "llm/v1/chat"}


@pytest.mark.parametrize(
    ("asked", "kind", "words"),
    [
        (config(1, 1, max_provisioned_throughput=CHUNK + 1), "BadRequest", "whole number of chunks"),
        (config(2, 1), "BadRequest", "above max_provisioned_throughput"),
        (config(model="unknown"), "NotFound", "unknown"),
        (config(1, 1, external_model=EXTERNAL), "BadRequest", "external_model"),
    ],
    ids=["half a chunk", "upside down", "no model", "external model"],
)
def test_what_cannot_be_sold_is_raised(sdk: Program, asked: dict[str, object], kind: str, words: str) -> None:
    with pytest.raises(Raised, match=words) as raised:
        sdk("create_and_wait", name="never", config=asked)
    assert kind in raised.value.kinds


def test_a_name_that_is_taken_is_raised(sdk: Program) -> None:
    with pytest.raises(Raised) as raised:
        sdk("create_and_wait", name=CHAT, config=config())
    assert "ResourceAlreadyExists" in raised.value.kinds
