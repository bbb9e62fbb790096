"""``databricks-openai``. Host and token come from Databricks' environment variables."""

from __future__ import annotations

from typing import Any

from answering import answer
from databricks_openai import DatabricksOpenAI

client = DatabricksOpenAI()


def chat(**asked: Any) -> Any:
    return client.chat.completions.create(**asked).model_dump()


def chat_events(**asked: Any) -> list[Any]:
    return [event.model_dump() for event in client.chat.completions.create(**asked, stream=True)]


def embeddings(**asked: Any) -> Any:
    return client.embeddings.create(**asked).model_dump()


answer(chat, chat_events, embeddings)
