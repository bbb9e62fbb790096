"""Replicas of a whole server that hang, die in mid-stream, or die of a request, as OpenAI's own client sees them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from chaos_books import Journals, Ledger, Told
from chaos_process import Child, Children, Victim
from openai import OpenAI
from system_server import Server, until
from system_simulated import register_simulated

from headrace.paths import DataDir
from headrace.profiles.profile import IterationTime

pytestmark = pytest.mark.system

ITERATION = IterationTime(base_s=0.008, prefill_s=0.002, decode_s=0.001, context_s=0.0)
"""About 100 output tokens a second, and two seconds for a prompt of a thousand tokens."""
FIRST_BYTE_FLOOR_S = 10.0
"""The gateway's default: an engine has at least this long."""


class System:
    """A server with one endpoint whose replicas take one request each."""

    def __init__(self, server: Server, data: DataDir) -> None:
        self.server = server
        self.client = OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=120)
        self.children = Children(data.logs / "supervisor.log")
        self.journals = Journals(data.journal)
        self.ledger = Ledger(data)

    def ask(self, name: str, *, input_tokens: int = 4, max_tokens: int = 3) -> Any:
        return self.client.completions.create(
            model="e",
            prompt=[7] * input_tokens,
            max_tokens=max_tokens,
            extra_body={"ignore_eos": True, "client_request_id": name},
        )

    def told(self, name: str) -> Told:
        """What the journal says of a request by now."""
        self.journals.read()
        return self.journals.by_client_id.get(name) or Told("")

    def sent_to(self, name: str, times: int = 1) -> Child:
        """The replica that the request was sent to for this time."""
        until(lambda: len(self.told(name).reserved) >= times, within_s=30, what=f"{name} is sent {times} times")
        replica = self.told(name).reserved[times - 1].replica
        (child,) = (child for child in self.children.running("replica") if child.token == replica)
        return child

    def row(self, name: str) -> dict[str, Any]:
        """Of the ledger, once the request has ended there."""

        def ended() -> dict[str, Any] | None:
            rows = [row for row in self.ledger.usage() if row["client_request_id"] == name and row["ended"]]
            assert len(rows) <= 1
            return rows[0] if rows else None

        return until(ended, within_s=15, what=f"{name} is in the ledger")


@pytest.fixture
def system(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[System]:
    """With as many replicas as the test asks for by ``indirect``."""
    data = DataDir(tmp_path / "data")
    data.create()
    profile = register_simulated(data.root, "sim", ITERATION, slots=1)
    throughput = request.param * profile.chunk
    entity = {
        "entity_name": "sim",
        "entity_version": "1",
        "min_provisioned_throughput": throughput,
        "max_provisioned_throughput": throughput,
    }
    with Server(data.root) as server:
        server.call("POST", "/api/2.0/serving-endpoints", {"name": "e", "config": {"served_entities": [entity]}})
        until(lambda: server.endpoint("e")["chunks_ready"] == request.param or None, within_s=30, what="all are ready")
        yield System(server, data)


class Asking:
    """A request in a thread, and how it ended."""

    def __init__(self, system: System, name: str, **ask: int) -> None:
        self.answer: Any = None
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(system, name, ask))
        self._thread.start()

    def _run(self, system: System, name: str, ask: dict[str, int]) -> None:
        try:
            self.answer = system.ask(name, **ask)
        except openai.APIError as error:
            self.error = error

    def join(self) -> Asking:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self


@pytest.mark.parametrize("system", [2], indirect=True)
def test_a_replica_that_accepts_and_never_answers_is_passed_over_until_it_answers_again(system: System) -> None:
    (hung, well) = system.children.running("replica")
    victim = Victim(hung.pid)
    victim.stop()  # its socket still accepts
    try:
        began = time.monotonic()
        asking = {name: Asking(system, name) for name in ("one", "two")}  # both replicas get one
        (stuck,) = (name for name in asking if system.sent_to(name).token == hung.token)
        for one in asking.values():
            assert one.join().answer.usage.completion_tokens == 3
        assert time.monotonic() - began >= FIRST_BYTE_FLOOR_S
        assert [record.replica for record in system.told(stuck).reserved] == [hung.token, well.token]
        assert system.row(stuck)["outcome"] == "ok"
        # It is left alone, and then tried with one request at a time, which moves on as the first one did.
        after = {f"after-{number}": Asking(system, f"after-{number}") for number in range(4)}
        assert all(one.join().answer is not None for one in after.values())
        first = [system.told(name).reserved[0].replica for name in after]
        assert first.count(hung.token) <= 1
    finally:
        victim.go_on()
        victim.close()

    def serves_again() -> bool:
        pair = {name: Asking(system, name) for name in (f"{time.monotonic()}", f"{time.monotonic()}-beside")}
        assert all(one.join().answer is not None for one in pair.values())
        return any(system.told(name).reserved[-1].replica == hung.token for name in pair)

    until(serves_again, within_s=30, what="the replica that hung serves again")


@pytest.mark.parametrize("system", [2], indirect=True)
def test_a_replica_that_dies_in_mid_stream_raises_at_the_client_and_its_part_is_billed(system: System) -> None:
    seen = 0
    with pytest.raises(openai.APIError, match="lost in the middle of the answer"):
        for event in system.client.completions.create(
            model="e",
            prompt=[7] * 4,
            max_tokens=1000,
            stream=True,
            extra_body={"ignore_eos": True, "client_request_id": "cut"},
        ):
            seen += len(event.choices)
            if seen == 30:
                died = system.sent_to("cut")
                os.kill(died.pid, signal.SIGKILL)
    row = system.row("cut")
    assert (row["status"], row["outcome"], row["exact"]) == (502, "engine_failed", 0)
    assert seen <= row["output_tokens"] < 1000
    assert row["work"] > 0
    for number in range(3):
        system.ask(f"after-{number}")
        assert system.told(f"after-{number}").reserved[-1].replica != died.token


@pytest.mark.parametrize("system", [3], indirect=True)
def test_a_request_under_which_two_replicas_died_is_refused_and_kills_no_third(system: System) -> None:
    poison = Asking(system, "poison", input_tokens=2000)  # long in prefill
    for time_sent in (1, 2):
        os.kill(system.sent_to("poison", time_sent).pid, signal.SIGKILL)
    error = poison.join().error
    assert isinstance(error, openai.InternalServerError) and error.status_code == 502
    assert "two replicas died under this request" in error.message
    assert system.ask("another").usage.completion_tokens == 3  # the third one lives
    assert len(system.told("poison").reserved) == 2
    row = system.row("poison")
    assert (row["status"], row["outcome"], row["work"]) == (502, "engine_failed", 0)
    until(lambda: system.server.endpoint("e")["chunks_ready"] == 3 or None, within_s=30, what="the dead are replaced")
