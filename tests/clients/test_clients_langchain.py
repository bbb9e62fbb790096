"""``databricks-langchain``, unmodified, against a running server with simulated replicas."""

from __future__ import annotations

import pytest
from clients_programs import Program, Programs, Raised
from clients_server import CHAT, SIMULATED

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def langchain(programs: Programs) -> Program:
    return programs("with_langchain", "databricks")


def test_a_chat_is_answered_with_its_usage(langchain: Program) -> None:
    told = langchain("invoke", endpoint=CHAT, prompt="hello", max_tokens=3)
    assert told["content"] == SIMULATED * 3
    assert told["usage"]["output_tokens"] == 3


def test_a_chat_is_streamed_with_its_usage_at_the_end(langchain: Program) -> None:
    told = langchain("stream", endpoint=CHAT, prompt="hello", max_tokens=3)
    assert "".join(told["contents"]) == SIMULATED * 3
    assert len(told["contents"]) >= 3, "one event a token"
    assert told["usage"]["output_tokens"] == 3


def test_texts_are_embedded(langchain: Program) -> None:
    vectors = langchain("embed", endpoint=CHAT, texts=["hello", "hello", "you"])
    assert vectors[0] == vectors[1] != vectors[2]


def test_an_unknown_endpoint_is_raised(langchain: Program) -> None:
    with pytest.raises(Raised, match="no endpoint is named 'nothing'"):
        langchain("invoke", endpoint="nothing", prompt="hello", max_tokens=3)
