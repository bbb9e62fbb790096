"""Streams in random chunks and random writes through a whole gateway: however an engine sends the same events, the
client gets the same bytes, and the journal the same tokens."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from gateway_rig import QUERY_KEY, RAW, Rig, rig
from reference_proxy import Upstream, ask
from wire_corpus import Site
from wire_mutations import FUZZ_S, FUZZ_SEED, cut

from headrace.journal.records import Settled

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
TEXTS = ["a", "", "é" * 40, '"usage": {', "\n\n", "\r\n\r\n", "[DONE]", "data: [DONE]\n\n", "0\r\n\r\n", "x" * 3000]


@dataclass(frozen=True)
class Stream:
    """Events of one answer."""

    events: list[bytes]
    usage: bytes
    """The event that tells it; none where the engine tells nothing."""

    def whole(self, *, usage: bool) -> bytes:
        return b"".join([*self.events, self.usage if usage else b"", b"data: [DONE]\n\n"])


def stream(rng: random.Random) -> Stream:
    """Of up to thirty events."""
    events = []
    for _ in range(rng.choice((0, 1, 2, 5, 30))):
        text = rng.choice(TEXTS)
        members = {"choices": [{"index": 0, "text": text}]} | ({"usage": None} if rng.random() < 0.1 else {})
        events.append(b"data: " + json.dumps(members, separators=(",", ":")).encode() + b"\n\n")
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": rng.randrange(1000)}}
    told = b"data: " + json.dumps(usage).encode() + b"\n\n"
    return Stream(events, told if rng.random() < 0.7 else b"")


def framed(rng: random.Random, sent: Stream) -> tuple[list[bytes], bool]:
    """Writes of an engine that sends it, and whether it closes then."""
    data = sent.whole(usage=True)
    way = rng.randrange(4)
    if way == 0:
        return [HEAD + b"Connection: close\r\n\r\n", *cut(rng, data)], True
    events = [*sent.events, *([sent.usage] if sent.usage else []), b"data: [DONE]\n\n"]
    chunks = events if way == 1 else cut(rng, data)
    coded = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks]
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    if way == 3:
        return cut(rng, head + b"".join(coded) + b"0\r\n\r\n"), False
    return [head, *coded, b"0\r\n\r\n"], False


@dataclass
class Ways:
    """A gateway, and the engine behind it."""

    r: Rig
    upstream: Upstream

    async def send(self, pieces: list[bytes], closes: bool, *, usage: bool) -> tuple[bytes, str]:
        """The body that a client gets, and the request's id."""
        self.upstream.answer, self.upstream.closes = pieces, closes
        body = {"model": "smollm2", "prompt": "hi", "max_tokens": 50, "stream": True}
        if usage:
            body["stream_options"] = {"include_usage": True}
        fields = f"Authorization: Bearer {QUERY_KEY}\r\n".encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.r.port)
        data = Site(b"/v1/completions", fields, json.dumps(body).encode()).whole()
        answer = await ask(reader, writer, "POST", data)
        writer.close()
        assert answer.status == 200
        return answer.body, dict(answer.headers)["x-request-id"]


@pytest.fixture
async def ways() -> AsyncIterator[Ways]:
    async with rig(RAW) as r:
        upstream = Upstream()
        server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
        origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await r.publish(replicas=[r.engines[0].view(url=origin)])
        yield Ways(r, upstream)
        server.close()


async def test_however_an_engine_sends_its_events_client_and_journal_get_the_same(ways: Ways) -> None:
    rng = random.Random(f"whole {FUZZ_SEED}")
    until = time.monotonic() + FUZZ_S
    same: list[list[str]] = []
    while time.monotonic() < until:
        sent, usage = stream(rng), rng.random() < 0.5
        ids = []
        for _ in range(3):
            pieces, closes = framed(rng, sent)
            body, rid = await ways.send(pieces, closes, usage=usage)
            assert body == sent.whole(usage=usage), pieces
            ids.append(rid)
        same.append(ids)
    settled = {record.rid: record for record in await ways.r.settled(3 * len(same)) if isinstance(record, Settled)}
    for ids in same:
        tokens = {(settled[rid].input_tokens, settled[rid].output_tokens, settled[rid].outcome) for rid in ids}
        assert len(tokens) == 1, [(settled[rid], rid) for rid in ids]
    assert len(same) > 10
