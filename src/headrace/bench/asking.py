"""One request: sent, timed as its bytes arrive, read after its end. Never sent twice."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from headrace.bench.loops import Clock
from headrace.bench.prompts import Prompt
from headrace.bench.samples import Answer, Outcome, Sample, Usage, read_answer
from headrace.wire.client import Client, Response, WireError
from headrace.wire.message import Header
from headrace.wire.sse import EventSplitter

LONGEST_ERROR = 300
"""Characters of a server's own words that are kept."""


@dataclass(frozen=True, slots=True)
class Server:
    """Who is asked, and how."""

    client: Client
    model: str
    """Sent as ``model``: an endpoint's name, or what another server calls its model."""
    key: str | None = field(repr=False)
    base: str = ""
    """Path before ``/v1``."""
    timeout_s: float = 600.0
    """For the whole answer."""
    reuse: bool = True
    """A connection may carry another request after a stream."""


async def ask(server: Server, prompt: Prompt, number: int, scheduled_s: float, clock: Clock) -> Sample:
    """What became of the request. Cancelling it closes the connection. Raises nothing else."""
    payload = encode(server, prompt)
    sent_s = clock.now()
    attempt = _Attempt(clock)
    try:
        async with asyncio.timeout(server.timeout_s):
            await attempt.run(server, prompt, payload)
    except TimeoutError:
        attempt.fault = f"no complete answer within {server.timeout_s:g} s"
    except WireError as error:
        attempt.fault = str(error)
    end_s = clock.now()
    answer = attempt.answer()
    usage = answer.usage or Usage(prompt.input_tokens or 0, len(answer.token_times))
    outcome, fault = attempt.outcome(answer)
    return Sample(
        number=number,
        outcome=outcome,
        scheduled_s=scheduled_s,
        sent_s=sent_s,
        first_s=answer.first_s,
        last_s=answer.last_s,
        end_s=end_s,
        status=attempt.status,
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        counted=answer.usage is not None,
        error=fault,
    )


def encode(server: Server, prompt: Prompt) -> bytes:
    """The body: always a stream, so that the first token can be seen; always with usage."""
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps({"model": server.model, **prompt.body, **stream}, separators=(",", ":")).encode()


class _Attempt:
    """What arrived, and when."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pieces: list[tuple[float, bytes]] = []
        self._is_stream = False
        self.status: int | None = None
        self.fault: str | None = None

    async def run(self, server: Server, prompt: Prompt, payload: bytes) -> None:
        headers: list[Header] = [(b"content-type", b"application/json"), (b"accept", b"text/event-stream")]
        if server.key:
            headers.append((b"authorization", b"Bearer " + server.key.encode()))
        target = f"{server.base}/v1/{prompt.route}"
        response = await server.client.request("POST", target, headers, payload, reuse=server.reuse)
        async with response:
            await self._read(response)

    async def _read(self, response: Response) -> None:
        self.status = response.status
        self._is_stream = (response.header(b"content-type") or b"").startswith(b"text/event-stream")
        now, keep = self._clock.now, self._pieces.append
        async for piece in response:
            keep((now(), piece))

    def answer(self) -> Answer:
        if not self._is_stream:
            return read_answer([])
        splitter = EventSplitter()
        return read_answer(
            [(at_s, _data(event)) for at_s, piece in self._pieces for event in splitter.feed(piece) if _data(event)]
        )

    def outcome(self, answer: Answer) -> tuple[Outcome, str | None]:
        """With the reason where it is not ok."""
        if self.fault is not None:
            return "failed", self.fault
        if self.status == 200 and self._is_stream:
            if answer.error is not None:
                return "failed", answer.error
            return ("ok", None) if answer.finished else ("failed", "the stream ended before its answer was complete")
        if self.status == 200:
            return "failed", "the answer is not a stream of events"
        said = _said(b"".join(piece for _, piece in self._pieces))
        if self.status == 429:
            return "rejected", said
        if self.status == 503:
            return "unavailable", said
        return "failed", f"{self.status}: {said}"


def _data(event: bytes) -> bytes:
    """The data of an event; empty for a comment or a keep-alive."""
    lines = (line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
    return b"\n".join(lines)


def _said(body: bytes) -> str:
    """The message of an error body, in Headrace's flat form, OpenAI's nested one, or as it is."""
    try:
        error: Any = json.loads(body)
    except ValueError:
        return body[:LONGEST_ERROR].decode(errors="replace")
    if isinstance(error, dict) and isinstance(error.get("error"), dict):
        error = error["error"]
    message = error.get("message") if isinstance(error, dict) else None
    return str(message or error)[:LONGEST_ERROR]
