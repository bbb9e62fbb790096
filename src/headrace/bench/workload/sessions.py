"""Sessions: the chats of a dataset as talks, of which each turn follows the answer to the one before.

What the user says comes from the dataset, what the model says from the model: its answers of the dataset are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.bench.errors import BenchError
from headrace.bench.workload.datasets.chats import read_chats
from headrace.bench.workload.datasets.recognise import recognise
from headrace.bench.workload.datasets.rows import MOST_TEXTS, Text, kept, left_out
from headrace.bench.workload.draws import BLOCK, Stream, generator
from headrace.bench.workload.envelope import Envelope, Request, asked_output
from headrace.bench.workload.given import json_body
from headrace.bench.workload.lengths import Order
from headrace.bench.workload.spec import MOST_TURNS, Dataset, LoadSpec
from headrace.bench.workload.stock import fresh, word_stock

Messages = list[dict[str, Any]]


class _Talk(NamedTuple):
    fields: dict[str, Any]
    """Of every body, but for the messages."""
    turns: list[Messages]
    """What the user's side says in each: at last a user's message, before it what may stand there."""


class SessionWorkload:
    """A workload whose requests are first turns; ``follow`` makes the others."""

    trace_s: NDArray[np.float64] | None = None

    def __init__(self, spec: LoadSpec) -> None:
        """Raises BenchError for a load or a dataset that sessions cannot be made of."""
        dataset = spec.source
        if not isinstance(dataset, Dataset) or (dataset.format or recognise(dataset.path)) != "chat":
            raise BenchError('sessions are made of a dataset of chats: {"messages": [...]} in each line')
        if not spec.content.stream:
            raise BenchError("sessions are read from streams; ask for them")
        assert spec.sessions is not None
        self._spec, self._dataset = spec, dataset
        self._envelope = Envelope(spec.model, spec.content)
        self._heads = None if spec.content.reuse else word_stock((), spec.content.salt, spec.seed)
        self._talks, rows, self.findings = _read(dataset.path, read_chats(dataset.path))
        if not self._talks:
            raise BenchError(
                f"{dataset.path} holds no chat with a user's message ({rows:,} rows); expected one or more"
            )
        self.size: int | None = len(self._talks)
        self._order = Order(self.size, spec.seed, dataset.shuffle)
        outputs = [asked_output(self._body(talk, [])) for talk in self._talks]
        self.lengths = np.array([(np.nan, np.nan if each is None else each) for each in outputs], dtype=np.float64)

    def request(self, number: int) -> Request:
        return self.follow(number, ())

    def turns(self, number: int) -> int:
        """Of this session."""
        return len(self._talk(number).turns)

    def follow(self, number: int, answers: Sequence[str]) -> Request:
        """The turn of session ``number`` after so many answers."""
        talk = self._talk(number)
        said = [list(turn) for turn in talk.turns[: len(answers) + 1]]
        if self._heads is not None:
            said[0][0] = _headed(said[0][0], self._heads.head(number).decode().lstrip())
        messages = said[0]
        for answer, turn in zip(answers, said[1:], strict=True):
            messages += [{"role": "assistant", "content": answer}, *turn]
        body = self._body(talk, messages)
        return Request(self._envelope.chat_path, json_body(body), None, asked_output(body))

    def think_s(self, number: int, turn: int) -> float:
        """Before this turn, from the answer before it: exponential, the same whenever it is asked."""
        assert self._spec.sessions is not None
        block, place = divmod(number * MOST_TURNS + turn, BLOCK)
        draws = generator(self._spec.seed, Stream.THINKING, block).exponential(1.0, BLOCK)
        return float(draws[place]) * self._spec.sessions.think_s

    def describe(self) -> str:
        turns = [len(talk.turns) for talk in self._talks]
        parts = [
            f"sessions of {min(turns)} to {max(turns)} turns (mean {np.mean(turns):.1f}) of {self.size:,} chats in "
            f"{self._dataset.path}, with the model's own answers"
        ]
        if self._heads is not None:
            parts.append(fresh(self._spec.content, self._spec.seed))
        return "; ".join(parts)

    def _talk(self, number: int) -> _Talk:
        return self._talks[self._order.row(number)]

    def _body(self, talk: _Talk, messages: Messages) -> dict[str, Any]:
        return self._envelope.given({**talk.fields, "messages": messages}, self._dataset.output_tokens)


def _read(path: str, texts: Iterable[Text | None]) -> tuple[list[_Talk], int, tuple[str, ...]]:
    """Talks, rows looked at, and what the user must know of them."""
    talks: list[_Talk] = []
    rows = cut = 0
    findings: tuple[str, ...] = ()
    for text in texts:
        rows += 1
        turns = [] if text is None else _turns(text.fields.get("messages", []))
        if text is None or not turns:
            continue
        cut += len(turns) > MOST_TURNS
        fields = {name: value for name, value in text.fields.items() if name != "messages"}
        talks.append(_Talk(fields, turns[:MOST_TURNS]))
        if len(talks) == MOST_TEXTS:
            findings = (kept(path, MOST_TEXTS),)
            break
    findings += left_out(rows - len(talks), rows, "they are no chats, or their user says nothing")
    if cut:
        findings += (f"{cut:,} chats have more than {MOST_TURNS} turns, of which the first {MOST_TURNS} are sent",)
    return talks, rows, findings


def _turns(messages: Messages) -> list[Messages]:
    turns: list[Messages] = []
    before: Messages = []
    for message in messages:
        if message["role"] == "assistant":
            continue
        before.append(message)
        if message["role"] == "user" and message.get("content"):
            turns.append(before)
            before = []
    return turns


def _headed(message: dict[str, Any], head: str) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, list):
        return message | {"content": [{"type": "text", "text": head}, *content]}
    return message | {"content": f"{head}\n\n{content or ''}"}
