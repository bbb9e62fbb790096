"""Answers of engines go through byte for byte, however events, chunks and reads are cut; a slow reader of the same
stream says what must come out of it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from gateway_wires import wires
from wire_mutations import FUZZ_S, FUZZ_SEED

from headrace.journal.records import Settled

CASES = int(max(200, 200 * FUZZ_S))
USAGE = {"prompt_tokens": 7, "completion_tokens": 3}
TEXTS = ["a", " world", "é\u2028", '"usage": {', "\n\n", "[DONE]", "data: [DONE]", "x" * 300]
CHAT = {"model": "smollm2", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def content(rng: random.Random) -> bytes:
    """An event of an engine, without its border."""
    text = json.dumps(rng.choice(TEXTS), ensure_ascii=rng.random() < 0.5).encode()
    kind = rng.randrange(8)
    if kind == 0:
        return b": comment"
    if kind == 1:
        return b'event: x\ndata: {"choices":[{"delta":{"content":%b}}]}' % text
    if kind == 2:
        return b'data: {"choices":[{"delta":{"content":%b}}],"usage":null}' % text
    return b'data:{"choices":[{"delta":{"content":%b}}],"n":1e0}' % text


def stream(rng: random.Random) -> tuple[list[bytes], int | None]:
    """Events of one answer, each with its border; and the index of the one that is the gateway's own, if any."""
    events = [content(rng) for _ in range(rng.randrange(1, 12))]
    own = None
    if rng.random() < 0.7:
        told = json.dumps({"choices": [], "usage": USAGE}, separators=rng.choice([(",", ":"), (", ", ": ")]))
        own = rng.choice([len(events), rng.randrange(len(events) + 1)])
        events.insert(own, b"data: " + told.encode())
    if rng.random() < 0.9:
        events.append(b"data: [DONE]")
    border = rng.choice([b"\n\n", b"\n\n", b"\r\n\r\n"])
    return [event + border for event in events], own


def chunked(rng: random.Random, events: list[bytes]) -> list[bytes]:
    """The events in chunks: mostly one each, or several, or cut anywhere."""
    style = rng.randrange(4)
    if style == 0:
        pieces = events
    elif style == 1:
        whole = b"".join(events)
        places = sorted(rng.randrange(len(whole) + 1) for _ in range(rng.randrange(12)))
        pieces = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]
    else:
        pieces = []
        for event in events:  # some in two chunks, some in one with their neighbour
            at = rng.choice([0, 0, rng.randrange(len(event)), len(event) - 1])
            if pieces and rng.random() < 0.2:
                pieces[-1] += event[:at]
            else:
                pieces.append(event[:at])
            pieces.append(event[at:])
    size = rng.choice([b"%x", b"%x", b"%X", b"00%x", b"%x;a=b"])
    return [b"%b\r\n%b\r\n" % (size % len(piece), piece) for piece in pieces if piece] + [b"0\r\n\r\n"]


def reads(rng: random.Random, chunks: list[bytes]) -> list[bytes]:
    """Mostly a chunk each; or several, or cut anywhere."""
    style = rng.randrange(3)
    if style == 0:
        return chunks
    whole = b"".join(chunks)
    if style == 1 and rng.random() < 0.3:
        return [whole[i : i + 1] for i in range(len(whole))]
    places = sorted(rng.randrange(len(whole) + 1) for _ in range(rng.randrange(20)))
    return [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True) if a < b]


def expected(events: list[bytes], own: int | None, *, keeps_usage: bool) -> bytes:
    return b"".join(event for index, event in enumerate(events) if keeps_usage or index != own)


@pytest.mark.parametrize(
    ("path", "body", "keeps_usage"),
    [
        ("/v1/chat/completions", CHAT, False),
        ("/v1/chat/completions", {**CHAT, "stream_options": {"include_usage": True}}, True),
        ("/serving-endpoints/smollm2/invocations", CHAT, True),
    ],
    ids=["usage not wanted", "usage wanted", "invocation"],
)
async def test_a_stream_goes_through_as_it_came(path: str, body: object, keeps_usage: bool, tmp_path: Path) -> None:
    rng = random.Random(f"verbatim {path} {keeps_usage} {FUZZ_SEED}")
    with wires(tmp_path) as gateway:
        for case in range(CASES):
            events, own = stream(rng)
            sent = [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"]
            sent += reads(rng, chunked(rng, events))
            if rng.random() < 0.3:
                sent[:2] = [sent[0] + sent[1]]
            gateway.ask(path, body)
            for piece in sent:
                gateway.say(piece)
            got = gateway.answer()
            assert (got.status, got.complete) == (200, True), (case, sent)
            assert got.body == expected(events, own, keeps_usage=keeps_usage), (case, sent)
            settled = gateway.recorded()[-1]
            assert isinstance(settled, Settled)
            assert settled.outcome == "ok"
            if own is not None:
                used = (settled.input_tokens, settled.output_tokens, settled.exact)
                assert used == (USAGE["prompt_tokens"], USAGE["completion_tokens"], True), (case, sent)
            gateway.leave()


@pytest.mark.parametrize("sized", [False, True], ids=["chunked", "sized"])
async def test_an_answer_that_is_not_streamed_goes_through_as_it_came(sized: bool, tmp_path: Path) -> None:
    rng = random.Random(f"whole {sized} {FUZZ_SEED}")
    body = {name: value for name, value in CHAT.items() if name != "stream"}
    with wires(tmp_path) as gateway:
        for case in range(CASES):
            text = "".join(rng.choice(TEXTS) for _ in range(rng.choice([1, 5, 300])))
            members = {"choices": [{"message": {"content": text}}], "usage": USAGE, "id": "x"}
            whole = json.dumps(members, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 2])).encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            if sized:
                sent = [head + b"Content-Length: %d\r\n\r\n" % len(whole)]
                sent += [whole[at : at + 997] for at in range(0, len(whole), 997)]
            else:
                sent = [head + b"Transfer-Encoding: chunked\r\n\r\n", *reads(rng, chunked(rng, [whole]))]
            if rng.random() < 0.5:
                sent[:2] = [sent[0] + sent[1]]
            gateway.ask("/v1/chat/completions", body)
            for piece in sent:
                gateway.say(piece)
            got = gateway.answer()
            assert (got.status, got.body, got.complete) == (200, whole, True), (case, sent)
            settled = gateway.recorded()[-1]
            assert isinstance(settled, Settled)
            assert (settled.input_tokens, settled.output_tokens, settled.exact) == (7, 3, True)
            gateway.leave()


async def test_a_stream_cut_short_gives_whole_events_an_error_and_no_end(tmp_path: Path) -> None:
    rng = random.Random(f"cut short {FUZZ_SEED}")
    with wires(tmp_path) as gateway:
        for case in range(CASES):
            events, own = stream(rng)
            coded = b"".join(chunked(rng, events))
            sent = reads(rng, [coded[: rng.randrange(len(coded))]])
            gateway.ask("/v1/chat/completions", CHAT)
            gateway.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for piece in sent:
                gateway.say(piece)
            got = gateway.answer()
            if not got.complete and got.status:  # neither was the end mark there, nor nothing at all
                gateway.dies()
                got = gateway.answer()
                body, mark, error = got.body.partition(b'data: {"error":{')
                assert mark, (case, sent)
                assert b"lost in the middle" in error
                assert error.endswith(b"}}\n\n")
                assert not got.complete
                assert gateway.client.closed
                counts = range(len(events) + 1)
                assert body in [expected(events[:count], own, keeps_usage=False) for count in counts], (case, sent)
            gateway.leave()
