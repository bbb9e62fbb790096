"""Streams that do not go well, and comments in them, as client libraries and readers of lines see them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import openai
import pytest
import requests
from clients_rig import HELLO, MODEL, openai_of
from gateway_rig import PROGRESS, QUERY_KEY, RAW, Rig, answer, endpoint_view, rig

from headrace.gateway.snapshot import Traits

BOTH = pytest.mark.parametrize("traits", [RAW, PROGRESS], ids=["raw", "progress"])
OFTEN = {"sse_comment_s": 0.02}


async def lines_of(r: Rig, path: str, seen: Callable[[str], object] = lambda line: None) -> tuple[list[str], bool]:
    """Every line that is not empty, as mlflow reads them; and whether the answer broke off after them."""

    def read() -> tuple[list[str], bool]:
        lines: list[str] = []
        headers = {"Authorization": f"Bearer {QUERY_KEY}"}
        body = {"model": MODEL, "messages": HELLO, "stream": True}
        with requests.post(f"{r.url}{path}", json=body, headers=headers, stream=True, timeout=30) as got:
            assert got.status_code == 200
            try:
                for line in got.iter_lines(decode_unicode=True):
                    if line:
                        lines.append(line)
                        seen(line)
            except requests.exceptions.ChunkedEncodingError:
                return lines, True
        return lines, False

    return await asyncio.to_thread(read)


@BOTH
@pytest.mark.parametrize("base", ["/v1", "/serving-endpoints"])
async def test_an_engine_that_dies_in_mid_stream_raises_what_happened_and_not_that_the_connection_broke(
    traits: Traits, base: str
) -> None:
    async with rig(traits) as r, openai_of(r, base=base) as client:
        r.engines[0].behave = answer("a", "b", die_after=1)
        for completions in (False, True):
            texts: list[str] = []
            with pytest.raises(openai.APIError, match="lost in the middle") as caught:
                if completions:
                    text = await client.completions.create(model=MODEL, prompt="a", stream=True)
                    async for piece in text:
                        texts.append(piece.choices[0].text)
                else:
                    chat = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
                    async for event in chat:
                        texts.append(event.choices[0].delta.content or "")
            assert "".join(texts) == "a"
            assert not isinstance(caught.value, openai.APIConnectionError)
            assert (caught.value.code, caught.value.type) == ("engine_failed", "server_error")


@BOTH
async def test_a_reader_of_lines_sees_only_data_whatever_happens(traits: Traits) -> None:
    path = "/serving-endpoints/smollm2/invocations"
    async with rig(traits, **OFTEN) as r:
        r.engines[0].behave = answer("a", "b", hold_after=0)
        reading = asyncio.create_task(lines_of(r, path))
        await r.engines[0].asked()
        other = await r.connect()
        await other.send("POST", "/v1/chat/completions", {"model": MODEL, "messages": HELLO, "stream": True})
        for _ in range(3):
            await other.until(b": waiting")
        other.close()
        r.engines[0].release.set()
        lines, broke_off = await reading
        assert all(line.startswith("data: ") for line in lines)
        assert (lines[-1], broke_off) == ("data: [DONE]", False)
        r.engines[0].behave = answer("a", "b", die_after=1)
        lines, broke_off = await lines_of(r, path)
        assert all(line.startswith("data: ") for line in lines)
        assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "engine_failed"
        assert broke_off


# Comments.


@BOTH
async def test_the_client_takes_no_notice_of_comments(traits: Traits) -> None:
    async with rig(traits, **OFTEN) as r, openai_of(r) as client:
        await r.publish(replicas=[])
        stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)  # a comment has come
        await r.publish()
        assert "".join([event.choices[0].delta.content or "" async for event in stream]) == "Hello world"


@BOTH
async def test_a_replica_lost_after_a_comment_costs_the_client_nothing(traits: Traits) -> None:
    async with rig(traits, traits, **OFTEN) as r, openai_of(r) as client:
        r.engines[0].behave = answer("a", hold_after=0)
        stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        await r.engines[0].stop()
        assert "".join([event.choices[0].delta.content or "" async for event in stream]) == "Hello world"
        assert len(r.engines[1].bodies) == 1


@pytest.mark.parametrize(
    ("overload", "code", "words"),
    [({"queue_deadline_s": 0.3}, "deadline", "no slot"), ({"chunk": 10.0, "max_chunks": 1}, "rate", "no room")],
)
async def test_a_refusal_after_a_comment_is_raised(overload: dict[str, float], code: str, words: str) -> None:
    heavy = [{"role": "user", "content": "x" * 15_000}]
    async with rig(RAW, **OFTEN) as r, openai_of(r, retries=2) as client:
        r.endpoint = endpoint_view(**{"queue_deadline_s": 0.3, **overload})
        await r.publish(replicas=[r.engines[0].view(slots=1)])
        r.engines[0].behave = answer("a", hold_after=0)
        running = await r.connect()
        await running.send("POST", "/v1/chat/completions", {"model": MODEL, "messages": heavy})
        await r.engines[0].asked()
        stream = await client.chat.completions.create(model=MODEL, messages=heavy, stream=True)
        with pytest.raises(openai.APIError, match=words) as raised:
            async for _ in stream:
                pytest.fail("nothing was generated")
        assert (raised.value.code, raised.value.type) == (
            code,
            {"deadline": "server_error", "rate": "rate_limit_error"}[code],
        )
        running.close()
