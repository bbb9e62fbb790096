"""One request of a profile: sent, timed as its bytes arrive, read after its end. Never sent twice."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import dataclass, field
from typing import Any

from headrace.bench.profiling.clock import Clock
from headrace.bench.profiling.shapes import Shape
from headrace.wire.client import Client, WireError
from headrace.wire.message import Header
from headrace.wire.sse import EventSplitter

LONGEST_ERROR = 300
"""Characters of a server's own words that are kept."""


@dataclass(frozen=True, slots=True)
class Server:
    """Who is asked, and how."""

    client: Client
    model: str
    key: str | None = field(repr=False)
    timeout_s: float = 600.0
    """For the whole answer."""
    reuse: bool = True
    """A connection may carry another request after a stream."""
    progress: bool = False
    """It reports the progress of prefill when asked."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of a request. Times on the measurement's clock."""

    sent_s: float
    end_s: float
    first_s: float | None = None
    """Arrival of the first event that carries a token."""
    last_s: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int | None = None
    """None: the engine does not tell."""
    prefill_step: int | None = None
    """Most prompt tokens between two reports of progress: the engine's prefill budget, where the prompt is longer."""
    fault: str | None = None
    """Why there is no whole answer."""

    @property
    def tpot_s(self) -> float | None:
        """(last token - first token) / (output tokens - 1); None for fewer than two tokens."""
        if self.first_s is None or self.last_s is None or self.output_tokens < 2:
            return None
        return (self.last_s - self.first_s) / (self.output_tokens - 1)


async def ask(server: Server, shape: Shape, tokens: list[int], clock: Clock) -> Asked:
    """Ask for the shape's answer to a prompt. Cancelling it closes the connection. Raises nothing else."""
    body = {
        "model": server.model,
        "prompt": tokens,
        "max_tokens": shape.output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if server.progress:
        body["return_progress"] = True
    payload = json.dumps(body, separators=(",", ":")).encode()
    headers: list[Header] = [(b"content-type", b"application/json"), (b"accept", b"text/event-stream")]
    if server.key:
        headers.append((b"authorization", b"Bearer " + server.key.encode()))
    sent_s = clock.now()
    pieces: list[tuple[float, bytes]] = []
    status = 0
    try:
        async with asyncio.timeout(server.timeout_s):
            response = await server.client.request("POST", "/v1/completions", headers, payload, reuse=server.reuse)
            async with response:
                status = response.status
                async for piece in response:
                    pieces.append((clock.now(), piece))
    except TimeoutError:
        return Asked(sent_s, clock.now(), fault=f"no complete answer within {server.timeout_s:g} s")
    except WireError as error:
        return Asked(sent_s, clock.now(), fault=str(error))
    end_s = clock.now()
    if status != 200:
        return Asked(sent_s, end_s, fault=f"status {status}: {_said(b''.join(piece for _, piece in pieces))}")
    return _read(pieces, sent_s, end_s)


def _read(pieces: list[tuple[float, bytes]], sent_s: float, end_s: float) -> Asked:
    """An OpenAI-compatible stream of one completion."""
    splitter = EventSplitter()
    times: list[float] = []
    processed: list[int] = []
    usage: dict[str, Any] | None = None
    finished = False
    fault: str | None = None
    for at_s, data in ((at_s, _data(event)) for at_s, piece in pieces for event in splitter.feed(piece)):
        if not data or data == b"[DONE]":
            continue
        try:
            event = json.loads(data)
        except ValueError:
            return Asked(sent_s, end_s, fault="an event of the stream is not JSON")
        if "error" in event:
            fault = fault or _message(event)
        usage = event.get("usage") or usage
        if progress := event.get("prompt_progress"):
            processed.append(int(progress.get("processed", 0)))
            continue
        for choice in event.get("choices") or ():
            finished = finished or choice.get("finish_reason") is not None
            # A token may show as no text (half a character); an empty last event only says why the answer ended.
            if choice.get("text") or choice.get("finish_reason") is None:
                times.append(at_s)
    if fault is None and (not finished or usage is None):
        fault = "the answer is not a stream of events that ends with a finish reason and usage"
    details = (usage or {}).get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens")
    steps = [late - early for early, late in itertools.pairwise(processed)]
    return Asked(
        sent_s,
        end_s,
        first_s=times[0] if times else None,
        last_s=times[-1] if times else None,
        input_tokens=int((usage or {}).get("prompt_tokens") or 0),
        output_tokens=int((usage or {}).get("completion_tokens") or 0),
        cached_tokens=None if cached is None else int(cached),
        prefill_step=max(steps, default=None),
        fault=fault,
    )


def _data(event: bytes) -> bytes:
    """The data of an event; empty for a comment or a keep-alive."""
    lines = (line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
    return b"\n".join(lines)


def _said(body: bytes) -> str:
    """The message of an error body, in OpenAI's form or as it is."""
    try:
        event: Any = json.loads(body)
    except ValueError:
        return body[:LONGEST_ERROR].decode(errors="replace")
    return _message(event)


def _message(event: Any) -> str:
    error = event.get("error") if isinstance(event, dict) else event
    text = error.get("message") if isinstance(error, dict) else error
    return str(text or event)[:LONGEST_ERROR]
