"""The checks of the chaos harness find what is wrong: each is shown a wrong that the others are silent about."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chaos_books import Journals
from chaos_check import Evidence, Loss, check
from chaos_clients import Attempt
from chaos_kills import Kill
from chaos_phases import Phase, Target, answers_finished
from chaos_process import Child
from chaos_round import missing

from headrace.journal.records import Progress, Record, Reserved, Settled
from headrace.journal.writer import Writer
from headrace.policy.billing import amount_micro

PROMPT, OUTPUT = 5, 100
KILLED_AT = 110.0
"""The second gateway, ten seconds after its stream had begun; ten tokens a second."""


def reserved(rid: str) -> Reserved:
    return Reserved(rid, 1, 0, 0, "id", "e", "n", 1, "k", "replica-1", "default", True, PROMPT, OUTPUT, 1.0, f"c-{rid}")


def settled(rid: str, seq: int = 2) -> Settled:
    return Settled(rid, seq, 1, 200, "ok", PROMPT, 0, OUTPUT, True, 1.0, 0.0, 1.0, 2.0)


def row(rid: str, writer: str, **changes: Any) -> dict[str, Any]:
    told = {
        "rid": rid,
        "writer": writer,
        "ended": "settled",
        "outcome": "ok",
        "status": 200,
        "exact": 1,
        "client_request_id": f"c-{rid}",
        "endpoint_name": "e",
        "input_tokens": PROMPT,
        "output_tokens": OUTPUT,
    }
    return told | changes


def attempt(rid: str, tokens: int, **changes: Any) -> Attempt:
    seen = [(100.0 + number / 10, number) for number in range(1, tokens + 1)]
    made = Attempt(f"c-{rid}", "e", True, OUTPUT, 100.0, True, rid, 200, tokens * 100, tokens, seen, ended=120.0)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def sound(tmp_path: Path) -> Evidence:
    """Of a run in which one request was served, and one was cut by the kill of its gateway."""
    records: dict[str, list[Record]] = {
        "gateway-1": [reserved("whole"), settled("whole")],
        "gateway-2": [reserved("cut"), Progress("cut", 2, 1, 90)],
    }
    for writer_id, its in records.items():
        writer = Writer(tmp_path, writer_id)
        for record in its:
            writer.append(record)
        writer.close()
    journals = Journals(tmp_path)
    journals.read()
    kill = Kill(Target.GATEWAY, None, KILLED_AT, KILLED_AT, Child("gateway", "gateway-2", 2), {}, False)
    span = {"chunks": 3, "ready": 2, "draining_own": 0, "min_chunks": 3, "endpoint_ready": True}
    spans = [span | {"from_ms": 0, "to_ms": 1000}, span | {"from_ms": 1000, "to_ms": 5000}]
    line = {"spans": spans, "chunk_ms": 15000, "price_micro_per_chunk_hour": 7, "amount_micro": amount_micro(15000, 7)}
    return Evidence(
        attempts=[
            attempt("whole", OUTPUT, complete=True, usage={"prompt_tokens": PROMPT, "completion_tokens": OUTPUT}),
            attempt("cut", 98, failure="lost"),
        ],
        kills=[kill],
        journals=journals,
        usage=[row("whole", "gateway-1"), row("cut", "gateway-2", ended="recovered", output_tokens=90, exact=0)],
        conflicts=[],
        bills=[{"endpoint": "e", "lines": [line]}],
        chunks=3,
        replicas_told={"replica-1": 11, "replica-2": 12},
        processes={1: "gateway", 2: "controller", 11: "engines", 12: "engines"},
    )


def found(evidence: Evidence) -> tuple[list[str], list[Loss]]:
    problems: list[str] = []
    losses: list[Loss] = []
    check(evidence, problems, losses)
    return problems, losses


def test_nothing_is_wrong_with_what_is_right_and_the_loss_of_a_kill_is_measured(sound: Evidence) -> None:
    problems, (loss,) = found(sound)
    assert problems == []
    assert loss.tokens == 8
    assert loss.seconds == pytest.approx(0.9)


Wrong = Callable[[Evidence], object]

WRONGS: dict[str, tuple[str, Wrong]] = {
    "no row": ("is in a journal and not in the ledger", lambda e: e.usage.pop(1)),
    "twice": ("is in the ledger 2 times", lambda e: e.usage.append(e.usage[0])),
    "invented": ("is in the ledger and in no journal", lambda e: e.usage.append(row("x", "gateway-1"))),
    "open": ("has not ended in the ledger", lambda e: e.usage[0].update(ended=None)),
    "not recovered": ("is settled in the ledger", lambda e: e.usage[1].update(ended="settled")),
    "conflict": ("has a conflict: why", lambda e: e.conflicts.append({"reason": "why"})),
    "two ends": ("has ended 2 times", lambda e: e.journals.requests["whole"].ends.append(settled("whole", 3))),
    "same key": ("is in the journal 2 times", lambda e: e.journals.requests["cut"].reserved.append(reserved("cut"))),
    "two writers": ("journals of several gateways", lambda e: e.journals.requests["cut"].writers.add("gateway-1")),
    "unrecorded": ("no record of it", lambda e: e.attempts.append(attempt("ghost", 1))),
    "two answers": ("two answers have the request id", lambda e: e.attempts.append(copy.copy(e.attempts[0]))),
    "mixed up": ("recorded as another request", lambda e: e.usage[0].update(client_request_id="c-other")),
    "too few": ("its client saw 100", lambda e: e.usage[0].update(output_tokens=99)),
    "too many": ("recorded of at most", lambda e: e.usage[0].update(output_tokens=101)),
    "told otherwise": ("its client was told", lambda e: e.usage[0].update(input_tokens=6)),
    "beyond the bound": ("recorded; its client had 85", lambda e: e.usage[1].update(output_tokens=84)),
    "nobody killed it": ("nobody killed its gateway", lambda e: e.usage[1].update(writer="gateway-1")),
    "no cause": ("no kill explains it", lambda e: setattr(e.attempts[1], "ended", KILLED_AT - 1)),
    "status without cause": ("no kill explains it", lambda e: setattr(e.attempts[1], "failure", "429")),
    "gap": ("is followed by", lambda e: e.bills[0]["lines"][0]["spans"][1].update(from_ms=1001)),
    "overlap": ("is followed by", lambda e: e.bills[0]["lines"][0]["spans"][1].update(from_ms=999)),
    "more than bought": ("chunks billed where", lambda e: e.bills[0]["lines"][0]["spans"][0].update(chunks=4, ready=4)),
    "wrong sum": ("does not add up", lambda e: e.bills[0]["lines"][0].update(chunk_ms=14999)),
    "orphan": ("and the controller knows", lambda e: e.processes.update({13: "engines"})),
    "twin": ("processes of the server", lambda e: e.processes.update({3: "gateway"})),
}


@pytest.mark.parametrize("wrong", WRONGS.values(), ids=WRONGS)
def test_what_is_wrong_is_found(sound: Evidence, wrong: tuple[str, Wrong]) -> None:
    said, make = wrong
    make(sound)
    problems, _ = found(sound)
    assert any(said in problem for problem in problems)


def test_an_answer_counts_as_finished_by_the_engine_only_when_its_last_byte_is_there() -> None:
    event = b'data: {"id":"sim-replica-1-7","choices":[{"finish_reason":null}]}\n\n'
    assert answers_finished(event * 3) == set()
    assert answers_finished(event + b"data: [DONE]\n\n") == {"sim-replica-1-7"}
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"
    whole = b'{"id":"sim-replica-1-8","usage":{"prompt_tokens":1}}'
    assert answers_finished(head + whole) == {"sim-replica-1-8"}
    assert answers_finished(head + whole[:-1]) == set()
    assert answers_finished(b"POST /v1/completions HTTP/1.1\r\n\r\n{}") == set()


def test_every_target_can_be_hit_in_every_phase_that_the_report_asks_for() -> None:
    assert len(missing([])) == 11
    kill = Kill(Target.REPLICA, None, 0.0, 0.0, Child("replica", "r", 1), {Phase.IN_STREAM: 1}, False)
    assert "no kill of the replica hit a request in stream" not in missing([kill])
    assert "no kill of the replica hit a request in prefill" in missing([kill])
