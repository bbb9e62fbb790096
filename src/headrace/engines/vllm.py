"""vLLM: ``vllm serve``, one process group a replica. Flags as of vLLM 0.33 (checked against 0.30 to 0.33).

https://docs.vllm.ai/en/stable/cli/serve.html
"""

from __future__ import annotations

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

OURS = {
    "model": "the model's weights are set when it is added",
    "host": "a replica listens on 127.0.0.1 alone",
    "port": "the replica's port is chosen at its start",
    "uds": "a replica listens on a port of 127.0.0.1",
    "api-key": "the replica's key is made at its start",
    "served-model-name": "it is the model's name",
    "max-model-len": "set the model's --context",
    "max-num-seqs": "set the model's --slots",
    "tensor-parallel-size": "set the model's --gpus",
    "enable-prefix-caching": "it is on when serving and off when measuring",
    "config": "give each of its settings as an engine argument",
    "enable-log-requests": "it would write prompts to the log",
}


class VllmEngine:
    """The engine ``vllm``."""

    name = "vllm"
    ready_within_s = READY_WITHIN_S
    version_at = ("/version", "version")

    def traits(self, model: ModelSettings) -> EngineTraits:
        # Cancels when the client leaves, keeps connections, tells its usage: a well-behaved server.
        return EngineTraits(upstream_model=model.name)

    def check(self, model: ModelSettings) -> None:
        """Raises EngineError."""
        find_program(model, "vllm", "pip install vllm")
        check_weights(model)
        extra_flags(model, OURS, negatable=True)

    def argv(self, model: ModelSettings) -> tuple[str, ...]:
        return REPLICA

    def launch(self, spec: ReplicaSpec, port: int, folder: Path) -> Launch:
        """See ``ProgramEngine``."""
        model = spec.model
        argv = [find_program(model, "vllm", "pip install vllm"), "serve", check_weights(model)]
        argv += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", model.name]
        argv += ["--max-model-len", str(model.context), "--max-num-seqs", str(model.slots)]
        argv += ["--enable-prompt-tokens-details", "--disable-uvicorn-access-log"]
        argv.append("--enable-prefix-caching" if spec.cache_prompts else "--no-enable-prefix-caching")
        if model.gpus > 1:
            argv += ["--tensor-parallel-size", str(model.gpus)]
        environment = {"VLLM_API_KEY": spec.secret, GPUS_VARIABLE: ",".join(map(str, spec.gpus))}
        if spec.cpus and not model.gpus:
            # Its CPU build would otherwise bind threads to cores by its own view of the machine.
            environment["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, spec.cpus))
        return Launch((*argv, *extra_flags(model, OURS, negatable=True)), environment)
