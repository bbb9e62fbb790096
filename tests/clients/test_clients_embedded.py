"""The client libraries once more, with a real model behind: the engine of every server that has no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clients_programs import Programs
from system_server import Server

from headrace.engines.base import ModelSettings

NAME = "real"
ASK = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8}

pytestmark = [pytest.mark.system, pytest.mark.engine]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, smollm2: ModelSettings) -> Iterator[Programs]:
    """Programs for a server with one chunk of the model, which databricks-sdk has bought."""
    with (
        Server(tmp_path_factory.mktemp("embedded") / "data") as server,
        Programs(server, tmp_path_factory.mktemp("programs")) as programs,
    ):
        sdk = programs("with_databricks_sdk", "tests")
        chunk = sdk("get_model_optimization_info", model=smollm2.name, version="1")["throughput_chunk_size"]
        entity = {
            "entity_name": smollm2.name,
            "entity_version": "1",
            "min_provisioned_throughput": chunk,
            "max_provisioned_throughput": chunk,
        }
        sdk("create_and_wait", name=NAME, config={"served_entities": [entity]})
        yield programs


def test_databricks_sdk(real: Programs) -> None:
    sdk = real("with_databricks_sdk", "tests")
    answered = sdk("query", name=NAME, **ASK)
    assert answered["choices"][0]["message"]["content"]
    assert 0 < answered["usage"]["completion_tokens"] <= 8
    told = sdk("chat_with_its_open_ai_client", name=NAME, prompt="Say hello.", max_tokens=8)
    assert told["whole"] and told["streamed"]


def test_mlflow(real: Programs) -> None:
    mlflow = real("with_mlflow", "databricks")
    assert mlflow("predict", endpoint=NAME, inputs=ASK)["choices"][0]["message"]["content"]
    events = mlflow("predict_stream", endpoint=NAME, inputs=ASK)
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])
    assert 0 < events[-1]["usage"]["completion_tokens"] <= 8


def test_databricks_openai(real: Programs) -> None:
    client = real("with_databricks_openai", "databricks")
    assert client("chat", model=NAME, **ASK)["choices"][0]["message"]["content"]
    assert client("chat_events", model=NAME, **ASK)


def test_langchain(real: Programs) -> None:
    langchain = real("with_langchain", "databricks")
    told = langchain("invoke", endpoint=NAME, prompt="Say hello.", max_tokens=8)
    assert told["content"] and 0 < told["usage"]["output_tokens"] <= 8
    assert "".join(langchain("stream", endpoint=NAME, prompt="Say hello.", max_tokens=8)["contents"])
