"""What is asked of a server before prose can be sent to it at a length."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from misbehaving import Answer, always, client_spec, serving, whole

from headrace.bench.client.spec import ClientSpec
from headrace.bench.errors import BenchError
from headrace.bench.preparation import prepare, usage_in
from headrace.bench.workload.spec import Content, Dataset

PROSE = Content(prompt="text", force_length=False)


def counting(tokens_of: Callable[[int], int], *, tokenize: bool = False) -> tuple[Answer, list[str]]:
    """A server whose usage tells so many tokens for a prompt of so many words; and the paths that it was asked."""
    asked: list[str] = []

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        asked.append(path)
        document = json.loads(body)
        words = len(str(document.get("prompt") or document["messages"][0]["content"]).split())
        if path.endswith("/tokenize"):
            told = {"tokens": [1] * tokens_of(words)} if tokenize else {"error": "no such route"}
            writer.write(whole("200 OK" if tokenize else "404 Not Found", json.dumps(told).encode()))
            return
        usage = {"prompt_tokens": tokens_of(words), "completion_tokens": 1}
        writer.write(whole("200 OK", json.dumps({"choices": [{"text": " a"}], "usage": usage}).encode()))

    return answer, asked


async def prepared(answer: Answer, content: Content = PROSE, base: str = "") -> tuple[ClientSpec, list[str]]:
    said: list[str] = []
    async with serving(answer) as url:
        return await prepare(client_spec(url + base, content=content), None, said.append), said


async def test_a_load_of_token_ids_asks_nothing() -> None:
    answer, asked = counting(lambda words: words)
    spec, said = await prepared(answer, Content())
    assert (asked, said, spec.load.content.prose) == ([], [], None)


async def test_the_server_s_tokenize_route_makes_prose_exact() -> None:
    answer, asked = counting(lambda words: words + 1, tokenize=True)
    spec, said = await prepared(answer)
    prose = spec.load.content.prose
    assert prose is not None and (prose.counts, prose.per_word) == ("exact", 1.0)
    assert prose.origin == "the server's tokenize route"
    assert said == ["asking the server's tokenizer"] and set(asked) == {"/tokenize"}


async def test_without_one_its_usage_tells_how_many_tokens_a_word_has() -> None:
    answer, asked = counting(lambda words: 5 + 2 * words)
    spec, said = await prepared(answer)
    prose = spec.load.content.prose
    # The word that opens every prompt is one of those around its words.
    assert prose is not None and (prose.counts, prose.fixed, prose.per_word) == ("exact", 7, 2)
    assert said == ["asking the server how many tokens its prompts have"]
    assert set(asked) == {"/tokenize", "/v1/completions"}


async def test_a_server_behind_a_path_is_asked_there() -> None:
    answer, asked = counting(lambda words: words)
    await prepared(answer, base="/proxy")
    assert set(asked) == {"/proxy/tokenize", "/proxy/v1/completions"}


@pytest.mark.parametrize(
    "answer",
    [
        always(whole("401 Unauthorized", b'{"error":{"message":"no"}}')),
        always(b"", then_close=True),
        always(b"SSH-2.0\r\n\r\n"),
        always(whole("200 OK", b'{"choices":[{"text":" a"}]}')),
    ],
)
async def test_a_server_that_tells_nothing_is_left_to_the_run(answer: Answer) -> None:
    spec, _ = await prepared(answer)
    assert spec.load.content.prose is None


async def test_counts_that_cannot_be_those_of_the_prompts_are_refused() -> None:
    answer, _ = counting(lambda words: 7)
    with pytest.raises(BenchError, match="expected more tokens for more words"):
        await prepared(answer)


async def test_texts_of_a_dataset_are_counted_by_a_few_of_them(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "one two three four"}, {"from": "gpt", "value": "five six"}]
    file = tmp_path / "sharegpt.json"
    file.write_text(json.dumps([{"id": str(number), "conversations": turns} for number in range(20)]))
    answer, asked = counting(lambda words: words)
    async with serving(answer) as url:
        spec = client_spec(url)
        load = msgspec.structs.replace(spec.load, source=Dataset(path=str(file)))
        spec = await prepare(msgspec.structs.replace(spec, load=load), None, lambda words: None)
    prose = spec.load.content.prose
    assert prose is not None and prose.bytes_per_token == len("one two three four") / 4
    assert asked == ["/v1/chat/completions"] * 8


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"choices":[],"usage":{"prompt_tokens":7}}', 7),
        (b'data: {"choices":[]}\n\ndata: {"usage":{"prompt_tokens":7}}\n\ndata: [DONE]\n\n', 7),
        (b': hello\n\ndata: {"usage":null}\n\ndata: {"usage":{"prompt_tokens":7}}\n\n', 7),
        (b"", None),
        (b"<h1>Oops</h1>", None),
        (b'{"usage":{"prompt_tokens":null}}', None),
        (b'{"usage":[]}', None),
        (b"[1]", None),
    ],
)
def test_usage_is_read_of_a_document_and_of_a_stream(body: bytes, tokens: int | None) -> None:
    assert usage_in(body) == tokens
