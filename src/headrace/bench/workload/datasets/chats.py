"""Requests as JSON lines: bodies of the OpenAI API, lines of its batch files, or objects that hold a prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from headrace.bench.errors import BenchError
from headrace.bench.workload.datasets.files import lines
from headrace.bench.workload.datasets.rows import Text

QUESTIONS = ("question", "instruction", "text", "turns")
"""Fields of other public sets of prompts (GSM8K, Alpaca, MT-Bench); of several turns, the first is asked."""


def read_chats(path: str) -> Iterator[Text | None]:
    """Fields of bodies are passed on as they are. None for a row whose prompt is empty. Raises BenchError naming the
    line."""
    for number, line in lines(path):
        at = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BenchError(f"{at}: not JSON ({error}); expected one JSON object a line") from None
        yield _text(row, at)


def _text(row: Any, at: str) -> Text | None:
    if not isinstance(row, dict):
        raise BenchError(f"{at}: expected a JSON object")
    body = row.get("body", row)
    if not isinstance(body, dict):
        raise BenchError(f'{at}: "body" is no object; expected the body of a request')
    if "messages" in body and "prompt" not in body:
        return Text(body) if _has_text(body["messages"], at) else None
    if "prompt" in body and "messages" not in body:
        return _prompt(body, at)
    question = next((body[name] for name in QUESTIONS if name in body), None)
    if isinstance(question, list) and question:
        question = question[0]
    if not isinstance(question, str) or "messages" in body:
        raise BenchError(f'{at}: expected either {{"messages": [...]}} or {{"prompt": ...}}')
    return Text({"prompt": question}) if question.strip() else None


def _prompt(body: dict[str, Any], at: str) -> Text | None:
    match body["prompt"]:
        case str() as text:
            return Text(body) if text.strip() else None
        case [*ids] if ids and all(type(token) is int for token in ids):
            return Text(body)
        case []:
            return None
    raise BenchError(f'{at}: "prompt" is neither a text nor a list of token ids; expected one prompt a line')


def _has_text(messages: Any, at: str) -> bool:
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise BenchError(
            f'{at}: "messages" is no list of objects; expected such as {{"role": "user", "content": "Hi"}}'
        )
    if any("role" not in message for message in messages):
        raise BenchError(f'{at}: a message has no "role"; expected system, user, assistant or tool')
    return any(message.get("content") for message in messages)
