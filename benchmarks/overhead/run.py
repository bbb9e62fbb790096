"""What Headrace costs over the bare engine, and whether the range binds where it should.

Row 1: one fixed replica of the real engine with four slots, a range far above the load; 128/64 requests (64/32 in a
quick run) from four users in a closed loop, in turn through Headrace and straight to an equal replica on the same core:
the ratio of input + output tokens/s. Row 2: the same replica behind a range below what it can do: work served over time
against the range's maximum.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))
from pairs import ratio

from headrace.bench.client.records import Outcome
from headrace.bench.client.run import Run
from headrace.bench.client.spec import ClientSpec
from headrace.bench.workload.spec import Amount, ClosedLoop, LoadSpec, Synthetic, Uniform
from headrace.cli.connection import Connection
from headrace.engines.base import ModelSettings
from headrace.fleet.spawn import OwnReplica, start_replica
from headrace.models.pull import pull
from headrace.models.registry import Registry
from headrace.profiles.files import save, shipped
from headrace.profiles.hardware import this_machine

MODEL = "smollm2-135m-instruct"
QUICK = bool(os.environ.get("QUICK"))
USERS = SLOTS = 4
INPUT_TOKENS, OUTPUT_TOKENS = (64, 32) if QUICK else (128, 64)
CONTEXT = 512
PAIRS = 6 if QUICK else 10
REQUESTS_A_BLOCK = 4 if QUICK else 12
FAR_ABOVE = 100_000
"""Reference tokens/s: no limit that this engine could reach."""
BELOW = 60
"""Reference tokens/s: well below what the engine does."""
BINDING_S = 15 if QUICK else 60
RATIO_TARGET, BINDING_TARGET = 0.95, 0.02


Target = tuple[str, str | None, str]
"""URL, key and the name of the endpoint or model."""


@contextlib.contextmanager
def server(data: Path) -> Iterator[Connection]:
    """``headrace serve`` on a free port; stopped at the end."""
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("headrace")), "serve", "--port", "0", "--data-dir", str(data), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=data.parent,
    )
    try:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        yield Connection(started["url"], Path(started["admin_key_file"]).read_text().strip())
    finally:
        process.terminate()
        process.wait(60)


def register(data: Path, path: Path, name: str, chunk: int) -> ModelSettings:
    """The same weights under a name of its own, with a profile made up for this benchmark: only its chunk matters."""
    model = Registry(data / "models").add(name, gguf=path, context=CONTEXT, slots=SLOTS)
    profile = shipped(MODEL)
    assert profile is not None
    save(
        data / "profiles" / f"{name}.json",
        msgspec.structs.replace(
            profile,
            id=f"{name}-overhead-benchmark",
            model=name,
            model_sha256=model.sha256,
            chunk=chunk,
            slots=SLOTS,
            method="chunk made up for the overhead benchmark",
            hardware=this_machine(),
        ),
    )
    return model


def create(api: Connection, endpoint: str, model: str, chunk: int) -> dict[str, Any]:
    """An endpoint of one fixed chunk, once it is ready."""
    api.post(
        "/api/2.0/serving-endpoints",
        {
            "name": endpoint,
            "config": {
                "served_entities": [
                    {
                        "entity_name": model,
                        "entity_version": "1",
                        "min_provisioned_throughput": chunk,
                        "max_provisioned_throughput": chunk,
                    }
                ]
            },
        },
    )
    for _ in range(600):
        told: dict[str, Any] = api.get(f"/api/headrace/v1/endpoints/{endpoint}")
        if told["chunks_ready"] == 1:
            return told
        time.sleep(0.05)
    raise RuntimeError(f"{endpoint} was not ready in 30 s: {told}")


def load(url: str, key: str | None, model: str, seed: int, amount: Amount) -> ClientSpec:
    """Four users in a closed loop, each prompt a new one."""
    lengths = Synthetic(input=Uniform(INPUT_TOKENS, INPUT_TOKENS), output=Uniform(OUTPUT_TOKENS, OUTPUT_TOKENS))
    spec = LoadSpec(model=model, source=lengths, arrivals=ClosedLoop(users=USERS), amount=amount, seed=seed)
    return ClientSpec(load=spec, url=url, key=key)


async def block(target: Target, seed: int, requests: int) -> float:
    """Input + output tokens/s of one block of requests from four users."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(load(*target, seed, Amount(requests=requests)), Path(folder))
        await run.start()
        records = await run.finish()
    answered = records.requests[records.requests["outcome"] == Outcome.OK]
    if len(answered) != requests:
        raise RuntimeError(f"{requests - len(answered)} of {requests} requests failed: {records.errors}")
    return float((answered["input_tokens"] + answered["output_tokens"]).sum() / answered["end_s"].max())


async def compare(ours: Target, bare: Target) -> dict[str, Any]:
    """Interleaved pairs; which side goes first alternates."""
    for warm in (ours, bare):
        await block(warm, 1_000_000, USERS)
    rates: dict[str, list[float]] = {"headrace": [], "bare": []}
    for pair in range(PAIRS):
        sides = [("headrace", ours), ("bare", bare)]
        for name, target in sides if pair % 2 else reversed(sides):
            rates[name].append(await block(target, pair, REQUESTS_A_BLOCK))
        print(f"  pair {pair + 1}/{PAIRS}: {rates['headrace'][-1]:.1f} / {rates['bare'][-1]:.1f} tokens/s", flush=True)
    outcome = ratio(rates["headrace"], rates["bare"])
    print(f"through Headrace / bare engine, input + output tokens/s: {outcome}; target: low bound >= {RATIO_TARGET}")
    return {"rates": rates, "ratio": asdict(outcome), "met": outcome.low >= RATIO_TARGET}


async def binding(api: Connection, target: Target, endpoint: str) -> dict[str, Any]:
    """Work served between two completions while the limiter has no room, over the time between them."""
    started_ms = time.time_ns() // 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        run = Run(load(*target, 7, Amount(duration_s=600)), Path(folder))
        await run.start()
        bound_ms = await _bound(api, endpoint)
        await asyncio.sleep(BINDING_S)
        await run.stop(abort=True)
        await run.finish()
    await asyncio.sleep(2.0)  # the ledger reads the journal every now and then
    path = f"/api/headrace/v1/usage?endpoint={endpoint}&group=request&from_ms={started_ms}"
    rows = sorted((row for row in api.get(path)["rows"] if row["outcome"] == "ok"), key=lambda row: row["settled_ms"])
    rows = [row for row in rows if row["settled_ms"] > bound_ms]
    seconds = (rows[-1]["settled_ms"] - rows[0]["settled_ms"]) / 1000
    served = sum(row["work"] for row in rows[1:]) / seconds
    error = served / BELOW - 1
    print(
        f"range binding: {served:.2f} reference tokens/s served of a maximum of {BELOW} over {seconds:.0f} s and "
        f"{len(rows)} requests: {error:+.2%}; target: within {BINDING_TARGET:.0%}"
    )
    return {
        "served_reference_tokens_per_s": served,
        "maximum": BELOW,
        "seconds": seconds,
        "requests": len(rows),
        "error": error,
        "met": abs(error) <= BINDING_TARGET,
    }


async def _bound(api: Connection, endpoint: str) -> int:
    """Unix time in milliseconds, from when on the range binds: the burst is given away, and requests wait although
    slots
    are free."""
    bound = 0
    while bound < 4:
        await asyncio.sleep(0.5)
        gauges = (await asyncio.to_thread(api.get, f"/api/headrace/v1/endpoints/{endpoint}"))["gauges"]
        bound = bound + 1 if gauges["queued"] and gauges["in_flight"] < SLOTS else 0
    return time.time_ns() // 1_000_000


async def main() -> None:
    path = pull(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        free = register(data, path, "free", FAR_ABOVE)
        register(data, path, "bound", BELOW)
        with server(data) as api:
            endpoint = create(api, "free", "free", FAR_ABOVE)
            cpus = endpoint["replicas"][0]["cpus"]
            bare: OwnReplica = await start_replica(free, cpus=cpus, log=Path(folder) / "bare.log", cache_prompts=True)
            try:
                compared = await compare((api.url, api.key, "free"), (bare.url, bare.secret, "free"))
            finally:
                await bare.stop()
            api.delete("/api/2.0/serving-endpoints/free")
            create(api, "bound", "bound", BELOW)
            bound = await binding(api, (api.url, api.key, "bound"), "bound")
    results = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": QUICK,
        "machine": msgspec.to_builtins(this_machine()) | {"system": platform.platform()},
        "overhead": compared,
        "binding": bound,
    }
    Path(__file__).with_name("results.json").write_text(json.dumps(results, indent=2) + "\n")
    sys.exit(0 if compared["met"] and bound["met"] else 1)


if __name__ == "__main__":
    asyncio.run(main())
