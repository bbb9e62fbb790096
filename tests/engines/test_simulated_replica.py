"""The live process: its reports, its API as the OpenAI client sees it, its counts and its timing."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import msgspec
import openai
import pytest

from headrace.engines.base import EngineError, ModelSettings, ReplicaReport, ReplicaSpec
from headrace.engines.simulated.engine import SimulatedEngine
from headrace.fleet.process import spawn
from headrace.wire.client import Client

FAST = {"base_s": 0.0001, "prefill_s": 0.0, "decode_s": 0.0, "context_s": 0.0}
SECRET = "the-secret"


class Process:
    """A replica process and its first reports."""

    def __init__(self, *, slots: int = 4, context: int = 4096, raw: str | None = None, **engine_args: Any) -> None:
        model = ModelSettings(name="m", engine="simulated", slots=slots, context=context, engine_args=engine_args)
        spec = ReplicaSpec(replica="r1", model=model, secret=SECRET)
        self.popen = spawn(
            SimulatedEngine().argv(model),
            stdin=raw if raw is not None else msgspec.json.encode(spec).decode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.url = ""

    def report(self) -> ReplicaReport:
        assert self.popen.stdout is not None
        return msgspec.json.decode(self.popen.stdout.readline(), type=ReplicaReport)

    def ready(self) -> Process:
        assert self.report().state == "loading"
        report = self.report()
        assert report.state == "ready" and report.url is not None
        self.url = report.url
        return self

    def stop(self) -> int:
        self.popen.terminate()
        status = self.popen.wait(10)
        for stream in (self.popen.stdout, self.popen.stderr):
            assert stream is not None
            stream.close()
        return status


Start = Callable[..., Process]


@pytest.fixture(scope="module")
def fast() -> Iterator[Process]:
    process = Process(iteration=FAST).ready()
    yield process
    process.stop()


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:

        def started(**options: Any) -> Process:
            process = Process(**options)
            stack.callback(process.stop)
            return process

        yield started


def openai_client(process: Process, key: str = SECRET) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{process.url}/v1", api_key=key, max_retries=0, timeout=30)


@pytest.fixture
async def client(fast: Process) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai_client(fast) as client:
        yield client


async def post(process: Process, body: bytes, path: str = "/v1/completions") -> tuple[int, Any]:
    async with Client(process.url) as client:
        response = await client.request("POST", path, [(b"authorization", f"Bearer {SECRET}".encode())], body)
        return response.status, json.loads(await response.read())


async def test_a_chat_counts_contents_by_four_bytes_and_four_for_each_message(client: openai.AsyncOpenAI) -> None:
    messages: Any = [
        {"role": "system", "content": "12345"},
        {"role": "user", "content": [{"type": "text", "text": "Zürich"}]},
    ]
    answer = await client.chat.completions.create(model="m", messages=messages, max_tokens=7)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == (2 + 4) + (2 + 4)  # Zürich is 7 bytes
    assert answer.usage.completion_tokens == 7
    assert answer.usage.total_tokens == 19
    assert answer.choices[0].message.content == " sim" * 7
    assert answer.choices[0].finish_reason == "length"
    assert (answer.model, answer.system_fingerprint) == ("simulated/m", "simulated")


@pytest.mark.parametrize(("prompt", "tokens"), [([1] * 2048, 2048), ("x" * 9, 3), ("é", 1)])
async def test_a_prompt_counts_its_ids_or_its_bytes(prompt: Any, tokens: int, client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(model="m", prompt=prompt, max_tokens=3)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (tokens, 3)


@pytest.mark.parametrize("tokens", [1, 2, 20])
async def test_a_stream_has_one_event_for_each_token_and_usage_on_request(
    tokens: int, client: openai.AsyncOpenAI
) -> None:
    stream = await client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": "hi"}],
        max_completion_tokens=tokens,
        stream=True,
        stream_options={"include_usage": True},
    )
    events = [event async for event in stream]
    assert [event.choices[0].delta.content for event in events[:-1]] == [" sim"] * tokens
    assert [event.choices[0].finish_reason for event in events[:-1]] == [None] * (tokens - 1) + ["length"]
    assert events[0].choices[0].delta.role == "assistant"
    assert events[-1].choices == [] and events[-1].usage is not None
    assert (events[-1].usage.prompt_tokens, events[-1].usage.completion_tokens) == (5, tokens)
    assert {(event.model, event.system_fingerprint) for event in events} == {("simulated/m", "simulated")}


async def test_a_stream_without_the_option_has_no_usage(client: openai.AsyncOpenAI) -> None:
    stream = await client.completions.create(model="m", prompt="hi", max_tokens=2, stream=True)
    events = [event async for event in stream]
    assert [event.choices[0].text for event in events] == [" sim"] * 2
    assert all(event.usage is None for event in events)


async def test_without_max_tokens_the_default_applies_or_what_fits(start: Start) -> None:
    process = start(iteration=FAST, context=100).ready()
    async with openai_client(process) as client:
        answer = await client.completions.create(model="m", prompt=[1] * 40)
    assert answer.usage is not None and answer.usage.completion_tokens == 60


async def test_health_needs_no_secret_and_everything_else_does(fast: Process) -> None:
    async with Client(fast.url) as client:
        assert (await client.request("GET", "/health")).status == 200
        assert (await client.request("GET", "/v1/models")).status == 401
        assert (await client.request("POST", "/v1/completions", [(b"authorization", b"Bearer wrong")])).status == 401
    with pytest.raises(openai.AuthenticationError):
        await openai_client(fast, key="wrong").models.list()


async def test_models_says_simulated(client: openai.AsyncOpenAI) -> None:
    models = await client.models.list()
    assert [model.id for model in models.data] == ["simulated/m"]


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b'{"prompt": "hi", "max_tokens": 4096}', "prompt", "context of 4096 tokens"),
        (json.dumps({"prompt": [1] * 4096}).encode(), "prompt", "4096 tokens and max_tokens is not set"),
        (b'{"prompt": "hi", "max_tokens": 0}', "max_tokens", "at least 1"),
        (b'{"prompt": [32768]}', "prompt", "below 32768"),
        (b'{"prompt": []}', "prompt", "not empty"),
        (b"{}", "prompt", "a text or a list"),
        (b'{"prompt": "hi", "n": 2}', "n", "n must be 1"),
        (b'{"prompt": ["hi"]}', None, "$.prompt"),
        (b"{", None, "not a valid request"),
    ],
)
async def test_what_can_never_be_served_is_answered_400_in_openais_shape(
    body: bytes, param: str | None, words: str, fast: Process
) -> None:
    status, answer = await post(fast, body)
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["param"] == param
    assert words in answer["error"]["message"]


async def test_an_input_beyond_the_context_is_openais_error(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await client.completions.create(model="m", prompt=[1] * 4000, max_tokens=97)
    assert raised.value.code == "context_length_exceeded"


async def test_another_path_is_404(fast: Process) -> None:
    status, answer = await post(fast, b"{}", "/v1/audio/speech")
    assert status == 404 and "/v1/audio/speech" in answer["error"]["message"]


async def test_a_client_that_leaves_frees_its_slot(start: Start) -> None:
    process = start(iteration={**FAST, "base_s": 0.02}, slots=1).ready()  # 4000 tokens would take 80 s
    async with openai_client(process) as client, asyncio.timeout(20):
        stream = await client.completions.create(model="m", prompt="a", max_tokens=4000, stream=True)
        await anext(aiter(stream))
        waiting = asyncio.create_task(client.completions.create(model="m", prompt="b", max_tokens=4000))
        await anext(aiter(stream))
        waiting.cancel()  # one leaves its slot, the other the queue
        await stream.close()
        answer = await client.completions.create(model="m", prompt="c", max_tokens=2)
    assert answer.usage is not None and answer.usage.completion_tokens == 2


async def test_iterations_shorter_than_a_timer_can_fire_do_not_add_up_their_delays(start: Start) -> None:
    process = start(iteration={"base_s": 0.0005, "prefill_s": 0.0001, "decode_s": 0.0002, "context_s": 0.0}).ready()
    expected = (0.0005 * 2 + 0.0001 * 1000) + 1999 * (0.0005 + 0.0002)
    async with openai_client(process) as client:
        await client.models.list()
        began = time.monotonic()
        await client.completions.create(model="m", prompt=[1] * 1000, max_tokens=2000)
        elapsed = time.monotonic() - began
    assert expected - 0.005 <= elapsed <= expected * 1.05 + 0.2


async def test_sequences_share_iterations(start: Start) -> None:
    process = start(iteration={**FAST, "base_s": 0.002, "decode_s": 0.0005}, slots=4).ready()
    async with openai_client(process) as client:
        began = time.monotonic()
        await asyncio.gather(
            *(client.completions.create(model="m", prompt=[1], max_tokens=200) for _ in range(4)),
        )
        elapsed = time.monotonic() - began
    together = 200 * (0.002 + 4 * 0.0005)
    assert together * 0.9 <= elapsed <= together * 1.1 + 0.3


async def test_a_prefix_seen_before_is_cached_where_asked_for(start: Start) -> None:
    process = start(iteration=FAST, slots=1, prefix_cache=True).ready()
    async with openai_client(process) as client:
        cached = []
        for prompt in ("a" * 40, "a" * 20 + "b" * 20):
            answer = await client.completions.create(model="m", prompt=prompt, max_tokens=1)
            assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
            cached.append(answer.usage.prompt_tokens_details.cached_tokens)
    assert cached == [0, 5]


async def test_null_mode_answers_the_same_at_once(start: Start) -> None:
    process = start(null=True, null_events=5).ready()
    async with openai_client(process) as client:
        whole = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        stream = await client.completions.create(
            model="m", prompt="hi", stream=True, stream_options={"include_usage": True}
        )
        events = [event async for event in stream]
        bare = [event async for event in await client.completions.create(model="m", prompt="hi", stream=True)]
    assert whole.choices[0].message.content == " sim" * 5
    assert whole.system_fingerprint == "simulated"
    assert len(events) == 6 and events[-1].usage is not None and events[-1].usage.completion_tokens == 5
    assert len(bare) == 5


async def test_null_mode_sends_as_many_events_as_asked_for_each_in_its_time(start: Start) -> None:
    process = start(null=True, null_interval_ms=20.0).ready()
    async with openai_client(process) as client:
        began = time.monotonic()
        arrivals = []
        async for event in await client.completions.create(model="m", prompt="hi", stream=True, max_tokens=6):
            arrivals.append(time.monotonic() - began)
            assert event.choices[0].text == " sim"
        single = [e async for e in await client.completions.create(model="m", prompt="hi", stream=True, max_tokens=1)]
        whole = await client.completions.create(model="m", prompt="hi", max_tokens=7)
    assert len(arrivals) == 6 and len(single) == 1
    assert single[0].choices[0].finish_reason == "length"
    assert whole.usage is not None and whole.usage.completion_tokens == 7
    assert all(arrived >= 0.02 * index for index, arrived in enumerate(arrivals))


async def test_a_null_stream_whose_client_left_does_not_hold_up_the_others(start: Start) -> None:
    process = start(null=True, null_interval_ms=5.0).ready()
    async with openai_client(process) as client:
        left = await client.completions.create(model="m", prompt="hi", stream=True, max_tokens=1000)
        await anext(aiter(left))
        await left.close()
        stream = await client.completions.create(model="m", prompt="hi", stream=True, max_tokens=10)
        assert len([event async for event in stream]) == 10


def test_loading_takes_as_long_as_asked(start: Start) -> None:
    process = start(iteration=FAST, start_s=0.3)
    assert process.report().state == "loading"
    report = process.report()
    assert report.state == "ready" and report.load_s is not None and report.load_s >= 0.3
    assert report.engine_version is not None and report.engine_version.startswith("simulated")


@pytest.mark.parametrize("start_s", [0.0, 60.0])
def test_sigterm_ends_it_also_while_it_loads(start_s: float, start: Start) -> None:
    process = start(iteration=FAST, start_s=start_s)
    assert process.report().state == "loading"
    if not start_s:
        process.report()
    began = time.monotonic()
    assert process.stop() in (0, -signal.SIGTERM)
    assert time.monotonic() - began < 5


def test_a_spec_that_is_none_is_reported(start: Start) -> None:
    process = start(raw="{}")
    report = process.report()
    assert report.state == "failed" and report.error is not None and "replica" in report.error
    assert process.popen.wait(10) == 1


@pytest.mark.parametrize(
    ("engine_args", "words"),
    [
        ({}, "has no timing"),
        ({"iteration": FAST, "speed": 9}, "speed"),
        ({"iteration": {"base_s": 1}}, "prefill_s"),
        ({"iteration": {**FAST, "base_s": 0.0}}, "positive duration"),
        ({"iteration": {**FAST, "prefill_budget": 4}}, "exceed the 4 slots"),
        ({"iteration": FAST, "start_s": -1}, "start_s >= 0"),
        ({"null": True, "null_events": 0}, "null_events >= 1"),
        ({"null": True, "null_interval_ms": -1}, "null_interval_ms >= 0"),
    ],
)
def test_engine_args_that_make_no_engine_are_refused(engine_args: dict[str, Any], words: str) -> None:
    model = ModelSettings(name="m", engine="simulated", slots=4, engine_args=engine_args)
    with pytest.raises(EngineError, match=words):
        SimulatedEngine().check(model)
