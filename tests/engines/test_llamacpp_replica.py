"""One real llama.cpp replica: what the rest of Headrace relies on, and every trap that was found."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from headrace.engines.base import EngineError, ModelSettings
from headrace.fleet.spawn import OwnReplica, start_replica

pytestmark = pytest.mark.engine

CONTEXT = 2304
STREAM = {"stream": True, "return_progress": True, "stream_options": {"include_usage": True}}


@pytest.fixture
def model(smollm2: ModelSettings) -> ModelSettings:
    return msgspec.structs.replace(smollm2, context=CONTEXT, slots=2)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "replica.log"


@pytest.fixture
async def replica(model: ModelSettings, log: Path) -> AsyncIterator[OwnReplica]:
    replica = await start_replica(model, cpus=(min(os.sched_getaffinity(0)),), log=log)
    yield replica
    await replica.stop()


@pytest.fixture
async def client(replica: OwnReplica) -> AsyncIterator[httpx.AsyncClient]:
    # Connection: close, as the gateway does for this engine after a stream.
    headers = {"Authorization": f"Bearer {replica.secret}", "Connection": "close"}
    async with httpx.AsyncClient(base_url=replica.url, headers=headers, timeout=60) as client:
        yield client


async def _events(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    events = []
    async with client.stream("POST", path, json={**body, **STREAM}) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                events.append(json.loads(line[6:]))
    return events


async def _busy_slots(client: httpx.AsyncClient) -> int:
    return sum(slot["is_processing"] for slot in (await client.get("/slots")).json())


async def test_a_replica_is_quick_to_start_and_sits_on_its_core(replica: OwnReplica) -> None:
    assert replica.load_s is not None and replica.load_s < 20
    assert os.sched_getaffinity(replica.pid) == set(replica.cpus)
    tasks = os.listdir(f"/proc/{replica.pid}/task")
    assert all(os.sched_getaffinity(int(task)) == set(replica.cpus) for task in tasks)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/completions"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/completion"),
        ("POST", "/tokenize"),
        ("POST", "/apply-template"),
        ("GET", "/v1/models"),
        ("GET", "/slots"),
        ("GET", "/metrics"),
        ("GET", "/props"),
    ],
)
async def test_without_the_secret_nothing_is_answered(replica: OwnReplica, method: str, path: str) -> None:
    body = {"prompt": "x", "messages": [{"role": "user", "content": "x"}], "content": "x", "max_tokens": 1}
    async with httpx.AsyncClient(base_url=replica.url) as stranger:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            answer = await stranger.request(method, path, json=body if method == "POST" else None, headers=headers)
            assert answer.status_code == 401


async def test_it_listens_on_loopback_alone(replica: OwnReplica) -> None:
    assert replica.url.startswith("http://127.0.0.1:")
    port = int(replica.url.rsplit(":", 1)[1])
    listeners = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].rsplit(":", 1)[1], 16) == port
    ]
    assert listeners == [f"0100007F:{port:04X}"]


async def test_each_slot_has_the_whole_context_of_the_model(client: httpx.AsyncClient) -> None:
    slots = (await client.get("/slots")).json()
    assert [slot["n_ctx"] for slot in slots] == [CONTEXT, CONTEXT]


async def test_usage_counts_the_tokens_that_were_asked_for(client: httpx.AsyncClient) -> None:
    events = await _events(
        client, "/v1/completions", {"prompt": list(range(500, 900)), "max_tokens": 7, "ignore_eos": True}
    )
    usage = [event["usage"] for event in events if event.get("usage")]
    assert [(u["prompt_tokens"], u["completion_tokens"]) for u in usage] == [(400, 7)]


async def test_chat_applies_the_template_and_ends_with_usage(client: httpx.AsyncClient) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "ignore_eos": True}
    events = await _events(client, "/v1/chat/completions", body)
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] == 5
    assert events[-1]["usage"]["prompt_tokens"] > 20  # the system message of the template


async def test_progress_events_are_told_by_their_key_and_come_before_content(client: httpx.AsyncClient) -> None:
    events = await _events(client, "/v1/completions", {"prompt": list(range(500, 1100)), "max_tokens": 2})
    progress = [event["prompt_progress"]["processed"] for event in events if "prompt_progress" in event]
    assert progress == [0, 256, 512, 600]
    assert all("prompt_progress" in event for event in events[: len(progress)])


@pytest.mark.parametrize("after_events", [1, 25])
async def test_a_stream_that_is_closed_frees_its_slot_in_prefill_and_in_decode(
    client: httpx.AsyncClient, after_events: int
) -> None:
    prompt = list(range(500, 2500)) if after_events == 1 else [500]
    body = {"prompt": prompt, "max_tokens": 200, "ignore_eos": True, **STREAM}
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        lines = answer.aiter_lines()
        for _ in range(after_events):
            await anext(lines)
        assert await _busy_slots(client) == 1
    closed = time.monotonic()
    while await _busy_slots(client):
        assert time.monotonic() - closed < 3.0
        await asyncio.sleep(0.02)


async def test_a_prompt_beyond_the_context_is_a_clean_400_with_both_counts(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/completions", json={"prompt": [500] * 3000, "max_tokens": 1, **STREAM})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["n_prompt_tokens"], error["n_ctx"]) == ("exceed_context_size_error", 3000, CONTEXT)


async def test_prompts_are_not_in_the_log(client: httpx.AsyncClient, log: Path) -> None:
    secret = "MARKER77"
    for path, body in (
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": secret}], "max_tokens": 1}),
        ("/v1/chat/completions", {"messages": [{"content": secret}]}),
        ("/v1/completions", {"prompt": f"{secret} " * 3000}),
        ("/v1/completions", {"prompt": {"text": secret}}),
    ):
        await client.post(path, json=body)
    await client.post("/v1/completions", content='{"prompt": "' + secret)
    assert log.exists()  # the prompt beyond the context is logged as an error, without its text
    assert secret not in log.read_text()


@pytest.mark.parametrize(("cache_prompts", "cached"), [(True, 299), (False, 0)])
async def test_prompts_are_cached_when_serving_and_not_when_measuring(
    model: ModelSettings, log: Path, cache_prompts: bool, cached: int
) -> None:
    replica = await start_replica(model, log=log, cache_prompts=cache_prompts)
    try:
        async with httpx.AsyncClient(
            base_url=replica.url, headers={"Authorization": f"Bearer {replica.secret}"}, timeout=60
        ) as client:
            body = {"prompt": list(range(500, 800)), "max_tokens": 1}
            answers = [(await client.post("/v1/completions", json=body)).json()["usage"] for _ in range(2)]
        assert answers[1]["prompt_tokens_details"]["cached_tokens"] == cached
    finally:
        await replica.stop()


async def test_a_replica_ends_cleanly_when_asked(model: ModelSettings, log: Path) -> None:
    replica = await start_replica(model, log=log)
    started = time.monotonic()
    await replica.stop()
    assert time.monotonic() - started < 3
    assert replica.exited.is_set()
    assert not Path(f"/proc/{replica.pid}").exists()


def test_a_replica_dies_with_its_parent(smollm2: ModelSettings, tmp_path: Path) -> None:
    parent = """
import asyncio, sys
from pathlib import Path
import msgspec
from headrace.engines.base import ModelSettings
from headrace.fleet.spawn import start_replica

async def main():
    model = msgspec.json.decode(sys.argv[1], type=ModelSettings)
    replica = await start_replica(model, log=Path(sys.argv[2]))
    print(replica.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    settings = msgspec.json.encode(smollm2).decode()
    with subprocess.Popen(
        [sys.executable, "-c", parent, settings, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        replica = os.pidfd_open(int(process.stdout.readline()))
        process.send_signal(signal.SIGKILL)
    poll = select.poll()
    poll.register(replica, select.POLLIN)
    assert poll.poll(2000)
    os.close(replica)


async def test_a_corrupt_file_fails_with_words_and_leaves_nothing(
    smollm2: ModelSettings, tmp_path: Path, log: Path
) -> None:
    assert smollm2.path is not None
    with open(smollm2.path, "rb") as whole:
        (tmp_path / "cut.gguf").write_bytes(whole.read(3_000_000))
    model = msgspec.structs.replace(smollm2, path=str(tmp_path / "cut.gguf"))
    with pytest.raises(EngineError, match=r"cut\.gguf is truncated"):
        await start_replica(model, log=log)


async def test_a_file_that_only_the_engine_can_refuse_is_reported_by_the_replica(
    smollm2: ModelSettings, tmp_path: Path, log: Path
) -> None:
    assert smollm2.path is not None
    data = bytearray(Path(smollm2.path).read_bytes())
    at = data.index(b"blk.0.attn_q.weight")
    data[at : at + 3] = b"xyz"  # a whole file that lacks a tensor
    (tmp_path / "odd.gguf").write_bytes(data)
    model = msgspec.structs.replace(smollm2, path=str(tmp_path / "odd.gguf"))
    with pytest.raises(EngineError, match=r"did not start: .*log has llama.cpp's own messages"):
        await start_replica(model, log=log)
    assert "attn_q" in log.read_text()
