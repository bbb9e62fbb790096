"""Several served entities behind one address of a real server: the split, what spills, and what each is billed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from system_server import Server, until
from system_simulated import register_simulated

from headrace.policy.billing import amount_micro
from headrace.profiles.profile import IterationTime

pytestmark = pytest.mark.system

FAST = IterationTime(base_s=0.004, prefill_s=0.0001, decode_s=0.001, context_s=0.0)
SLOW = IterationTime(base_s=0.010, prefill_s=0.0002, decode_s=0.002, context_s=0.0)
INPUT, OUTPUT = 16, 5


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Server]:
    """A server with two simulated models, ``quick`` with four slots a replica and ``slow`` with one."""
    register_simulated(tmp_path / "data", "quick", FAST, slots=4)
    register_simulated(tmp_path / "data", "slow", SLOW, slots=1)
    (tmp_path / "headrace.toml").write_text('price_per_chunk_hour = "36.00"\n')
    with Server(tmp_path / "data") as server:
        yield server


def client(server: Server) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=60)


def ask(server: Server, times: int) -> Counter[str]:
    """Requests one after another; how many each entity says that it served."""
    served: Counter[str] = Counter()
    with client(server) as openai:
        for _ in range(times):
            answer = openai.completions.with_raw_response.create(
                model="story", prompt=[7] * INPUT, max_tokens=OUTPUT, extra_body={"ignore_eos": True}
            )
            served[answer.headers["served-model-name"]] += 1
    return served


def usage(server: Server, requests: int) -> dict[str, tuple[int, int, int]]:
    """(requests, input, output) by entity, once the ledger has so many requests."""

    def told() -> list[Any] | None:
        rows = server.get("/api/headrace/v1/usage?endpoint=story&group=entity")["rows"]
        return rows if sum(row["requests"] for row in rows) == requests else None

    rows = until(told, within_s=15, what=f"{requests} requests are in the ledger")
    return {row["group"]: (row["requests"], row["input_tokens"], row["output_tokens"]) for row in rows}


def check_bill(server: Server, chunks: dict[str, int]) -> None:
    """Each entity by its own chunks since the same instant, at the price, and the endpoint by their sum."""
    (bill,) = server.get("/api/headrace/v1/bill?endpoint=story")["bills"]
    provided: Counter[str] = Counter()
    for line in bill["lines"]:
        by_hand = sum(span["chunks"] * (span["to_ms"] - span["from_ms"]) for span in line["spans"])
        assert by_hand == line["chunk_ms"]
        assert line["amount_micro"] == amount_micro(by_hand, 36_000_000)
        provided[line["entity"]] += by_hand
    times = {provided[name] / count for name, count in chunks.items()}
    assert len(times) == 1 and times.pop() > 0, provided
    assert bill["amount_micro"] == sum(line["amount_micro"] for line in bill["lines"])


def test_two_entities_share_the_requests_as_they_were_sold_and_each_is_billed(running: Server) -> None:
    entities = ("--entity", "big=quick,min=2,max=2,traffic=70", "--entity", "small=slow,traffic=30")
    running.cli("endpoints", "create", "story", *entities, "--wait")
    assert ask(running, 100) == {"big": 70, "small": 30}
    assert usage(running, 100) == {
        "story/big": (70, 70 * INPUT, 70 * OUTPUT),
        "story/small": (30, 30 * INPUT, 30 * OUTPUT),
    }
    check_bill(running, {"big": 2, "small": 1})

    replicas = {replica["id"] for replica in running.endpoint("story")["replicas"]}
    other = ("--entity", "big=quick,traffic=0", "--entity", "small=slow,traffic=100")
    running.cli("endpoints", "update", "story", *other, "--wait")
    assert {replica["id"] for replica in running.endpoint("story")["replicas"]} == replicas
    assert ask(running, 10) == {"small": 10}
    assert usage(running, 110)["story/small"] == (40, 40 * INPUT, 40 * OUTPUT)
    check_bill(running, {"big": 2, "small": 1})


class Stream:
    """One long answer in a thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.events = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with client(self._server) as openai:
            for _ in openai.completions.create(
                model="story", prompt=[7] * INPUT, max_tokens=300, stream=True, extra_body={"ignore_eos": True}
            ):
                self.events += 1

    def join(self) -> None:
        self._thread.join(60)
        assert self.events >= 300


def test_what_the_routed_entity_cannot_take_at_once_spills_to_the_next(running: Server) -> None:
    entities = ("--entity", "first=slow,traffic=100", "--entity", "next=quick")
    running.cli("endpoints", "create", "story", *entities, "--overload", "spill", "--wait")
    busy = Stream(running)
    until(lambda: busy.events > 0, within_s=20, what="the only slot of the first entity is taken")
    assert ask(running, 3) == {"next": 3}
    busy.join()
    assert ask(running, 2) == {"first": 2}
    assert usage(running, 6) == {
        "story/first": (3, 3 * INPUT, 300 + 2 * OUTPUT),
        "story/next": (3, 3 * INPUT, 3 * OUTPUT),
    }
    check_bill(running, {"first": 1, "next": 1})
