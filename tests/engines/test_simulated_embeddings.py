"""Embeddings of the simulated engine: as OpenAI's client gets them, the same for the same input, and timed."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import openai
import pytest

from headrace.engines.base import ModelSettings, ReplicaReport, ReplicaSpec
from headrace.engines.simulated.embedding import MOST_DIMENSIONS, Inputs, answer, read, vector
from headrace.engines.simulated.engine import SimulatedEngine
from headrace.engines.simulated.prompt import Rejected
from headrace.fleet.process import spawn

PREFILL_S = 0.001


@pytest.fixture(scope="module", params=["timed", "null"])
def engine(request: pytest.FixtureRequest) -> Iterator[tuple[str, bool]]:
    """Base URL; and whether it takes its time."""
    iteration = {"base_s": 0.0, "prefill_s": PREFILL_S, "decode_s": 0.0, "context_s": 0.0}
    engine_args: dict[str, Any] = {"iteration": iteration} if request.param == "timed" else {"null": True}
    model = ModelSettings(name="m", engine="simulated", slots=2, context=256, engine_args=engine_args)
    spec = msgspec.json.encode(ReplicaSpec(replica="r1", model=model, secret="s")).decode()
    process = spawn(SimulatedEngine().argv(model), stdin=spec, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    url = None
    while url is None:
        url = msgspec.json.decode(process.stdout.readline(), type=ReplicaReport).url
    yield f"{url}/v1", request.param == "timed"
    process.terminate()
    process.wait(10)
    process.stdout.close()


async def test_the_openai_client_gets_a_vector_for_each_input(engine: tuple[str, bool]) -> None:
    url, _ = engine
    async with openai.AsyncOpenAI(base_url=url, api_key="s", max_retries=0) as client:
        packed = await client.embeddings.create(model="m", input=["hello", "you", "hello"])  # asks for base64
        plain = await client.embeddings.create(model="m", input="hello", encoding_format="float", dimensions=7)
        ids = await client.embeddings.create(model="m", input=[[1, 2, 3], [4, 5]])
    assert [found.index for found in packed.data] == [0, 1, 2]
    first, second, third = (found.embedding for found in packed.data)
    assert first == third != second
    assert len(first) == 64
    assert math.fsum(number * number for number in first) == pytest.approx(1)
    assert len(plain.data[0].embedding) == 7
    assert (packed.model, packed.usage.prompt_tokens, packed.usage.total_tokens) == ("simulated/m", 5, 5)
    assert ids.usage.prompt_tokens == 5


async def test_inputs_take_the_time_of_their_prefill(engine: tuple[str, bool]) -> None:
    url, timed = engine
    async with openai.AsyncOpenAI(base_url=url, api_key="s", max_retries=0) as client:
        await client.embeddings.create(model="m", input="a")
        began = time.monotonic()
        await client.embeddings.create(model="m", input=[[1] * 100, [2] * 100])
        assert (time.monotonic() - began >= 200 * PREFILL_S) is timed


async def test_a_client_that_leaves_frees_the_engine(engine: tuple[str, bool]) -> None:
    url, _ = engine
    async with openai.AsyncOpenAI(base_url=url, api_key="s", max_retries=0) as client:
        began = time.monotonic()
        asked = [
            asyncio.create_task(client.embeddings.create(model="m", input=[[1] * 250] * 200)) for _ in range(3)
        ]  # 50 s each
        await client.models.list()
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await client.embeddings.create(model="m", input="a")
        assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("members", "param", "words"),
    [
        ({}, "input", "not empty"),
        ({"input": []}, "input", "not empty"),
        ({"input": ""}, "input", "not empty"),
        ({"input": ["a", ""]}, "input", "not empty"),
        ({"input": {"text": "a"}}, "input", "a list of either"),
        ({"input": ["a", 1.5]}, "input", "token ids"),
        ({"input": [[1], ["a"]]}, "input", "token ids"),
        ({"input": [40_000]}, "input", "below 32768"),
        ({"input": ["a", [1] * 257]}, "input", "257 tokens"),
        ({"input": "a", "dimensions": 0}, "dimensions", "expected 1 to"),
        ({"input": "a", "dimensions": MOST_DIMENSIONS + 1}, "dimensions", "expected 1 to"),
        ({"input": "a", "encoding_format": "hex"}, None, "hex"),
    ],
)
def test_what_can_never_be_embedded_is_refused(members: dict[str, Any], param: str | None, words: str) -> None:
    with pytest.raises(Rejected, match=words) as refused:
        read(json.dumps(members).encode(), context=256, vocabulary=32768)
    assert refused.value.param == param


def test_vectors_are_those_of_the_tokens() -> None:
    assert vector([1, 2], 8) == vector([1, 2], 8) != vector([2, 1], 8)
    assert vector(["1"], 8) != vector([1], 8)
    body = json.loads(answer("m", Inputs([[1, 2]], 8, base64=False)))
    assert body["data"][0]["embedding"] == vector([1, 2], 8)
