"""A server that already runs and speaks OpenAI's HTTP API: vLLM, SGLang, llama-server or any other, by its base URL.

There is no process to start: the server is its owner's, and so are its cores, its memory and its life.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from headrace.engines.base import READY_WITHIN_S, EngineError, EngineTraits, ModelSettings

ANSWER_S = 5.0
MOST_BYTES = 1 << 20
"""Of a list of models."""
SERVER = "server"
"""Engine argument: which program the server is, where that matters."""
LLAMA_SERVER = "llama-server"
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class OpenAIEngine:
    """The engine ``openai``."""

    name = "openai"
    ready_within_s = READY_WITHIN_S

    def traits(self, model: ModelSettings) -> EngineTraits:
        if model.engine_args.get(SERVER) == LLAMA_SERVER:
            # As the embedded engine, which is the same server.
            return EngineTraits(stream_upstream=True, reuse_after_stream=False, upstream_model=model.upstream_model)
        return EngineTraits(upstream_model=model.upstream_model)

    def check(self, model: ModelSettings) -> None:
        """The settings alone; whether the server answers is the fleet's to watch. Raises EngineError."""
        if not model.urls:
            raise EngineError("a model of the engine openai needs a URL, such as http://127.0.0.1:8000")
        for url in model.urls:
            _check(url)
        if len(set(model.urls)) < len(model.urls):
            raise EngineError("a URL is given twice; each server is one replica")
        if model.engine_args not in ({}, {SERVER: LLAMA_SERVER}):
            raise EngineError(
                f"the engine openai takes one engine argument, {SERVER}={LLAMA_SERVER}: other settings are those of "
                "the server itself"
            )
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


def _check(url: str) -> None:
    """Raises EngineError."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise EngineError(f"{url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EngineError(f"{url!r} is not a base URL; expected http://HOST:PORT or https://HOST")
    if parts.username or parts.password:
        raise EngineError("the URL holds a user name or password; put the key in an environment variable instead")
    if parts.path.rstrip("/").endswith("/v1"):
        raise EngineError(f"give the URL without /v1: {url.rstrip('/').removesuffix('/v1')}")


def problem_of(url: str, key: str, upstream_model: str | None = None) -> str | None:
    """Why the server cannot serve now; None where it can. Blocks for up to ``ANSWER_S``.

    ``/v1/models`` asks for the key too, and names what is served; a server without it may have ``/health``.
    """
    try:
        status, body = _get(f"{url}/v1/models", key)
        if status == HTTPStatus.NOT_FOUND:
            status, body = _get(f"{url}/health", key)[0], b""
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"{url} does not answer: {getattr(error, 'reason', error)}"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return f"{url} refuses the key (it answered {status})"
    if status != HTTPStatus.OK:
        return f"{url} answered {status}"
    served = _names(body)
    if upstream_model is not None and served and upstream_model not in served:
        return f"{url} serves {', '.join(served[:5])}, not {upstream_model!r}; add the model with --upstream-model"
    return None


def look_at(url: str, key: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """What the server calls the models that it serves, and the engine arguments that fit it; nothing of one that does
    not answer. Blocks for up to ``ANSWER_S``.
    """
    try:
        status, body = _get(f"{url}/v1/models", key)
    except (OSError, ValueError, http.client.HTTPException):
        return (), {}
    models = _models(body) if status == HTTPStatus.OK else []
    llama = bool(models) and all(model.get("owned_by") == "llamacpp" for model in models)
    return tuple(str(model["id"]) for model in models), {SERVER: LLAMA_SERVER} if llama else {}


def _names(body: bytes) -> tuple[str, ...]:
    return tuple(str(model["id"]) for model in _models(body))


def _models(body: bytes) -> list[dict[str, Any]]:
    """Of an answer of ``/v1/models``; none where it is no such answer."""
    try:
        found = json.loads(body)["data"]
        return [model for model in found if isinstance(model, dict) and "id" in model]
    except (ValueError, KeyError, TypeError):
        return []


def _get(url: str, key: str) -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            return int(answer.status), answer.read(MOST_BYTES)
    except urllib.error.HTTPError as error:
        return error.code, b""
