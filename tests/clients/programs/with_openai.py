"""``openai``. URL and key come from its environment variables."""

from __future__ import annotations

from typing import Any

import openai
from answering import answer
from openai import OpenAI

client = OpenAI(max_retries=0, timeout=60)


def version() -> str:
    return openai.__version__


def models() -> list[str]:
    return sorted(model.id for model in client.models.list())


def chat(**asked: Any) -> Any:
    return client.chat.completions.create(**asked).model_dump()


def chat_events(**asked: Any) -> list[Any]:
    with client.chat.completions.create(**asked, stream=True) as events:
        return [event.model_dump() for event in events]


def completion(**asked: Any) -> Any:
    return client.completions.create(**asked).model_dump()


def embeddings(**asked: Any) -> Any:
    return client.embeddings.create(**asked).model_dump()


answer(version, models, chat, chat_events, completion, embeddings)
