"""MLflow's deployments client, unmodified, against a running server with simulated replicas."""

from __future__ import annotations

import pytest
from clients_programs import Program, Programs, Raised
from clients_server import CHAT, CHUNK, SIMULATED, config
from system_server import Server, until

ASK = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def mlflow(programs: Programs) -> Program:
    return programs("with_mlflow", "databricks")


def wait_until_settled(mlflow: Program, endpoint: str, what: str) -> None:
    def settled() -> bool:
        return bool(mlflow("get_endpoint", endpoint=endpoint)["state"]["config_update"] == "NOT_UPDATING")

    until(settled, within_s=30, what=what)


def test_an_endpoint_is_made_asked_changed_and_deleted(mlflow: Program, served: Server) -> None:
    made = mlflow(
        "create_endpoint", config={"name": "flow", "config": config(1, 1), "tags": [{"key": "a", "value": "b"}]}
    )
    assert (made["name"], made["tags"]) == ("flow", [{"key": "a", "value": "b"}])

    wait_until_settled(mlflow, "flow", "the endpoint is ready")
    answered = mlflow("predict", endpoint="flow", inputs=ASK)
    assert answered["choices"][0]["message"]["content"] == SIMULATED * 3
    assert answered["usage"]["completion_tokens"] == 3

    mlflow("update_endpoint_config", endpoint="flow", config=config(1, 2))
    wait_until_settled(mlflow, "flow", "the new range holds")
    entity = mlflow("get_endpoint", endpoint="flow")["config"]["served_entities"][0]
    assert entity["max_provisioned_throughput"] == 2 * CHUNK

    assert {"flow", CHAT} <= set(mlflow("names"))
    mlflow("delete_endpoint", endpoint="flow")
    assert "flow" not in mlflow("names")


def test_the_older_forms_of_create_and_update_work_too(mlflow: Program) -> None:
    made = mlflow("create_endpoint", name="older", config=config())
    assert made["name"] == "older"
    wait_until_settled(mlflow, "older", "the endpoint is ready")
    mlflow("update_endpoint", endpoint="older", config=config(0, 2))
    mlflow("delete_endpoint", endpoint="older")


def test_a_stream_is_read_to_its_end(mlflow: Program) -> None:
    events = mlflow("predict_stream", endpoint=CHAT, inputs=ASK)
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"]) == (
        SIMULATED * 3
    )
    assert events[-1]["usage"]["completion_tokens"] == 3


def test_embeddings_are_predicted(mlflow: Program) -> None:
    answered = mlflow("predict", endpoint=CHAT, inputs={"input": ["hello", "you"]})
    assert len(answered["data"]) == 2


def test_tags_and_the_ai_gateway_are_changed(mlflow: Program) -> None:
    mlflow("create_endpoint", config={"name": "flags", "config": config()})
    mlflow("update_endpoint_tags", endpoint="flags", config={"add_tags": [{"key": "k", "value": "v"}]})
    limits = [{"calls": 100, "key": "user", "renewal_period": "minute"}]
    gateway = mlflow("update_endpoint_ai_gateway", endpoint="flags", config={"rate_limits": limits})
    assert gateway["rate_limits"] == limits
    told = mlflow("get_endpoint", endpoint="flags")
    assert told["tags"] == [{"key": "k", "value": "v"}]
    assert told["ai_gateway"]["rate_limits"] == limits
    limits[0]["calls"] = 50
    assert (
        mlflow("update_endpoint_rate_limits", endpoint="flags", config={"rate_limits": limits})["rate_limits"] == limits
    )
    mlflow("delete_endpoint", endpoint="flags")


def test_what_is_not_there_is_raised(mlflow: Program) -> None:
    with pytest.raises(Raised, match="no endpoint is named 'nothing'"):
        mlflow("predict", endpoint="nothing", inputs=ASK)
