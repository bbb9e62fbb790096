"""Sessions as the client carries them out: each turn after the answer before it, with what the model said."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from misbehaving import DONE, END, STREAM, chunk, client_spec, run, serving, usage, whole

from headrace.bench.client.answer import KeptAnswer
from headrace.bench.client.records import FIRST_FOLLOW_UP, Outcome, follow_up
from headrace.bench.client.spec import ClientSpec
from headrace.bench.results import timings
from headrace.bench.results.summary import summarize
from headrace.bench.workload.spec import Amount, Content, Dataset, Poisson, Sessions

SAID = 'a "quoted"\nline, ü'


def delta(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


FINISHED = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'


class Listener:
    """Answers each chat with ``SAID``, and the number of its messages."""

    def __init__(self, refused_at: int | None = None) -> None:
        """``refused_at``: so many messages are answered 429."""
        self.asked: list[list[dict[str, Any]]] = []
        self._refused_at = refused_at

    async def __call__(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        messages = json.loads(request.partition(b"\r\n\r\n")[2])["messages"]
        self.asked.append(messages)
        if len(messages) == self._refused_at:
            writer.write(whole("429 Too Many", b'{"error":{"message":"later"}}'))
            return
        events = [delta(SAID), delta(f" {len(messages)}"), FINISHED, usage(2), DONE]
        writer.write(STREAM + b"".join(map(chunk, events)) + END)


def spec(folder: Path, url: str, sessions: int, think_s: float = 0.0, processes: int = 1) -> ClientSpec:
    talk = [{"role": "user", "content": words} for words in ("one", "two", "three")]
    file = folder / "chats.jsonl"
    file.write_text(json.dumps({"messages": talk}) + "\n")
    plain = client_spec(url, arrivals=Poisson(200.0), amount=Amount(requests=sessions), processes=processes)
    load = msgspec.structs.replace(
        plain.load,
        source=Dataset(path=str(file)),
        content=Content(reuse=True),
        sessions=Sessions(think_s=think_s),
    )
    return msgspec.structs.replace(plain, load=load)


async def test_every_turn_is_sent_with_the_models_own_answers_before_it(tmp_path: Path) -> None:
    listener = Listener()
    async with serving(listener) as url:
        records = await run(spec(tmp_path, url, sessions=4, processes=2), tmp_path)
    assert sorted(len(messages) for messages in listener.asked) == [1] * 4 + [3] * 4 + [5] * 4
    for messages in listener.asked:
        assert [each["content"] for each in messages[1::2]] == [
            f"{SAID} {1 + 2 * turn}" for turn in range(len(messages) // 2)
        ]
        assert [each["role"] for each in messages] == (["user", "assistant"] * 3)[: len(messages)]
    wanted = [*range(4), *(follow_up(session, turn) for session in range(4) for turn in (1, 2))]
    assert records.requests["number"].tolist() == sorted(wanted)
    assert records.requests["measured"].all() and (records.requests["outcome"] == Outcome.OK).all()


async def test_a_turn_is_due_when_its_user_has_read_and_thought(tmp_path: Path) -> None:
    async with serving(Listener()) as url:
        given = spec(tmp_path, url, sessions=30, think_s=0.05)
        records = await run(given, tmp_path)
    requests = {int(each["number"]): each for each in records.requests}
    thought = []
    for session in range(30):
        before = requests[session]
        for turn in (1, 2):
            after = requests[follow_up(session, turn)]
            assert after["scheduled_s"] >= before["end_s"] and after["sent_s"] >= after["scheduled_s"]
            thought.append(after["scheduled_s"] - before["end_s"])
            before = after
    assert np.mean(thought) == pytest.approx(0.05, rel=0.5)
    summary = summarize(records, spec=given.load)
    gates = {gate.name: gate.passed for gate in summary.gates}
    assert gates["delivered rate"] is True, "only the beginnings of sessions were planned"
    assert int(timings.scheduled(records).sum()) == 30


async def test_a_session_ends_with_a_turn_that_is_not_answered(tmp_path: Path) -> None:
    listener = Listener(refused_at=3)
    async with serving(listener) as url:
        records = await run(spec(tmp_path, url, sessions=3), tmp_path)
    outcomes = records.requests["outcome"]
    first = records.requests["number"] < FIRST_FOLLOW_UP
    assert (outcomes[first] == Outcome.OK).all() and (outcomes[~first] == Outcome.REJECTED).all()
    assert len(outcomes) == 6 and max(len(messages) for messages in listener.asked) == 3


def test_what_a_stream_said_is_read_however_it_came() -> None:
    stream = b": hello\r\n\r\n" + b"".join([delta("a"), delta('"b\n"'), FINISHED, usage(2), DONE]).replace(
        b"\n\n", b"\r\n\r\n"
    )
    for size in (1, 7, len(stream)):
        answer = KeptAnswer()
        for start in range(0, len(stream), size):
            answer.feed(stream[start : start + size], 1.0)
        answer.end(1.0)
        assert answer.text == 'a"b\n"' and len(answer.times) == 2
