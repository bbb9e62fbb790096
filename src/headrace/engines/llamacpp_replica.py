"""The process of one llama.cpp replica: ``python -m headrace.engines.llamacpp_replica``, a ``ReplicaSpec`` on stdin.

It pins itself to its cores, loads the model into llama.cpp's own HTTP server on a free port of 127.0.0.1, asks of
every request the secret that it was given, warms itself with a request, and then says on stdout that it is ready.
SIGTERM ends it. llama.cpp's own messages go to stderr.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import msgspec

from headrace.engines.base import EngineError, ReplicaReport, ReplicaSpec
from headrace.engines.llamacpp import LlamaCppEngine
from headrace.engines.loopback import ask

BATCH = 256
"""Tokens of prefill between two looks at the queue: bounds both the stall that other streams see and the time until a
cancelled prefill stops (measured: 0.9 s; 7 to 9 s at 2048)."""
ERRORS_ONLY = 1
"""llama.cpp's verbosity. At 4 and above it logs prompts."""
WARM_UP_TIMEOUT_S = 120.0


def main() -> int:
    started = time.monotonic()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor, which then sends SIGTERM
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=ReplicaSpec)
    if spec.cpus:
        os.sched_setaffinity(0, spec.cpus)  # before the engine starts its threads, which inherit it
    say(ReplicaReport(state="loading"))
    try:
        LlamaCppEngine().check(spec.model)
        import xllamacpp  # noqa: PLC0415  (after pinning)

        server = xllamacpp.Server(parameters(spec))
        url = server.listening_address
        warm_up(url, spec.secret)
    except Exception as error:
        say(ReplicaReport(state="failed", error=explain(spec, error)))
        return 1
    say(
        ReplicaReport(
            state="ready",
            url=url,
            load_s=round(time.monotonic() - started, 3),
            engine_version=f"xllamacpp {xllamacpp.__version__}",
        )
    )
    stopping.wait()
    del server  # joins the engine's threads
    return 0


def parameters(spec: ReplicaSpec) -> Any:
    """llama.cpp's parameters for a replica."""
    import xllamacpp  # noqa: PLC0415

    model = spec.model
    p = xllamacpp.CommonParams()
    p.model.path = model.path
    p.model_alias = {model.name}
    p.n_parallel = model.slots
    p.n_ctx = model.slots * model.context  # llama.cpp divides it evenly over the slots
    p.n_batch = p.n_ubatch = BATCH
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = model.threads
    p.cache_prompt = spec.cache_prompts
    p.cache_ram_mib = 0  # a slot's own prefix is the cache; no copies of idle slots in memory
    p.fit_params = False  # run with these parameters or fail, never with quietly smaller ones
    p.ui = False
    p.endpoint_metrics = p.endpoint_slots = True
    p.hostnames, p.port = ["127.0.0.1"], 0
    p.api_keys = [spec.secret]
    p.verbosity = ERRORS_ONLY
    return p


def warm_up(url: str, secret: str) -> None:
    """Answer one short request, so that the first user does not pay for page faults."""
    body = {"prompt": "Water flows", "max_tokens": 4, "ignore_eos": True}
    port = int(url.rpartition(":")[2])
    status, text = ask(port, "POST", "/v1/completions", secret, body, timeout_s=WARM_UP_TIMEOUT_S)
    if status != 200:
        raise RuntimeError(f"the warm-up request was answered {status}: {text[:300]!r}")


def explain(spec: ReplicaSpec, error: Exception) -> str:
    """The reason in words. llama.cpp says no more than that it failed; its log on stderr says why."""
    said = f"model {spec.model.name!r} did not start: {error}"
    if isinstance(error, EngineError):
        return said
    return f"{said}; the replica's log has llama.cpp's own messages (`headrace events --json`)"


def say(report: ReplicaReport) -> None:
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
