"""``databricks-langchain``. Host and token come from Databricks' environment variables."""

from __future__ import annotations

from typing import Any

from answering import answer
from databricks_langchain import ChatDatabricks, DatabricksEmbeddings


def invoke(endpoint: str, prompt: str, max_tokens: int) -> Any:
    told = ChatDatabricks(model=endpoint, max_tokens=max_tokens).invoke(prompt)
    return {"content": told.content, "usage": told.usage_metadata, "about": told.response_metadata}


def stream(endpoint: str, prompt: str, max_tokens: int) -> Any:
    pieces = list(ChatDatabricks(model=endpoint, max_tokens=max_tokens).stream(prompt))
    return {
        "contents": [piece.content for piece in pieces],
        "usage": next((piece.usage_metadata for piece in reversed(pieces) if piece.usage_metadata), None),
    }


def embed(endpoint: str, texts: list[str]) -> list[list[float]]:
    return DatabricksEmbeddings(endpoint=endpoint).embed_documents(texts)


answer(invoke, stream, embed)
