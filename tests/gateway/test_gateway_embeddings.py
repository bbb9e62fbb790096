"""Embeddings through the gateway: every form of input and path, and what is booked for them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gateway_rig import (
    ADMIN_KEY,
    JSON,
    PROGRESS,
    RAW,
    FakeEngine,
    answer,
    embed,
    endpoint_view,
    fail,
    rig,
    usage,
)

from headrace.gateway.snapshot import Traits
from headrace.journal.records import Reserved, Settled
from headrace.wire.server import Exchange

BOTH = pytest.mark.parametrize("traits", [RAW, PROGRESS], ids=["raw", "progress"])
PATHS = ["/v1/embeddings", "/serving-endpoints/embeddings", "/serving-endpoints/smollm2/invocations"]
INPUTS = ["hello", ["hello", "you"], [1, 2, 3], [[1, 2, 3], [4, 5]]]
NO_EMBEDDINGS = {"error": {"code": 501, "message": "This server does not support embeddings", "type": "not_supported"}}


@BOTH
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("given", INPUTS, ids=repr)
async def test_every_form_of_input_goes_to_the_engine_as_it_came(traits: Traits, path: str, given: Any) -> None:
    body = {"model": "smollm2", "input": given, "encoding_format": "base64", "dimensions": 2}
    async with rig(traits) as r:
        r.engines[0].behave = embed([0.5, -1.0], prompt_tokens=7)
        got = await r.post(path, body)
        assert got.status == 200
        assert got.headers["content-type"] == "application/json"
        assert got.json["data"][0]["embedding"] == "AAAAPwAAgL8="
        assert r.engines[0].paths == ["/v1/embeddings"]
        assert r.engines[0].raw_bodies == [json.dumps(body).encode()]


@BOTH
async def test_the_books_hold_input_and_no_output(traits: Traits) -> None:
    async with rig(traits) as r:
        r.engines[0].behave = embed([0.5], prompt_tokens=7)
        got = await r.post("/v1/embeddings", {"model": "smollm2", "input": [1, 2, 3], "stream": True, "user": "u"})
        assert got.json["data"][0]["embedding"] == [0.5]
        reserved, settled = r.journal()
        assert isinstance(reserved, Reserved)
        assert isinstance(settled, Settled)
        assert (reserved.input_estimate, reserved.max_output, reserved.work_reserved) == (3, 0, 3.0)
        assert (reserved.stream, reserved.user) == (False, "u")
        assert (settled.status, settled.outcome, settled.exact) == (200, "ok", True)
        assert (settled.input_tokens, settled.cached_tokens, settled.output_tokens) == (7, 0, 0)
        assert settled.work == pytest.approx(7.0)
        tick = await r.controller.tick(lambda tick: tick.entities[0].completed == 1)
        assert (tick.entities[0].input_tokens, tick.entities[0].output_tokens) == (7, 0)
        assert tick.entities[0].offered_work == tick.entities[0].served_work == pytest.approx(7.0)


@pytest.mark.parametrize("usage_comes", ["first", "last", "never"])
async def test_an_answer_of_any_size_is_billed_by_its_usage_and_never_by_its_size(usage_comes: str) -> None:
    counts = {"usage": {"prompt_tokens": 40, "total_tokens": 40}}
    vectors = {"data": [{"object": "embedding", "index": index, "embedding": [0.123456] * 1000} for index in range(50)]}
    members = {"first": counts | vectors, "last": vectors | counts, "never": vectors}[usage_comes]

    async def large(engine: FakeEngine, exchange: Exchange, body: dict[str, Any]) -> None:
        exchange.respond(200, [JSON], json.dumps({"object": "list", **members}).encode())

    async with rig(RAW) as r:
        r.engines[0].behave = large
        got = await r.post("/v1/embeddings", {"model": "smollm2", "input": [[1] * 10] * 5})
        assert len(got.body) > 400_000
        settled = r.journal()[-1]
        assert isinstance(settled, Settled)
        expected = (50, 0, False) if usage_comes == "never" else (40, 0, True)
        assert (settled.input_tokens, settled.output_tokens, settled.exact) == expected


async def test_inputs_that_fit_each_by_itself_may_be_more_than_the_context_together() -> None:
    async with rig(RAW) as r:
        r.endpoint = endpoint_view(context=100)
        await r.publish()
        r.engines[0].behave = embed([0.5], prompt_tokens=240)
        body = {"model": "smollm2", "input": [[1] * 80] * 3}
        assert (await r.post("/v1/embeddings", body)).status == 200
        settled = r.journal()[-1]
        assert isinstance(settled, Settled)
        assert (settled.input_tokens, settled.work) == (240, pytest.approx(240.0))
        body["input"] = [[1] * 80, [1] * 101]
        got = await r.post("/v1/embeddings", body)
        assert (got.status, got.json["code"], got.json["param"]) == (400, "context_length_exceeded", "input")
        assert "101 tokens" in got.json["message"]


async def test_fields_of_ours_are_kept_and_limits_of_output_left_alone() -> None:
    async with rig(RAW) as r:
        r.engines[0].behave = embed([0.5], prompt_tokens=3)
        body = {"input": "a", "max_tokens": 10**9, "client_request_id": "c-1", "usage_context": {"team": "blue"}}
        assert (await r.post("/serving-endpoints/smollm2/invocations", body)).status == 200
        assert r.engines[0].bodies == [{"input": "a", "max_tokens": 10**9, "model": "smollm2"}]
        reserved = r.journal()[0]
        assert isinstance(reserved, Reserved)
        assert (reserved.client_request_id, reserved.usage_context) == ("c-1", {"team": "blue"})


async def test_what_an_answer_used_is_explained() -> None:
    async with rig(RAW) as r:
        r.engines[0].behave = embed([0.5], prompt_tokens=7)
        body = {"model": "smollm2", "input": [1, 2, 3]}
        got = await r.post("/v1/embeddings", body, key=ADMIN_KEY, x_headrace_explain="1")
        told = {name: got.headers[f"x-headrace-{name}"] for name in ("work", "work-exact", "work-reserved")}
        assert told == {"work": "7.000", "work-exact": "true", "work-reserved": "3.000"}
        assert got.headers["x-headrace-output-tokens-predicted"] == "0"


@BOTH
@pytest.mark.parametrize("status", [404, 405, 501])
async def test_an_engine_without_embeddings_is_a_400_and_stays_in_service(traits: Traits, status: int) -> None:
    async with rig(traits) as r:
        r.engines[0].behave = fail(status, NO_EMBEDDINGS)
        for _ in range(5):
            got = await r.post("/v1/embeddings", {"model": "smollm2", "input": "a"})
            assert (got.status, got.json["code"]) == (400, "embeddings_not_supported")
            assert "This server does not support embeddings" in got.json["message"]
        assert len(r.engines[0].bodies) == 5
        r.engines[0].behave = answer("fine")
        assert (await r.chat()).status == 200
        tick = await r.controller.tick(lambda tick: tick.entities[0].arrivals == 6)
        assert (tick.replicas[0].failures, tick.entities[0].failed) == (0, 0)
        settled = [record for record in r.journal() if isinstance(record, Settled)]
        assert {(record.status, record.outcome, record.work) for record in settled[:5]} == {(400, "refused", 0.0)}


async def test_embeddings_teach_nothing_of_how_long_answers_are() -> None:
    """A key that embeds a thousand texts and then chats must not be taken for one whose answers are empty."""
    async with rig(RAW) as r:
        r.engines[0].behave = embed([0.5], prompt_tokens=3)
        for _ in range(20):
            assert (await r.post("/v1/embeddings", {"model": "smollm2", "input": "a"})).status == 200
        r.engines[0].behave = answer("a", prompt_tokens=3)
        await r.chat()
        reserved = [record for record in r.journal() if isinstance(record, Reserved)][-1]
        assert reserved.work_reserved == reserved.input_estimate + 128


async def test_text_of_embeddings_is_estimated_apart_from_that_of_chats() -> None:
    async with rig(RAW) as r:
        r.endpoint = endpoint_view(chunk=1e6)
        await r.publish()
        r.engines[0].behave = embed([0.5], prompt_tokens=4000)
        for _ in range(20):
            await r.post("/v1/embeddings", {"model": "smollm2", "input": "x" * 4000})
        r.engines[0].behave = answer("a")
        await r.post("/v1/completions", {"model": "smollm2", "prompt": "x" * 4000})
        estimates = [record.input_estimate for record in r.journal() if isinstance(record, Reserved)]
        assert estimates[0] == 1000
        assert estimates[19] == pytest.approx(4000, rel=0.1)
        assert estimates[20] == 1000


async def test_a_usage_with_an_empty_output_is_taken_as_it_is() -> None:
    async def told(engine: FakeEngine, exchange: Exchange, body: dict[str, Any]) -> None:
        exchange.respond(200, [JSON], json.dumps({"data": [], "usage": usage(9, 0, cached=4)}).encode())

    async with rig(RAW) as r:
        r.engines[0].behave = told
        await r.post("/v1/embeddings", {"model": "smollm2", "input": "a"})
        settled = r.journal()[-1]
        assert isinstance(settled, Settled)
        assert (settled.input_tokens, settled.cached_tokens, settled.output_tokens) == (9, 4, 0)
        assert settled.work == pytest.approx(5 + 0.1 * 4)
