"""How to run one replica of a model: the one interface that every engine implements.

A replica is a process. It reads a ``ReplicaSpec`` (JSON) from standard input, loads, warms itself with a request, and
prints one JSON line for each change of its state (``ReplicaReport``). SIGTERM ends it.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec


class EngineTraits(msgspec.Struct, frozen=True):
    """What a gateway must know of an engine's HTTP server; the same fields as ``gateway.snapshot.Traits``."""

    stream_upstream: bool = False
    reuse_after_stream: bool = True
    upstream_model: str | None = None


PACE = ("weights", "program", "url", "upstream_model", "context", "slots", "threads", "gpus")
"""Names of settings; what the engine is given beside them counts too. A further URL serves the same as the first."""

FIRST_VERSION = "1"


def file_stem(name: str, version: str) -> str:
    """Of the files of one version of a model: ``mine``, then ``mine@2``. No name has an @ in it."""
    return name if version == FIRST_VERSION else f"{name}@{version}"


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A model as registered: its weights and how to run them."""

    name: str
    version: str = FIRST_VERSION
    """A whole number: each registration under one name is another version of it."""
    engine: str
    """A name of ``engines.catalogue``."""
    path: str | None = None
    """The artefact on this machine (llamacpp)."""
    sha256: str | None = None
    weights: str | None = None
    """What the program loads: a folder on this machine, or a name at a model hub (vllm, sglang)."""
    program: str | None = None
    """Where the engine's program is, if not on the search path (vllm, sglang)."""
    url: str | None = None
    """Base URL of a server that already runs (openai)."""
    more_urls: tuple[str, ...] = ()
    """Of further servers that serve the same, each as a replica of its own (openai)."""
    api_key_env: str | None = None
    """Environment variable that holds the key of these servers (openai)."""
    upstream_model: str | None = None
    context: int = 4096
    """Tokens per slot."""
    slots: int = 1
    """Requests in flight on a replica."""
    threads: int = 1
    gpus: int = 0
    """Of a replica (vllm, sglang)."""
    default_max_tokens: int = 1024
    units_per_chunk: int | None = None
    """Databricks model units of one chunk, for a model that is sold in them. None: it is sold in tokens/s."""
    engine_args: dict[str, Any] = {}

    @property
    def stem(self) -> str:
        """Of the names of its files."""
        return file_stem(self.name, self.version)

    @property
    def spec(self) -> str:
        """``NAME/VERSION``, as commands take it."""
        return f"{self.name}/{self.version}"

    @property
    def urls(self) -> tuple[str, ...]:
        """Of all servers that already run."""
        return self.more_urls if self.url is None else (self.url, *self.more_urls)

    @property
    def pace(self) -> dict[str, Any]:
        """Settings by name that change what a replica can do, beside its weights' digest: figures that were measured
        with others are of something else."""
        named = {name: getattr(self, name) for name in PACE}
        return {name: value for name, value in (*named.items(), *self.engine_args.items()) if value is not None}


class ReplicaSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica process reads from standard input."""

    replica: str
    model: ModelSettings
    secret: str
    """Bearer token that the replica must ask of every request."""
    cpus: tuple[int, ...] = ()
    gpus: tuple[int, ...] = ()
    """Numbers of those that are its own."""
    cache_prompts: bool = True
    """Off when measuring."""


class ReplicaReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line on standard output of a replica process."""

    state: str
    """``loading``, ``ready`` or ``failed``."""
    url: str | None = None
    load_s: float | None = None
    """From the start of the process to ready."""
    error: str | None = None
    engine_version: str | None = None


class Engine(Protocol):
    """An engine by name; stateless."""

    name: str
    ready_within_s: float
    """A start that takes longer has failed."""

    def traits(self, model: ModelSettings) -> EngineTraits: ...

    def check(self, model: ModelSettings) -> None:
        """Raise ``EngineError`` where the model cannot run here (no file, broken file, package missing)."""

    def argv(self, model: ModelSettings) -> tuple[str, ...]:
        """Command of the replica process, without secrets."""


READY_WITHIN_S = 120.0
"""Enough for weights of a few GiB from a slow disk."""


class EngineError(Exception):
    """A model cannot be run; the message says what was wrong, what was expected and what to do."""
