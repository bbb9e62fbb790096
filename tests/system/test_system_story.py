"""The main job from end to end: an endpoint is bought, loaded beyond one chunk, scales up and back, and is billed."""

from __future__ import annotations

import asyncio
import csv
import math
import random
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.serving import EndpointCoreConfigInput, ServedEntityInput
from openai import APIStatusError, AsyncOpenAI, OpenAI
from system_sampler import ReplicaSampler
from system_server import HEADRACE, Server, clean_environment, until
from system_simulated import register_simulated

from headrace.engines.base import ModelSettings
from headrace.policy.billing import HOUR_MS, amount_micro
from headrace.policy.scaling import replay
from headrace.policy.work import Weights
from headrace.profiles.profile import IterationTime

pytestmark = pytest.mark.system

TEST_SCALING = "[scaling]\nfast_window_s = 10\nslow_window_s = 15\ndown_window_s = 15\nwait_target_s = 5\n"
"""The law as it is, with windows short enough for a test."""


def scalings(server: Server, endpoint: str) -> list[dict[str, Any]]:
    return [event for event in server.events(endpoint) if event["kind"] == "scaled"]


def check_decisions_recompute(events: list[dict[str, Any]]) -> None:
    """What an event stored is all that its decision was made from."""
    for event in events:
        again = replay(event["data"]["inputs"])
        assert (again.chunks, again.reason) == (event["data"]["to"], event["message"])


def load(server: Server, endpoint: str, *words: str) -> subprocess.Popen[str]:
    lengths = ("--input-tokens", "128", "--output-tokens", "64")
    return subprocess.Popen(
        [HEADRACE, "load", endpoint, *lengths, "--arrivals", "constant", "--calibration", "0", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(HEADRACE_URL=server.url, HEADRACE_API_KEY=server.key),
    )


def finish(running: subprocess.Popen[str], within_s: float, requests: Path) -> dict[str, int]:
    """What its clients were told. Whether its figures are valid on this machine is another question (status 3)."""
    try:
        _, said = running.communicate(timeout=within_s)
    finally:
        running.kill()
    assert running.returncode in (0, 3), said
    with requests.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["outcome"] == "ok" and row["usage_told"] == "1" for row in rows), said
    tokens = {name: sum(int(row[name]) for row in rows) for name in ("input_tokens", "output_tokens")}
    return {"ok": len(rows), **tokens}


def check_usage(server: Server, endpoint: str, summary: dict[str, int], more_input: int, more_output: int) -> None:
    """Every token that a client was told of is in the ledger, and no other."""
    expected = (summary["input_tokens"] + more_input, summary["output_tokens"] + more_output)

    def total() -> bool:
        usage = server.get(f"/api/headrace/v1/usage?endpoint={endpoint}&group=endpoint")["rows"]
        return [(row["input_tokens"], row["output_tokens"]) for row in usage] == [expected]

    until(total, within_s=15, what=f"usage is {expected}: {server.get('/api/headrace/v1/usage')}")


def check_bill(server: Server, endpoint: str, sampler: ReplicaSampler, price_per_chunk_hour: str) -> None:
    """The bill against what was seen from outside: the process table, and the arithmetic by hand."""
    now_ms = int(time.time() * 1000)
    bill = server.get(f"/api/headrace/v1/bill?endpoint={endpoint}&to_ms={now_ms}")["bills"][0]
    lines = bill["lines"]
    for line in lines:
        by_hand = sum(span["chunks"] * (span["to_ms"] - span["from_ms"]) for span in line["spans"])
        assert by_hand == line["chunk_ms"]
        assert amount_micro(by_hand, line["price_micro_per_chunk_hour"]) == line["amount_micro"]
    amount = Decimal(price_per_chunk_hour) * bill["chunk_ms"] / HOUR_MS
    assert abs(Decimal(bill["amount"]) - amount) <= Decimal("0.000001") * len(lines)
    # Loading is free, and every replica lives a little longer than it is in use: a start and an end each.
    lived = sampler.process_seconds(0, now_ms / 1000)
    allowed = len(sampler.pids()) * 2.0 + 0.02 * lived
    assert lived - allowed <= bill["chunk_ms"] / 1000 <= lived + 0.02 * lived


def use_every_replica(server: Server, endpoint: str, *, at_once: int) -> tuple[int, int]:
    """Input and output tokens of requests sent together, so that all replicas are in use however fast they are."""
    client = OpenAI(base_url=f"{server.url}/v1", api_key=server.key)

    def ask(number: int) -> tuple[int, int]:
        answer = client.completions.create(
            model=endpoint, prompt=[1000 + number] * 64, max_tokens=128, extra_body={"ignore_eos": True}
        )
        assert answer.usage is not None
        return answer.usage.prompt_tokens, answer.usage.completion_tokens

    with ThreadPoolExecutor(at_once) as pool:
        asked = [pool.submit(ask, number) for number in range(at_once)]
        until(
            lambda: all(r["in_flight"] > 0 for r in server.endpoint(endpoint)["replicas"]),
            within_s=30,
            what="all replicas are used at once",
        )
        told = [one.result() for one in asked]
    return sum(one[0] for one in told), sum(one[1] for one in told)


@pytest.mark.engine
def test_load_beyond_one_chunk_brings_the_second_and_its_end_takes_it_back(
    tmp_path: Path, smollm2: ModelSettings
) -> None:
    (tmp_path / "headrace.toml").write_text(f'price_per_chunk_hour = "3.60"\n{TEST_SCALING}')
    with Server(tmp_path / "data") as server, ReplicaSampler(server) as sampler:
        workspace = WorkspaceClient(host=server.url, token=server.key)
        info = workspace.api_client.do(
            "GET", f"/api/2.0/serving-endpoints/get-model-optimization-info/{smollm2.name}/1"
        )
        assert isinstance(info, dict)
        chunk = int(info["throughput_chunk_size"])
        workspace.serving_endpoints.create_and_wait(
            "story",
            config=EndpointCoreConfigInput(
                name="story",
                served_entities=[
                    ServedEntityInput(
                        entity_name=smollm2.name,
                        entity_version="1",
                        min_provisioned_throughput=chunk,
                        max_provisioned_throughput=2 * chunk,
                        scale_to_zero_enabled=False,
                    )
                ],
            ),
        )
        chat = OpenAI(base_url=f"{server.url}/v1", api_key=server.key).chat.completions.create(
            model="story", messages=[{"role": "user", "content": "Say hello."}], max_tokens=16
        )
        assert chat.usage is not None and chat.choices[0].message.content

        work = Weights(**server.endpoint("story")["entities"][0]["weights"]).work(128, 0, 64)
        rate, requests = 1.8 * chunk, tmp_path / "requests.csv"
        many = math.ceil(45 * rate / work)
        running = load(server, "story", "--rate", f"{rate}", "--requests", f"{many}", "--csv", str(requests))
        until(lambda: server.endpoint("story")["chunks_ready"] == 2, within_s=60, what="two chunks are ready")
        more_input, more_output = use_every_replica(server, "story", at_once=8)
        told = finish(running, within_s=180, requests=requests)
        until(lambda: server.endpoint("story")["chunks_ready"] == 1, within_s=120, what="back to one chunk")
        until(lambda: sampler.count() == 1, within_s=60, what="one replica process lives")

        assert told["ok"] == many
        ups = [(e["data"]["from"], e["data"]["to"]) for e in scalings(server, "story")]
        assert ups[-2:] == [(1, 2), (2, 1)]
        check_decisions_recompute(scalings(server, "story"))
        more_input, more_output = more_input + chat.usage.prompt_tokens, more_output + chat.usage.completion_tokens
        check_usage(server, "story", told, more_input, more_output)
        check_bill(server, "story", sampler, "3.60")
        workspace.serving_endpoints.delete("story")
        until(lambda: sampler.count() == 0, within_s=60, what="no replica process lives")


class RandomArrivals:
    """Requests of 128 input and 64 output tokens whose gaps are exponential, drawn from a seed; nothing is retried."""

    def __init__(self, server: Server, endpoint: str, *, requests_per_s: float, seconds: float, seed: int) -> None:
        self._client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0)
        self._endpoint = endpoint
        draw, at, self._due = random.Random(seed), 0.0, list[float]()
        while (at := at + draw.expovariate(requests_per_s)) < seconds:
            self._due.append(at)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.summary = {"ok": 0, "refused": 0, "input_tokens": 0, "output_tokens": 0}

    def __enter__(self) -> RandomArrivals:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    async def _run(self) -> None:
        start = time.monotonic()
        sent = []
        for number, due in enumerate(self._due):
            await asyncio.sleep(max(0.0, start + due - time.monotonic()))
            sent.append(asyncio.create_task(self._ask(number)))
        await asyncio.gather(*sent)

    async def _ask(self, number: int) -> None:
        try:
            answer = await self._client.completions.create(
                model=self._endpoint, prompt=[1000 + number] * 128, max_tokens=64, extra_body={"ignore_eos": True}
            )
        except APIStatusError as error:
            assert error.status_code in (429, 503)
            self.summary["refused"] += 1
            return
        assert answer.usage is not None
        self.summary["ok"] += 1
        self.summary["input_tokens"] += answer.usage.prompt_tokens
        self.summary["output_tokens"] += answer.usage.completion_tokens


@pytest.mark.parametrize("seed", [1])
def test_the_same_holds_on_simulated_replicas_of_any_speed(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    iteration = IterationTime(
        base_s=draw.uniform(0.004, 0.008),
        prefill_s=draw.uniform(0.4e-3, 0.8e-3),
        decode_s=draw.uniform(0.5e-3, 1e-3),
        context_s=draw.uniform(0.2e-6, 1e-6),
    )
    slots, most = draw.choice([2, 4]), draw.randint(3, 5)
    data = tmp_path / "data"
    (tmp_path / "headrace.toml").write_text(f'price_per_chunk_hour = "100"\n{TEST_SCALING}')
    profile = register_simulated(data, "sim", iteration, slots=slots)
    chunk = profile.chunk
    with Server(data) as server, ReplicaSampler(server) as sampler:
        tokens = ("--min", f"{2 * chunk}", "--max", f"{most * chunk}")
        server.cli("endpoints", "create", "story", "--model", "sim", *tokens, "--wait")
        assert server.endpoint("story")["simulated"] is True
        rate = (most - 0.5) * chunk / profile.weights.work(128, 0, 64)
        arrivals = RandomArrivals(server, "story", requests_per_s=rate, seconds=30, seed=seed)
        with arrivals:
            until(lambda: server.endpoint("story")["chunks_ready"] >= 3, within_s=60, what="more chunks are ready")
        until(lambda: server.endpoint("story")["chunks_ready"] == 2, within_s=120, what="back to the minimum")
        until(lambda: sampler.count() == 2, within_s=60, what="two replica processes live")

        events = scalings(server, "story")
        assert all(2 <= event["data"]["to"] <= most for event in events)
        check_decisions_recompute(events)
        assert arrivals.summary["ok"] > 0
        check_usage(server, "story", arrivals.summary, 0, 0)
        check_bill(server, "story", sampler, "100")
