"""The embedded engine: llama.cpp's own HTTP server, from the package xllamacpp, one process a replica."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from headrace.engines.base import READY_WITHIN_S, EngineError, EngineTraits, ModelSettings
from headrace.models.gguf_file import GGUFError, Header, read_header

GIB = 1 << 30
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


class LlamaCppEngine:
    """The engine ``llamacpp``."""

    name = "llamacpp"
    ready_within_s = READY_WITHIN_S

    def traits(self, model: ModelSettings) -> EngineTraits:
        # Without progress events a prefill cannot be cancelled (measured: 9 s until the slot is free, against 0.7 s),
        # and a connection that carried a stream may be closed under the next request (10 of 40).
        return EngineTraits(stream_upstream=True, reuse_after_stream=False)

    def check(self, model: ModelSettings) -> None:
        """The package is here, the file is whole, and the model fits it and the machine. Raises EngineError."""
        if importlib.util.find_spec("xllamacpp") is None:
            raise EngineError("the embedded engine is not installed; run `pip install 'headrace[embedded]'`")
        if model.path is None:
            raise EngineError("a model of the engine llamacpp needs the path of a GGUF file")
        path = Path(model.path)
        if not path.is_file():
            raise EngineError(f"there is no file {path}; pull or add the model again")
        try:
            header = read_header(path)
        except GGUFError as error:
            raise EngineError(str(error)) from None
        if model.context > header.context_length:
            raise EngineError(
                f"context is {model.context:,} tokens, but {path.name} was trained with {header.context_length:,}; "
                f"set it to {header.context_length:,} or less"
            )
        cores = len(os.sched_getaffinity(0))
        if model.threads > cores:
            raise EngineError(f"threads is {model.threads}, but this machine has {cores} cores to use")
        needed, memory = memory_needed(header, model), physical_memory()
        if needed > memory:
            raise EngineError(
                f"{model.slots} slots of {model.context:,} tokens need about {needed / GIB:.1f} GiB with the weights, "
                f"and this machine has {memory / GIB:.1f} GiB; use a smaller context or fewer slots"
            )

    def argv(self, model: ModelSettings) -> tuple[str, ...]:
        # -P: a file of the working folder must not pass for one of our modules.
        return (sys.executable, "-P", "-m", "headrace.engines.llamacpp_replica")


def memory_needed(header: Header, model: ModelSettings) -> int:
    """Bytes for weights and for keys and values in half precision; what is not in the header counts as nothing."""
    meta, kind = header.metadata, header.architecture
    layers = int(meta.get(f"{kind}.block_count", 0))
    heads = int(meta.get(f"{kind}.attention.head_count", 1))
    heads_kv = int(meta.get(f"{kind}.attention.head_count_kv", heads))
    head = int(meta.get(f"{kind}.attention.key_length", int(meta.get(f"{kind}.embedding_length", 0)) // max(heads, 1)))
    per_token = 2 * layers * heads_kv * head * 2
    weights = sum(tensor.nbytes or 0 for tensor in header.tensors)
    return weights + per_token * model.context * model.slots


def physical_memory() -> int:
    """Bytes of memory that this process may use at most: the machine's, or its container's where that is less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(machine, int(CONTAINER_LIMIT.read_text()))
    except (OSError, ValueError):  # no such limit, or the word "max"
        return machine
