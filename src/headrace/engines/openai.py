"""A server that already runs and speaks OpenAI's HTTP API: vLLM, SGLang, llama-server or any other, by its base URL.

There is no process to start: the server is its owner's, and so are its cores, its memory and its life.
"""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from headrace.engines.base import EngineError, EngineTraits, ModelSettings

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class OpenAIEngine:
    """The engine ``openai``."""

    name = "openai"

    def traits(self, model: ModelSettings) -> EngineTraits:
        return EngineTraits(upstream_model=model.upstream_model)

    def check(self, model: ModelSettings) -> None:
        """The settings alone; whether the server answers is the fleet's to watch. Raises EngineError."""
        if model.url is None:
            raise EngineError("a model of the engine openai needs a URL, such as http://127.0.0.1:8000")
        try:
            parts = urlsplit(model.url)
            _ = parts.port
        except ValueError as error:
            raise EngineError(f"{model.url!r} is not a URL: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EngineError(f"{model.url!r} is not a base URL; expected http://HOST:PORT or https://HOST")
        if parts.username or parts.password:
            raise EngineError("the URL holds a user name or password; put the key in an environment variable instead")
        if parts.path.rstrip("/").endswith("/v1"):
            raise EngineError(f"give the URL without /v1: {model.url.rstrip('/').removesuffix('/v1')}")
        if model.api_key_env is not None and not VARIABLE.fullmatch(model.api_key_env):
            # Not repeated: somebody may have pasted the key itself.
            raise EngineError("the API key setting is not the name of an environment variable, such as VLLM_API_KEY")

    def key(self, model: ModelSettings) -> str:
        """The server's key, from this process's environment; empty where the model needs none. Raises EngineError."""
        if model.api_key_env is None:
            return ""
        key = os.environ.get(model.api_key_env, "")
        if not key:
            raise EngineError(
                f"the environment variable {model.api_key_env} is not set; it should hold the server's key"
            )
        return key

    def argv(self, model: ModelSettings) -> tuple[str, ...]:
        raise EngineError(f"model {model.name!r} is a server that already runs; there is nothing to start")
