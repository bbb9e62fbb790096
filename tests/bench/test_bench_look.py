"""How many requests a look shows in flight."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from misbehaving import client_spec

from headrace.bench.client.records import REQUEST, Outcome, Records, follow_up
from headrace.bench.client.spec import ClientSpec
from headrace.bench.look import Watch
from headrace.bench.workload.sessions import SessionWorkload
from headrace.bench.workload.spec import Amount, Content, Dataset, Poisson, Sessions


@pytest.fixture
def spec(tmp_path: Path) -> ClientSpec:
    """Sessions of three turns, whose users think for a second on average."""
    talk = [{"role": "user", "content": words} for words in ("one", "two", "three")]
    file = tmp_path / "chats.jsonl"
    file.write_text(json.dumps({"messages": talk}) + "\n")
    plain = client_spec("http://h", arrivals=Poisson(1.0), amount=Amount(requests=2), content=Content(reuse=True))
    source = Dataset(path=str(file), format="chat")
    load = msgspec.structs.replace(plain.load, source=source, sessions=Sessions(think_s=1.0))
    return msgspec.structs.replace(plain, load=load)


def ended(*rows: tuple[int, float, Outcome]) -> Records:
    """Requests by number, when they ended, and how. Of two sessions, due at 0 and at 2 s."""
    made = np.zeros(len(rows), REQUEST)
    for row, (number, end_s, outcome) in zip(made, rows, strict=True):
        row["number"], row["end_s"], row["outcome"] = number, end_s, outcome
    made["measured"] = True
    return Records(made, np.empty(0), np.empty(0, np.uint16), (), planned_s=(0.0, 2.0))


def test_a_later_turn_of_a_session_is_in_flight_from_when_its_user_has_thought(spec: ClientSpec) -> None:
    sessions = SessionWorkload(spec.load)
    watch = Watch(spec, None, sessions)

    def in_flight(records: Records, now_s: float) -> int:
        return watch.look(records, now_s).in_flight

    assert in_flight(ended(), 0.5) == 1
    first = (0, 1.0, Outcome.OK)
    due_s = 1.0 + sessions.think_s(0, 1)
    assert in_flight(ended(first), due_s - 1e-3) == (due_s > 2.0)
    assert in_flight(ended(first), due_s + 1e-3) == 1 + (due_s > 2.0)
    second = (follow_up(0, 1), due_s + 0.5, Outcome.OK)
    last_s = due_s + 0.5 + sessions.think_s(0, 2)
    assert in_flight(ended(first, second), last_s + 5.0) == 2, "its last turn, and the other session's first"
    last = (follow_up(0, 2), last_s + 6.0, Outcome.OK)
    assert in_flight(ended(first, second, last), last_s + 7.0) == 1


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.REJECTED, Outcome.TIMED_OUT])
def test_a_session_that_got_no_answer_has_no_more_turns(outcome: Outcome, spec: ClientSpec) -> None:
    watch = Watch(spec, None, SessionWorkload(spec.load))
    assert watch.look(ended((0, 1.0, outcome), (1, 3.0, outcome)), 1000.0).in_flight == 0


def test_a_turn_and_the_one_after_it_may_end_between_two_looks(spec: ClientSpec) -> None:
    watch = Watch(spec, None, SessionWorkload(spec.load))
    rows = [(0, 1.0, Outcome.OK), (follow_up(0, 1), 30.0, Outcome.OK), (follow_up(0, 2), 60.0, Outcome.OK)]
    assert watch.look(ended(*rows), 1000.0).in_flight == 1, "the session that was due at 2 s"
