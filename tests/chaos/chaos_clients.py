"""Clients that ask without a pause, retry as OpenAI's own client does, and remember every byte that they got."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp

MAX_RETRIES = 2
FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 8.0
LONGEST_RETRY_AFTER_S = 60.0
"""As in the ``openai`` package: 408, 409, 429, 5xx and lost connections are tried again, by the server's own
Retry-After where it gives one; an answer that has begun is not."""
GIVE_UP_S = 120.0
"""Of one attempt: longer than any outage that a run may have."""

END = b"data: [DONE]"
TOKEN = b'"finish_reason"'
"""In every event with a token, and in no other."""


@dataclass(eq=False)
class Attempt:
    """One HTTP request, as its client saw it. Times are ``time.monotonic()``."""

    client_id: str
    """Sent as ``client_request_id``: how the journal's view of it is found."""
    endpoint: str
    stream: bool
    max_tokens: int
    began: float
    sent: bool = False
    """Its last byte is on its way."""
    rid: str | None = None
    status: int | None = None
    bytes: int = 0
    """Of the body."""
    tokens: int = 0
    """Seen by the client."""
    seen: list[tuple[float, int]] = field(default_factory=list)
    """(time, tokens seen by then), as they came."""
    usage: dict[str, Any] | None = None
    """Told to the client at the end."""
    complete: bool = False
    ended: float | None = None
    engine_id: str | None = None
    """The engine's own name for its answer."""
    failure: str | None = None
    """``lost`` (the connection), ``event`` (an error inside the stream), or the status of the answer."""

    @property
    def answered(self) -> bool:
        """At least one byte of an answer came."""
        return self.status == 200 and self.bytes > 0

    def tokens_by(self, at: float) -> int:
        """Seen until then."""
        return max((tokens for when, tokens in self.seen if when <= at), default=0)


class Clients:
    """A number of them in a thread with an event loop of its own."""

    def __init__(self, url: str, key: str, endpoints: list[str], *, clients: int, seed: int) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}
        self._endpoints = endpoints
        self._clients = clients
        self._seed = seed
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="clients")
        self.attempts: list[Attempt] = []

    def __enter__(self) -> Clients:
        self._thread.start()
        self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Begin nothing new; returns when what was begun has ended."""
        self._stopping.set()
        self._thread.join(GIVE_UP_S * (MAX_RETRIES + 1))
        if self._thread.is_alive():
            raise TimeoutError("requests do not end")

    def open(self) -> list[Attempt]:
        """In flight at this moment."""
        return [attempt for attempt in list(self.attempts) if attempt.ended is None]

    def settle_down(self) -> None:
        """Returns when the clients have read what had come for them before the call."""
        done = threading.Event()

        async def pass_by() -> None:
            for _ in range(3):
                await asyncio.sleep(0.002)
            done.set()

        asyncio.run_coroutine_threadsafe(pass_by(), self._loop)
        done.wait(5)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        # A connection each: that a server has closed an idle one is no failure that a kill would have to explain.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        trace = aiohttp.TraceConfig()

        async def sent(_session: object, context: Any, _params: object) -> None:
            context.trace_request_ctx.sent = True

        trace.on_request_chunk_sent.append(sent)
        limit = aiohttp.ClientTimeout(total=GIVE_UP_S)
        async with aiohttp.ClientSession(connector=connector, timeout=limit, trace_configs=[trace]) as session:
            await asyncio.gather(*(self._client(session, number) for number in range(self._clients)))

    async def _client(self, session: aiohttp.ClientSession, number: int) -> None:
        draw = random.Random(f"{self._seed}-{number}")
        asked = 0
        while not self._stopping.is_set():
            asked += 1
            await self._ask(session, draw, f"{number}-{asked}")

    async def _ask(self, session: aiohttp.ClientSession, draw: random.Random, name: str) -> None:
        stream = draw.random() < 0.75
        # Mostly short; some run longer than the interval at which their progress is journaled.
        max_tokens = draw.choice((1, 8, 30, 60, 60, 120, 250))
        body: dict[str, Any] = {
            "model": draw.choice(self._endpoints),
            "prompt": [draw.randrange(1000) for _ in range(draw.choice((8, 200, 600, 1200)))],
            "max_tokens": max_tokens,
            "stream": stream,
            "ignore_eos": True,
        }
        if stream and draw.random() < 0.5:
            body["stream_options"] = {"include_usage": True}
        for retry in range(MAX_RETRIES + 1):
            attempt = Attempt(f"{name}-{retry}", body["model"], stream, max_tokens, time.monotonic())
            self.attempts.append(attempt)
            headers = {**self._headers, "x-stainless-retry-count": str(retry)}
            wait = await self._try(session, attempt, body | {"client_request_id": attempt.client_id}, headers)
            attempt.ended = time.monotonic()
            if wait is None or self._stopping.is_set():
                return
            backoff = min(FIRST_RETRY_S * 2**retry, LONGEST_RETRY_S) * (1 - 0.25 * draw.random())
            await asyncio.sleep(wait if 0 < wait <= LONGEST_RETRY_AFTER_S else backoff)

    async def _try(
        self, session: aiohttp.ClientSession, attempt: Attempt, body: dict[str, Any], headers: dict[str, str]
    ) -> float | None:
        """None where it is not to be tried again; else how long the server asked to wait, 0 where it did not."""
        try:
            async with session.post(
                f"{self._url}/v1/completions", json=body, headers=headers, trace_request_ctx=attempt
            ) as answer:
                attempt.status, attempt.rid = answer.status, answer.headers.get("x-request-id")
                if answer.status != 200:
                    attempt.failure = str(answer.status)
                    await answer.read()
                    return _retry_after(answer) if answer.status in (408, 409, 429) or answer.status >= 500 else None
                await (_events if attempt.stream else _whole)(answer, attempt)
                return None
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            # A stream that ends with an error event is cut behind it.
            attempt.failure = attempt.failure or "lost"
            return None if attempt.stream and attempt.status == 200 else 0.0


def _retry_after(answer: aiohttp.ClientResponse) -> float:
    with contextlib.suppress(KeyError, ValueError):
        return float(answer.headers["retry-after-ms"]) / 1000
    with contextlib.suppress(KeyError, ValueError):
        return float(answer.headers["retry-after"])
    return 0.0


async def _events(answer: aiohttp.ClientResponse, attempt: Attempt) -> None:
    rest = b""
    async for data in answer.content.iter_any():
        attempt.bytes += len(data)
        whole, _, rest = (rest + data).rpartition(b"\n\n")
        if not whole:
            continue
        if attempt.engine_id is None and TOKEN in whole:
            attempt.engine_id = json.loads(whole.split(b"\n\n")[0].removeprefix(b"data:"))["id"]
        attempt.tokens += whole.count(TOKEN)
        attempt.seen.append((time.monotonic(), attempt.tokens))
        for event in whole.split(b"\n\n"):
            if event.startswith(b'data: {"error"'):
                attempt.failure = "event"
            elif b'"usage":{' in event:
                attempt.usage = json.loads(event.removeprefix(b"data:"))["usage"]
            elif event.startswith(END):
                attempt.complete = True
    if not attempt.complete and attempt.failure is None:
        attempt.failure = "lost"


async def _whole(answer: aiohttp.ClientResponse, attempt: Attempt) -> None:
    body = b""
    async for data in answer.content.iter_any():
        attempt.bytes += len(data)
        body += data
    attempt.usage = json.loads(body)["usage"]
    attempt.tokens = attempt.usage["completion_tokens"]
    attempt.complete = True
