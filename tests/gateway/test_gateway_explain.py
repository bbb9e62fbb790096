"""``x-headrace-explain: 1``: what an admin is told of a request agrees with what the journal holds of it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from gateway_rig import (
    ADMIN_KEY,
    PROGRESS,
    QUERY_KEY,
    RAW,
    Answer,
    FakeEngine,
    answer,
    chat_body,
    endpoint_view,
    fail,
    rig,
    vanish,
)

from headrace.gateway.snapshot import Traits
from headrace.journal.records import Rejected, Reserved, Settled
from headrace.wire.server import Exchange

BOTH = pytest.mark.parametrize("traits", [RAW, PROGRESS], ids=["raw", "progress"])
CHAT = "/v1/chat/completions"
WEIGHED = {"input-tokens-estimate", "output-tokens-predicted", "work-reserved", "queue-ms", "replica"}
ENDED = WEIGHED | {"work", "work-exact"}


def told(got: Answer) -> dict[str, str]:
    mark = "x-headrace-"
    return {name.removeprefix(mark): value for name, value in got.headers.items() if name.startswith(mark)}


async def explained(r: Any, path: str = CHAT, **members: Any) -> Answer:
    got: Answer = await r.post(path, chat_body(**members), key=ADMIN_KEY, x_headrace_explain="1")
    return got


@BOTH
async def test_an_answer_tells_estimate_reservation_wait_replica_and_work(traits: Traits) -> None:
    async with rig(traits) as r:
        r.engines[0].behave = answer("a", "b", "c", prompt_tokens=40, cached=30)
        found = told(await explained(r, max_tokens=50))
        reserved, settled = r.journal()
        assert isinstance(reserved, Reserved)
        assert isinstance(settled, Settled)
        assert found.keys() == ENDED
        assert int(found["input-tokens-estimate"]) == reserved.input_estimate
        assert int(found["output-tokens-predicted"]) == reserved.max_output == 50
        assert float(found["work-reserved"]) == pytest.approx(reserved.work_reserved, abs=0.001)
        assert float(found["queue-ms"]) == settled.queue_ms
        assert found["replica"] == reserved.replica == "replica-0"
        assert float(found["work"]) == pytest.approx(settled.work, abs=0.001)
        assert (found["work-exact"], settled.exact) == ("true", True)


def test_the_documentation_has_every_header() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "http.md").read_text()
    assert set(re.findall(r"`x-headrace-([a-z-]+)`", text)) == ENDED


@BOTH
async def test_a_stream_tells_what_is_known_at_its_first_byte(traits: Traits) -> None:
    async with rig(traits) as r:
        found = told(await explained(r, stream=True))
        reserved = r.journal()[0]
        assert isinstance(reserved, Reserved)
        assert found.keys() == WEIGHED
        assert float(found["work-reserved"]) == pytest.approx(reserved.work_reserved, abs=0.001)
        assert found["replica"] == "replica-0"


async def test_work_without_the_engines_usage_is_said_to_be_no_exact_one() -> None:
    async def tells_nothing(engine: FakeEngine, exchange: Exchange, body: dict[str, Any]) -> None:
        exchange.respond(200, [], b'{"choices":[]}' + b" " * 86)

    async with rig(RAW) as r:
        r.engines[0].behave = tells_nothing
        found = told(await explained(r))
        settled = r.journal()[-1]
        assert isinstance(settled, Settled)
        assert (found["work-exact"], settled.exact) == ("false", False)
        assert float(found["work"]) == pytest.approx(settled.work, abs=0.001)


async def test_a_refusal_tells_what_would_have_been_reserved() -> None:
    async with rig(RAW) as r:
        r.endpoint = endpoint_view(queue_deadline_s=0.2)
        await r.publish(replicas=[r.engines[0].view(slots=1)])
        r.engines[0].behave = answer("a", hold_after=0)
        running = await r.connect()
        await running.send("POST", CHAT, chat_body())
        await r.engines[0].asked()
        got = await explained(r)
        assert (got.status, got.json["code"]) == (503, "deadline")
        found = told(got)
        rejected = r.journal()[-1]
        assert isinstance(rejected, Rejected)
        assert found.keys() == WEIGHED
        assert float(found["work-reserved"]) == pytest.approx(rejected.work, abs=0.001)
        assert rejected.work > 0
        assert float(found["queue-ms"]) >= 200
        assert found["replica"] == "none"
        running.close()


async def test_what_the_engine_refused_has_come_to_nothing_exactly() -> None:
    async with rig(RAW) as r:
        r.engines[0].behave = fail(400, {"error": {"message": "no"}})
        found = told(await explained(r))
        settled = r.journal()[-1]
        assert isinstance(settled, Settled)
        assert (found["work"], found["work-exact"]) == ("0.000", "true")
        assert (settled.work, settled.exact) == (0.0, True)


async def test_the_replica_is_the_one_that_answered() -> None:
    async with rig(RAW, RAW) as r:
        r.engines[0].behave = vanish
        assert told(await explained(r))["replica"] == "replica-1"
        for engine in r.engines:
            engine.behave = vanish
        async with asyncio.timeout(20):
            got = await explained(r)
        assert got.status == 502
        assert told(got)["replica"] in ("replica-0", "replica-1")
        assert told(got)["work"] == "0.000"


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"messages": [{"role": "user", "content": "x" * 1_100_000}]}, 400),
        ({"max_tokens": 10**6}, 400),
        ({"model": "none"}, 404),
    ],
)
async def test_what_was_never_weighed_is_refused_without_a_word_of_it(members: dict[str, Any], status: int) -> None:
    async with rig(RAW) as r:
        got = await explained(r, **members)
        assert got.status == status
        assert told(got) == {}
        assert (await r.chat()).status == 200


@pytest.mark.parametrize(("key", "value"), [(QUERY_KEY, "1"), (ADMIN_KEY, "0"), (ADMIN_KEY, "true")])
async def test_only_an_admin_who_asks_is_told(key: str, value: str) -> None:
    async with rig(RAW) as r:
        got = await r.post(CHAT, chat_body(), key=key, x_headrace_explain=value)
        assert got.status == 200
        assert told(got) == {}
