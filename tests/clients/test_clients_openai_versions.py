"""OpenAI's client and Databricks' build on it, unmodified, in two major versions, against a running server with
simulated replicas."""

from __future__ import annotations

import pytest
from clients_programs import Program, Programs, Raised
from clients_server import CHAT, SIMULATED

ASK = {"model": CHAT, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}

pytestmark = pytest.mark.system


@pytest.fixture(scope="module", params=["2", "3"])
def major(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["/v1", "/serving-endpoints"])
def openai(programs: Programs, major: str, request: pytest.FixtureRequest) -> Program:
    return programs("with_openai", {"2": "databricks", "3": "tests"}[major], request.param)


def test_the_version_is_the_one_meant(openai: Program, major: str) -> None:
    assert openai("version").split(".")[0] == major


def test_a_chat_is_answered_whole_and_in_events(openai: Program) -> None:
    whole = openai("chat", **ASK)
    assert whole["choices"][0]["message"]["content"] == SIMULATED * 3
    assert whole["usage"]["completion_tokens"] == 3
    *events, last = openai("chat_events", **ASK, stream_options={"include_usage": True})
    assert "".join(event["choices"][0]["delta"]["content"] or "" for event in events) == SIMULATED * 3
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 3)


def test_completions_and_embeddings_are_answered(openai: Program) -> None:
    assert openai("completion", model=CHAT, prompt="hello", max_tokens=2)["choices"][0]["text"] == SIMULATED * 2
    found = openai("embeddings", model=CHAT, input=["hello", "you"])
    assert len(found["data"]) == 2 and all(isinstance(one["embedding"][0], float) for one in found["data"])


def test_what_cannot_be_is_raised(openai: Program) -> None:
    with pytest.raises(Raised, match="no endpoint is named 'nothing'") as missing:
        openai("chat", **ASK | {"model": "nothing"})
    assert "NotFoundError" in missing.value.kinds
    with pytest.raises(Raised, match="1 to 4095") as much:
        openai("chat", **ASK | {"max_tokens": 10**6})
    assert "BadRequestError" in much.value.kinds


def test_the_endpoints_are_the_models(programs: Programs, major: str) -> None:
    openai = programs("with_openai", {"2": "databricks", "3": "tests"}[major], "/v1")
    assert CHAT in openai("models")


def test_databricks_openai_chats_and_embeds(programs: Programs) -> None:
    client = programs("with_databricks_openai", "databricks")
    whole = client("chat", **ASK)
    assert whole["choices"][0]["message"]["content"] == SIMULATED * 3
    said = [event["choices"][0]["delta"]["content"] or "" for event in client("chat_events", **ASK)]
    assert "".join(said) == SIMULATED * 3
    assert len(client("embeddings", model=CHAT, input=["hello", "you"])["data"]) == 2
