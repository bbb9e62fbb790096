"""ShareGPT: a JSON array of conversations, each with turns of ``from`` and ``value``.

What the human said first is the prompt, and the length of the answer to it is asked for. Files are hundreds of
megabytes, and so are read one conversation at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from headrace.bench.errors import BenchError
from headrace.bench.workload.datasets.files import opened
from headrace.bench.workload.datasets.rows import Text

PIECE = 1 << 20
"""Characters read at a time."""

LARGEST = 1 << 26
"""Characters of one conversation; more is a file that is damaged."""

_HUMAN = {"human", "user"}
_MODEL = {"gpt", "chatgpt", "assistant", "model", "bing", "bard"}


def read_sharegpt(path: str) -> Iterator[Text | None]:
    """None for a conversation in which nobody asked, or nobody answered. Raises BenchError naming the conversation."""
    with opened(path) as text:
        for number, conversation in enumerate(_values(text, path), start=1):
            at = f"{path}, conversation {number}"
            turns = conversation.get("conversations") if isinstance(conversation, dict) else None
            if not isinstance(turns, list):
                raise BenchError(f'{at}: expected an object with "conversations", a list of turns')
            yield _first_question([_turn(turn, at) for turn in turns])


def _turn(turn: Any, at: str) -> tuple[str, str]:
    match turn:
        case {"from": str() as who, "value": str() as said}:
            return who, said
    raise BenchError(f'{at}: a turn is not like {{"from": "human", "value": "Hello"}}')


def _first_question(turns: list[tuple[str, str]]) -> Text | None:
    system = [said for who, said in turns[:1] if who == "system" and said.strip()]
    first = next((place for place, (who, _) in enumerate(turns) if who in _HUMAN), len(turns))
    asked = []
    for who, said in turns[first:]:
        if who in _HUMAN:
            asked.append(said)
            continue
        question = "\n".join(asked)
        if who not in _MODEL or not question.strip() or not said.strip():
            return None
        messages = [{"role": "system", "content": text} for text in system]
        return Text({"messages": [*messages, {"role": "user", "content": question}]}, reply=said)
    return None


def _values(text: TextIO, path: str) -> Iterator[Any]:
    """Values of an array, or one after the other, without ever holding more than one and a piece of the file."""
    decoder = json.JSONDecoder()
    held = ""
    at = count = 0
    piece = PIECE
    array = False
    while True:
        while at < len(held) and held[at] in " \t\r\n,[" and not (held[at] == "[" and array):
            array = array or held[at] == "["
            at += 1
        try:
            value, at = decoder.raw_decode(held, at)
        except ValueError as error:
            if held[at : at + 1] == "]":
                return
            more = text.read(piece)
            if more and len(held) - at < LARGEST:
                # Twice as much each time, so that a long conversation is not read again for every piece of it.
                held, at, piece = held[at:] + more, 0, piece * 2
                continue
            if not more and at == len(held) and count and not array:
                return
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise BenchError(
                f"{path} is cut off or damaged after {count:,} whole conversations ({reason}); expected a JSON array "
                "of conversations"
            ) from None
        count += 1
        piece = PIECE
        yield value
