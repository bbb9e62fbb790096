"""SGLang: ``sglang serve``, one process group a replica. Flags as of SGLang 0.5.23.

https://docs.sglang.io/advanced_features/server_arguments.html
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from headrace.engines.base import EngineTraits, ModelSettings, ReplicaSpec
from headrace.engines.program import (
    GPUS_VARIABLE,
    READY_WITHIN_S,
    REPLICA,
    Launch,
    check_weights,
    extra_flags,
    find_program,
)

INSTALL = "pip install sglang"
OURS = {
    "model-path": "the model's weights are set when it is added",
    "model": "the model's weights are set when it is added",
    "host": "a replica listens on 127.0.0.1 alone",
    "port": "the replica's port is chosen at its start",
    "api-key": "the replica's key is made at its start",
    "admin-api-key": "nobody but Headrace speaks to the replica",
    "served-model-name": "it is the model's name",
    "context-length": "set the model's --context",
    "max-running-requests": "set the model's --slots",
    "tensor-parallel-size": "set the model's --gpus",
    "tp-size": "set the model's --gpus",
    "tp": "set the model's --gpus",
    "disable-radix-cache": "the cache is on when serving and off when measuring",
    "config": "give each of its settings as an engine argument",
    "log-requests": "it would write prompts to the log",
}


class SglangEngine:
    """The engine ``sglang``."""

    name = "sglang"
    ready_within_s = READY_WITHIN_S
    version_at = ("/server_info", "version")

    def traits(self, model: ModelSettings) -> EngineTraits:
        return EngineTraits(upstream_model=model.name)

    def check(self, model: ModelSettings) -> None:
        """Raises EngineError."""
        find_program(model, "sglang", INSTALL)
        check_weights(model)
        extra_flags(model, OURS, negatable=False)

    def argv(self, model: ModelSettings) -> tuple[str, ...]:
        return REPLICA

    def launch(self, spec: ReplicaSpec, port: int, folder: Path) -> Launch:
        """See ``ProgramEngine``."""
        model = spec.model
        argv = [find_program(model, "sglang", INSTALL), "serve", "--model-path", check_weights(model)]
        argv += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", model.name]
        argv += ["--context-length", str(model.context), "--max-running-requests", str(model.slots)]
        argv += ["--enable-cache-report", "--log-level-http", "warning"]
        if not spec.cache_prompts:
            argv.append("--disable-radix-cache")
        if model.gpus > 1:
            argv += ["--tp-size", str(model.gpus)]
        elif not model.gpus:
            argv += ["--device", "cpu"]
        # It takes a key from no environment variable. JSON is YAML.
        settings = folder / "settings.yaml"
        with os.fdopen(os.open(settings, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"api-key": spec.secret}, file)
        argv += ["--config", str(settings)]
        environment = {GPUS_VARIABLE: ",".join(map(str, spec.gpus))}
        return Launch((*argv, *extra_flags(model, OURS, negatable=False)), environment)
