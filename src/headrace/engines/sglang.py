"""SGLang: ``sglang serve``, one process group a replica. Flags as of SGLang 0.5.23.

https://docs.sglang.io/advanced_features/server_arguments.html
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from headrace.engines.base import ReplicaSpec
from headrace.engines.program import GPUS_VARIABLE, Launch, ProgramEngine, weights_of

OURS = {
    "model-path": "the model's weights are set when it is added",
    "model": "the model's weights are set when it is added",
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


class SglangEngine(ProgramEngine):
    """The engine ``sglang``."""

    name = "sglang"
    install = "pip install sglang"
    version_at = ("/server_info", "version")
    ours = OURS

    def launch(self, spec: ReplicaSpec, port: int, folder: Path) -> Launch:
        """See ``ProgramEngine``."""
        model = spec.model
        argv = [self.program(model), "serve", "--model-path", weights_of(model)]
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
        return Launch((*argv, *self.extra_flags(model)), {GPUS_VARIABLE: ",".join(map(str, spec.gpus))})
