"""Bodies that nobody thought of: each is refused for a reason, or reaches the engine as JSON."""

from __future__ import annotations

import json
import random
import time

from gateway_rig import endpoint_view
from wire_mutations import FUZZ_S, FUZZ_SEED

from headrace.gateway.errors import ApiError
from headrace.gateway.prompt import BytesPerToken, limits, measure
from headrace.gateway.request import Shape, check, parse, shape_of
from headrace.gateway.snapshot import Traits
from headrace.gateway.upstream_body import upstream_body

BODIES = [
    b'{"model":"smollm2","messages":[{"role":"user","content":"hi \\u00e9 \xc3\xa9"}],"stream":true,"max_tokens":5}',
    b'{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"}]}],"usage_context":{"a":"b"}}',
    b'{"model":"other","prompt":[1,2,3],"stream_options":{"include_usage":false},"n":1,"user":"u","x":[1e5,{"y":null}]}',
    b'{"prompt":"a","max_completion_tokens":7,"client_request_id":"c","service_tier":"auto","best_of":null}',
    b'{"input":["a",[1,2]],"encoding_format":"base64"}',
    b'{"input":[[1],[2,3]],"dimensions":5}',
]
TOKENS = [
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"null", b"true", b"0", b"-", b"1e999", b"1.5", b"\\ud800",
    b"\\u0000", b"\xff", b"\xed\xa0\x80", b"\x00", b"\n", b"9" * 20, b'"max_tokens":3,', b'"model":"m",', b"[[[[[[[[",
]  # fmt: skip
CONTEXT = endpoint_view().entities[0].context


def mutated(rng: random.Random) -> bytes:
    data = rng.choice(BODIES)
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(3)
        if kind == 0:
            data = data[:at] + rng.choice(TOKENS) + data[at:]
        elif kind == 1:
            data = data[:at] + data[at + rng.randint(1, 6) :]
        else:
            data = data[:at] + rng.choice(TOKENS) + data[at + rng.randint(1, 6) :]
    return data


def sent(raw: bytes, shape: Shape | None, traits: Traits) -> bytes:
    """What the engine would get. Raises ApiError."""
    body = parse(raw)
    check(body)
    shape = shape or shape_of(body)
    prompt = measure(body, shape)
    found = limits(body, prompt, BytesPerToken().estimate(prompt), context=CONTEXT, default_max_tokens=128)
    return upstream_body(raw, body, shape, found, traits, "smollm2")


def test_a_body_is_refused_for_a_reason_or_reaches_the_engine_as_json() -> None:
    rng = random.Random(f"bodies {FUZZ_SEED}")
    until = time.monotonic() + FUZZ_S
    accepted = refused = 0
    while time.monotonic() < until:
        raw = mutated(rng)
        shape = rng.choice([None, *Shape])
        try:
            result = sent(raw, shape, Traits(stream_upstream=rng.random() < 0.5))
        except ApiError as error:
            assert error.status == 400, raw
            assert error.message
            refused += 1
            continue
        members = json.loads(result)
        assert members["model"] == "smollm2", raw
        if "input" not in members or shape in (Shape.CHAT, Shape.COMPLETION):
            assert 1 <= members["max_tokens"] <= CONTEXT, raw
        accepted += 1
    assert accepted > 100
    assert refused > 100
