"""From the first word of ``headrace load`` and ``headrace capacity`` to a target: an endpoint's name, or any URL."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from headrace.cli.connection import ApiError, Connection, ServerGone, connect, path_part
from headrace.cli.errors import CommandError, UsageError

if TYPE_CHECKING:
    from headrace.bench.target import Target, Terms

OPENAI_PATHS = re.compile(r"(/v1)?(/chat/completions|/completions)?/?$")
INVOCATIONS = re.compile(r"(?P<base>.*)/serving-endpoints/(?P<name>[^/]+)(/invocations)?/?$")


SIMULATED = "simulated/"
"""How the simulated engine names what it serves, when it is asked without a Headrace server before it."""


def find_target(word: str, *, model: str | None, url: str | None, key: str | None, data_dir: Path | None) -> Target:
    """``word`` is an endpoint of the server that ``--url`` and the environment name, or a URL with a server of its own.

    Raises CommandError where nothing answers there, or it cannot be told which model is meant.
    """
    if "://" in word:
        if url is not None:
            raise UsageError("the target is a URL already; leave --url out")
        try:
            return _of_url(word, model, key, data_dir)
        except ServerGone as error:
            raise CommandError(f"no load can be put on {word}: {_why(error)}") from None
    if model is not None:
        raise UsageError(f"--model goes with a URL; {word!r} is the name of an endpoint")
    server = connect(url, key, data_dir)
    return _target("headrace", server, word, terms=_headrace_terms(server, word, named=True))


def _of_url(word: str, model: str | None, key: str | None, data_dir: Path | None) -> Target:
    parts = _parts(word)
    origin = f"{parts.scheme}://{parts.netloc}"
    invocations = INVOCATIONS.fullmatch(parts.path)
    if invocations:
        name = unquote(invocations["name"])
        if key is None and not os.environ.get("HEADRACE_API_KEY"):
            key = os.environ.get("DATABRICKS_TOKEN") or None
        server = connect(origin + invocations["base"], key, data_dir)
        path = f"/serving-endpoints/{invocations['name']}/invocations"
        terms = _headrace_terms(server, name)
        if terms.chunk is None:
            return _target("databricks", server, name, terms=_databricks_terms(server, name), path=path)
        return _target("headrace", server, name, terms=terms, path=path)
    server = connect(origin + OPENAI_PATHS.sub("", parts.path), key, data_dir)
    if model is None:
        model = _only_model(server)
    terms = _headrace_terms(server, model)
    return _target("openai" if terms.weights is None else "headrace", server, model, terms=terms)


def _why(gone: ServerGone) -> str:
    """Without the advice to start a server of one's own."""
    return str(gone).partition(";")[0]


def _parts(word: str) -> SplitResult:
    """Raises UsageError, which repeats no password."""
    expected = "expected such as http://127.0.0.1:8000/v1"
    try:
        parts = urlsplit(word)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{word!r} is not the URL of a server ({error}); {expected}") from None
    if parts.username is not None:
        raise UsageError(f"a URL with a name or password in it is not taken; {expected}, and the key by --api-key")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise UsageError(f"{word!r} is not the URL of a server; {expected}")
    if parts.query or parts.fragment:
        raise UsageError(f"{word!r} has a query or fragment, which no request would carry; {expected}")
    return parts


def _target(kind: Any, server: Connection, model: str, *, terms: Terms, path: str | None = None) -> Target:
    from headrace.bench.target import Target  # noqa: PLC0415

    certificate = None if server.cert is None else str(server.cert)
    if model.startswith(SIMULATED):
        terms = replace(terms, simulated=True)
    return Target(kind, server.url, model, server.key, path, terms, server.tls(), certificate)


def _only_model(server: Connection) -> str:
    """The one model that the server lists. Raises CommandError where it is not one."""
    try:
        listed = server.get("/v1/models")
        names = [str(model["id"]) for model in listed["data"]]
    except ServerGone:
        raise
    except (ApiError, LookupError, TypeError) as error:
        if isinstance(error, ApiError) and error.http_status in (401, 403):
            raise CommandError(
                f"{server.url} refuses {'the key' if server.key else 'requests without a key'} ({error}); give its key "
                "by --api-key or HEADRACE_API_KEY"
            ) from None
        raise CommandError(
            f"{server.url}/v1/models {_answered(error)}; expected the models of an OpenAI-compatible server. Is the "
            "URL right, such as http://127.0.0.1:8000/v1? If it is, name the model with --model"
        ) from None
    if len(names) != 1:
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise CommandError(f"{server.url} has {len(names)} models ({shown or 'none'}); name one with --model")
    return names[0]


def _answered(error: Exception) -> str:
    """What came in place of a list of models."""
    if isinstance(error, ApiError):
        return f"answered: {error}"
    return "answered with JSON that lists no models"


def _headrace_terms(server: Connection, endpoint: str, *, named: bool = False) -> Terms:
    """Nothing where the server is no Headrace, or tells this key nothing.

    Raises ApiError where the endpoint was asked for by name, and every request would fail in the same way.
    """
    from headrace.bench.target import Terms  # noqa: PLC0415
    from headrace.policy.work import Weights  # noqa: PLC0415

    try:
        told = server.get(f"/api/headrace/v1/endpoints/{path_part(endpoint)}")
        routed = [entity for entity in told["entities"] if entity["traffic"]]
        chunks = {float(entity["chunk"]) for entity in routed}
        weights = {
            name: sum(entity["weights"][name] * entity["traffic"] / 100 for entity in routed)
            for name in routed[0]["weights"]
        }
        return Terms(
            chunk=chunks.pop() if len(chunks) == 1 else None,
            min_chunks=sum(int(entity["min_chunks"]) for entity in routed),
            max_chunks=sum(int(entity["max_chunks"]) for entity in routed),
            chunks_ready=sum(int(entity["chunks_ready"]) for entity in routed),
            weights=Weights(**weights),
            simulated=bool(told["simulated"]),
            measuring=bool(told.get("measuring")),
            context=min(int(entity["context"]) for entity in routed),
            about=_about(server, routed),
        )
    except (ApiError, LookupError, TypeError, ValueError) as error:
        if named and isinstance(error, ApiError) and error.code in ("RESOURCE_DOES_NOT_EXIST", "UNAUTHENTICATED"):
            raise
        return Terms()


def _about(server: Connection, routed: list[dict[str, Any]]) -> dict[str, str]:
    """What a comparison of two runs must know of the server."""
    told: dict[str, set[Any]] = {
        "engine": {entity.get("engine") for entity in routed},
        "model": {f"{entity.get('model')} version {entity.get('model_version')}" for entity in routed},
        "slots": {entity.get("slots") for entity in routed},
        "chunks ready": {sum(int(entity["chunks_ready"]) for entity in routed)},
    }
    with suppress(ApiError, LookupError, TypeError):
        told["headrace"] = {server.get("/api/headrace/v1/status")["version"]}
    return {name: ", ".join(sorted(map(str, values))) for name, values in told.items()}


def _databricks_terms(server: Connection, endpoint: str) -> Terms:
    """The chunk and range of an endpoint with provisioned throughput; nothing where they are not told."""
    from headrace.bench.target import Terms  # noqa: PLC0415

    try:
        told = server.get(f"/api/2.0/serving-endpoints/{path_part(endpoint)}")
        entity = told["config"]["served_entities"][0]
        name, version = path_part(entity["entity_name"]), path_part(str(entity["entity_version"]))
        about = server.get(f"/api/2.0/serving-endpoints/get-model-optimization-info/{name}/{version}")
        chunk = float(about["throughput_chunk_size"])
        return Terms(
            chunk=chunk,
            min_chunks=round(float(entity["min_provisioned_throughput"]) / chunk),
            max_chunks=round(float(entity["max_provisioned_throughput"]) / chunk),
        )
    except ServerGone:
        raise
    except (ApiError, LookupError, TypeError, ValueError, ZeroDivisionError):
        return Terms()
