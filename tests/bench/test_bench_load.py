"""Load on real sockets: a simulated replica whose token counts are exact, and toy servers that refuse and break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from headrace.bench.errors import BenchError
from headrace.bench.load import Load, Result, Run, Target
from headrace.bench.prompts import FilePrompts, TokenPrompts
from headrace.engines.base import ModelSettings
from headrace.fleet.spawn import OwnReplica, start_replica
from headrace.policy.work import RAW_TOKENS
from headrace.wire.server import Exchange, Server

ITERATION = {"base_s": 0.001, "prefill_s": 1e-5, "decode_s": 1e-4, "context_s": 0.0, "prefill_budget": 512}
PROMPTS = TokenPrompts(input_tokens=100, output_tokens=8)


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[OwnReplica]:
    model = ModelSettings(name="sim", engine="simulated", slots=4, engine_args={"iteration": ITERATION})
    own = await start_replica(model, log=tmp_path / "replica.log")
    yield own
    await own.stop()


def target(replica: OwnReplica, key: str | None = None) -> Target:
    return Target(url=replica.url, model="sim", key=key or replica.secret, weights=RAW_TOKENS)


async def toy(handle: Callable[[Exchange], Awaitable[None]]) -> tuple[Server, Target]:
    server = Server(handle)
    await server.listen(port=0)
    return server, Target(url=f"http://127.0.0.1:{server.port}", model="toy", key=None, weights=None)


async def finish(run: Run) -> Result:
    return await asyncio.wait_for(run.run(), 30)


@pytest.mark.parametrize("load", [Load(users=3, requests=20), Load(requests_per_s=100.0, requests=20)])
async def test_every_token_is_counted_exactly_in_either_loop(replica: OwnReplica, load: Load) -> None:
    result = await finish(Run(target(replica), load, PROMPTS))
    summary = result.summary
    assert (summary.requests, summary.ok, summary.without_usage) == (20, 20, 0)
    assert (summary.input_tokens, summary.output_tokens) == (2000, 160)
    assert summary.reference_tokens == 2160
    assert summary.ttft_sent is not None and summary.tpot is not None
    assert 0 < summary.ttft_sent.p50 < 1
    assert summary.tpot.p50 >= 0.0005  # an iteration takes a millisecond, and clocks are good to half of one
    assert [sample.number for sample in result.samples] == list(range(20))
    assert not result.interrupted


async def test_an_open_loop_counts_the_wait_of_a_slow_server_from_the_schedule(tmp_path: Path) -> None:
    """One slot, ten requests at once: the last waits for nine, whoever made it wait."""
    slow = {**ITERATION, "base_s": 0.01}
    model = ModelSettings(name="sim", engine="simulated", slots=1, engine_args={"iteration": slow})
    own = await start_replica(model, log=tmp_path / "replica.log")
    try:
        result = await finish(Run(target(own), Load(requests_per_s=1000.0, requests=10), PROMPTS))
    finally:
        await own.stop()
    latency = result.summary.e2e_scheduled
    assert latency is not None
    assert latency.max > 9 * 8 * 0.01
    assert result.reference_tokens_per_s_planned == 1000.0 * 108


async def test_prompts_of_a_file_go_to_the_route_that_they_are_for(replica: OwnReplica) -> None:
    lines = ({"prompt": "abcdefgh"}, {"messages": [{"role": "user", "content": "abcd"}]})
    result = await finish(Run(target(replica), Load(users=1, requests=2), FilePrompts(lines, output_tokens=5)))
    assert [sample.input_tokens for sample in result.samples] == [2, 5]  # four bytes a token; four more a message
    assert result.summary.output_tokens == 10


async def test_a_wrong_key_is_a_failure_with_the_servers_words(replica: OwnReplica) -> None:
    result = await finish(Run(target(replica, key="wrong"), Load(users=1, requests=2), PROMPTS))
    assert result.summary.failed == 2
    assert result.summary.statuses == {"401": 2}
    assert next(iter(result.summary.errors)).startswith("401: ")
    assert "wrong" not in next(iter(result.summary.errors))


async def test_refusals_are_counted_apart_and_never_retried() -> None:
    seen = 0

    async def refuse(exchange: Exchange) -> None:
        nonlocal seen
        seen += 1
        status = 429 if seen % 2 else 503
        exchange.respond(status, [(b"retry-after", b"0")], b'{"error_code": "X", "message": "no room"}')

    server, to = await toy(refuse)
    result = await finish(Run(to, Load(users=1, requests=6), PROMPTS))
    await server.close()
    assert seen == 6
    assert (result.summary.rejected, result.summary.unavailable, result.summary.failed) == (3, 3, 0)
    assert result.summary.errors == {"no room": 6}


async def test_a_stream_that_breaks_off_is_a_failure_and_not_an_answer() -> None:
    async def half(exchange: Exchange) -> None:
        exchange.start(200, [(b"content-type", b"text/event-stream")])
        exchange.write(b'data: {"choices": [{"text": "a", "finish_reason": null}]}\n\n')
        exchange.finish()

    server, to = await toy(half)
    result = await finish(Run(to, Load(users=1, requests=1), PROMPTS))
    await server.close()
    assert result.summary.failed == 1
    assert "before its answer was complete" in next(iter(result.summary.errors))


async def test_nobody_there_is_a_result_and_no_crash() -> None:
    server, to = await toy(lambda exchange: asyncio.sleep(0))
    await server.close()
    result = await finish(Run(to, Load(users=1, requests=2), PROMPTS))
    assert result.summary.failed == 2
    assert result.summary.statuses == {"none": 2}


async def test_an_answer_that_takes_too_long_is_given_up() -> None:
    async def never(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    server, to = await toy(never)
    hurried = Target(to.url, to.model, None, None, timeout_s=0.05)
    result = await finish(Run(hurried, Load(users=1, requests=1), PROMPTS))
    await server.close()
    assert result.summary.errors == {"no complete answer within 0.05 s": 1}


async def test_a_stop_keeps_what_was_measured() -> None:
    arrived = asyncio.Event()

    async def first_only(exchange: Exchange) -> None:
        if arrived.is_set():
            await asyncio.Event().wait()
        exchange.start(200, [(b"content-type", b"text/event-stream")])
        exchange.write(b'data: {"choices": [{"text": "a", "finish_reason": "length"}]}\n\n')
        exchange.write(b'data: {"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 1}}\n\n')
        exchange.finish()
        arrived.set()

    server, to = await toy(first_only)
    run = Run(to, Load(users=1, requests=10), PROMPTS)
    task = asyncio.create_task(finish(run))
    await asyncio.wait_for(arrived.wait(), 10)
    async with asyncio.timeout(10):
        while run.now().sent < 2:  # noqa: ASYNC110 - the run tells its state and announces nothing
            await asyncio.sleep(0.001)
    run.stop()
    result = await task
    await server.close()
    assert result.interrupted
    assert (result.summary.ok, result.summary.unfinished) == (1, 1)


@pytest.mark.parametrize("url", ["ftp://x", "nothing"])
async def test_a_url_that_cannot_be_loaded_is_refused(url: str) -> None:
    with pytest.raises(BenchError, match="expected http://HOST:PORT"):
        await finish(Run(Target(url, "m", None, None), Load(users=1, requests=1), PROMPTS))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"requests": 1}, "either a number of users"),
        ({"users": 1, "requests_per_s": 1.0, "requests": 1}, "either a number of users"),
        ({"users": 0, "requests": 1}, "users is 0"),
        ({"users": 1}, "would never end"),
        ({"users": 1, "requests": 0}, "requests is 0"),
        ({"users": 1, "duration_s": 0.0}, "the duration is 0"),
        ({"requests_per_s": 0.0, "requests": 1}, "the rate is 0"),
    ],
)
def test_a_load_that_makes_no_sense_is_refused(words: dict[str, float], complaint: str) -> None:
    with pytest.raises(BenchError, match=complaint):
        Load(**words)  # type: ignore[arg-type]
