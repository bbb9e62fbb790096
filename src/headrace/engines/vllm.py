"""vLLM: ``vllm serve``, one process group a replica. Flags as of vLLM 0.33 (checked against 0.30 to 0.33).

https://docs.vllm.ai/en/stable/cli/serve.html
"""

from __future__ import annotations

from pathlib import Path

from headrace.engines.base import ReplicaSpec
from headrace.engines.program import GPUS_VARIABLE, Launch, ProgramEngine, weights_of

OURS = {
    "model": "the model's weights are set when it is added",
    "uds": "a replica listens on a port of 127.0.0.1",
    "served-model-name": "it is the model's name",
    "max-model-len": "set the model's --context",
    "max-num-seqs": "set the model's --slots",
    "tensor-parallel-size": "set the model's --gpus",
    "enable-prefix-caching": "it is on when serving and off when measuring",
    "config": "give each of its settings as an engine argument",
    "enable-log-requests": "it would write prompts to the log",
}


class VllmEngine(ProgramEngine):
    """The engine ``vllm``."""

    name = "vllm"
    install = "pip install vllm"
    version_at = ("/version", "version")
    negatable = True
    ours = OURS

    def launch(self, spec: ReplicaSpec, port: int, folder: Path) -> Launch:
        """See ``ProgramEngine``."""
        model = spec.model
        argv = [self.program(model), "serve", weights_of(model)]
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
        return Launch((*argv, *self.extra_flags(model)), environment)
