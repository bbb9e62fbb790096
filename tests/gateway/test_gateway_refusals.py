"""What is not served, and how the client is told: bad input, keys, and a range that has no room."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from gateway_rig import (
    ADMIN_KEY,
    KEYS,
    PRIORITY_KEY,
    PROGRESS,
    QUERY_KEY,
    RAW,
    WITHIN_S,
    Answer,
    answer,
    chat_body,
    endpoint_view,
    fail,
    key_view,
    rig,
)

from headrace.gateway import outbox
from headrace.gateway.snapshot import Traits
from headrace.journal.records import Record, Rejected, Reserved, Settled
from headrace.journal.writer import JournalError, Writer

CHAT = "/v1/chat/completions"


def check_error(got: Answer, status: int, code: str | None = None) -> dict[str, Any]:
    assert got.status == status
    assert got.headers["content-type"] == "application/json"
    assert got.headers["x-request-id"].startswith("req-")
    error: dict[str, Any] = got.json
    assert error.keys() == {"error_code", "message", "type", "code", "param", "details"}
    if code is not None:
        assert error["code"] == code
    return error


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        (b"{", 400, "malformed_json", "not valid JSON"),
        (b"", 400, "malformed_json", "not valid JSON"),
        ({"messages": []}, 400, "invalid_value", "'model' is missing"),
        (chat_body(model="nothing"), 404, "model_not_found", "no endpoint is named 'nothing'"),
        (chat_body(max_tokens=-1), 400, "max_tokens_out_of_range", "expected 1 to 4095"),
        (chat_body(max_tokens=10**9), 400, "max_tokens_out_of_range", "expected 1 to 4095"),
        (chat_body(n=2), 400, "invalid_value", "n is 2; expected 1"),
        (chat_body(n_predict=9), 400, "invalid_value", "expected max_tokens"),
        (chat_body(service_tier="gold"), 400, "invalid_value", "priority, default, flex"),
        (chat_body(service_tier="priority"), 403, "service_tier_not_allowed", "default, flex"),
        ({"model": "smollm2", "messages": [{"content": "no role"}]}, 400, "invalid_value", "role"),
        (chat_body(messages=[{"role": "user", "content": "x" * 1_100_000}]), 400, "context_length_exceeded", "4096"),
    ],
)
async def test_bad_input_is_named_and_nothing_is_dispatched(body: Any, status: int, code: str, words: str) -> None:
    async with rig(RAW) as r:
        got = await r.post(CHAT, body)
        assert words in check_error(got, status, code)["message"]
        assert r.engines[0].bodies == []
        assert r.journal() == []


async def test_a_prompt_of_token_ids_longer_than_the_context_is_refused() -> None:
    async with rig(RAW) as r:
        got = await r.post("/v1/completions", {"model": "smollm2", "prompt": [1] * 5000})
        assert "5000 tokens" in check_error(got, 400, "context_length_exceeded")["message"]


async def test_a_body_of_5_megabytes_is_refused_with_the_limit() -> None:
    async with rig(RAW) as r:
        got = await r.post(CHAT, chat_body(messages=[{"role": "user", "content": "x" * 5_000_000}]))
        assert str(4 * 1024 * 1024) in check_error(got, 413)["message"]


@pytest.mark.parametrize("traits", [RAW, PROGRESS], ids=["raw", "progress"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_the_engine_finds_too_long_is_a_400_with_its_reason(traits: Traits, stream: bool) -> None:
    reason = "request (4500 tokens) exceeds the available context size (4096 tokens), try increasing it"
    refusal = {"error": {"code": 400, "message": reason, "type": "exceed_context_size_error", "n_prompt_tokens": 4500}}
    async with rig(traits) as r:
        r.engines[0].behave = fail(400, refusal)
        got = await r.chat(stream=stream)
        message = check_error(got, 400, "engine_refused")["message"]
        assert reason in message
        assert "4096" in message
        settled = r.journal()[-1]
        assert isinstance(settled, Settled)
        assert (settled.status, settled.outcome) == (400, "refused")
        assert (settled.input_tokens, settled.output_tokens, settled.work) == (0, 0, 0.0)
        # The replica is not to blame: the next request goes to it at once.
        r.engines[0].behave = answer("a")
        assert (await r.chat()).status == 200
        tick = await r.controller.tick(lambda tick: True)
        assert tick.replicas[0].failures == 0


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "missing_api_key"),
        ("Basic abc", "missing_api_key"),
        ("Bearer ", "missing_api_key"),
        ("Bearer hr-00000009.other", "invalid_api_key"),
        ("Bearer hr-00000002.query-secreT", "invalid_api_key"),
    ],
)
async def test_without_a_known_key_nothing_is_said_of_endpoints(header: str | None, code: str) -> None:
    async with rig(RAW) as r:
        for path in (CHAT, "/serving-endpoints/nothing/invocations"):
            extra = {} if header is None else {"authorization": header}
            got = await r.post(path, chat_body(model="nothing"), key=None, **extra)
            check_error(got, 401, code)
        assert (await r.get("/v1/models", key=None)).status == 401


async def test_admin_and_query_keys_may_query_and_others_may_not() -> None:
    watcher = "hr-00000004.watch"
    async with rig(RAW) as r:
        await r.publish(keys=(*KEYS, key_view(watcher, role="watch")))
        for key in (ADMIN_KEY, QUERY_KEY):
            assert (await r.post(CHAT, chat_body(), key=key)).status == 200
        got = await r.post(CHAT, chat_body(model="nothing"), key=watcher)
        assert "'watch'" in check_error(got, 403)["message"]


async def test_a_key_may_use_the_tiers_that_it_carries() -> None:
    async with rig(RAW) as r:
        for tier in ("priority", "default", "auto"):
            got = await r.post(CHAT, chat_body(service_tier=tier), key=PRIORITY_KEY)
            assert got.status == 200
        bands = [record.band for record in r.journal() if isinstance(record, Reserved)]
        assert bands == ["priority", "default", "default"]
        check_error(await r.post(CHAT, chat_body(service_tier="flex"), key=PRIORITY_KEY), 403)


async def test_a_revoked_key_is_refused_as_soon_as_the_snapshot_is_acknowledged() -> None:
    async with rig(RAW) as r:
        assert (await r.chat()).status == 200
        await r.publish(keys=tuple(key for key in KEYS if key.id != "00000002"))
        check_error(await r.chat(), 401, "invalid_api_key")


async def test_a_gateway_that_was_cut_off_for_long_honours_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(RAW) as r:
        await r.controller.stop()
        assert (await r.chat()).status == 200
        monkeypatch.setattr("headrace.gateway.live.CUT_OFF_GRACE_S", -1.0)
        async with asyncio.timeout(WITHIN_S):
            while (got := await r.chat()).status == 200:
                pass
        check_error(got, 503, "controller_lost")


async def test_a_wrong_method_is_told_the_right_one() -> None:
    async with rig(RAW) as r:
        got = await r.get(CHAT)
        assert "takes POST" in check_error(got, 405)["message"]
        assert got.headers["allow"] == "POST"


async def test_bytes_that_are_no_request_get_the_same_error_body() -> None:
    async with rig(RAW) as r:
        for head, status in ((b"nonsense\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000, 431)):
            client = await r.connect()
            client.writer.write(head)
            check_error(await client.answer(), status)
            client.close()


async def test_a_full_queue_is_a_429_that_says_when_to_come_back() -> None:
    async with rig(RAW) as r:
        r.endpoint = endpoint_view(max_queue=1, slots=1)
        await r.publish(replicas=[r.engines[0].view(slots=1)])
        r.engines[0].behave = answer("a", hold_after=0)
        clients = [await r.connect() for _ in range(2)]
        for client in clients:
            await client.send("POST", CHAT, chat_body())
        await r.controller.tick(lambda tick: tick.entities[0].queued == 1 and tick.entities[0].in_flight == 1)
        got = await r.chat()
        error = check_error(got, 429, "queue_full")
        assert error["error_code"] == "REQUEST_LIMIT_EXCEEDED"
        assert "reference tokens" in error["message"]
        assert int(got.headers["retry-after"]) >= 1
        assert int(got.headers["retry-after-ms"]) >= 1
        assert got.headers["x-ratelimit-limit-tokens"] == "20000"
        rejected = r.journal()[-1]
        assert isinstance(rejected, Rejected)
        assert (rejected.status, rejected.reason, rejected.seq) == (429, "queue_full", 1)
        assert rejected.rid == got.headers["x-request-id"]
        assert (rejected.endpoint, rejected.key) == ("id-of-smollm2", "00000002")
        r.engines[0].release.set()
        assert [(await client.answer()).status for client in clients] == [200, 200]


async def test_with_reject_what_does_not_fit_at_once_is_a_429() -> None:
    async with rig(RAW) as r:
        r.endpoint = endpoint_view(overload="reject")
        await r.publish(replicas=[r.engines[0].view(slots=1)])
        r.engines[0].behave = answer("a", hold_after=0)
        client = await r.connect()
        await client.send("POST", CHAT, chat_body())
        await r.engines[0].asked()
        check_error(await r.chat(), 429, "reject")
        r.engines[0].release.set()
        assert (await client.answer()).status == 200


async def test_without_a_replica_before_the_deadline_it_is_a_503() -> None:
    async with rig() as r:
        r.endpoint = endpoint_view(cold_start_deadline_s=0.05)
        await r.publish()
        got = await r.chat()
        error = check_error(got, 503, "cold_start")
        assert error["error_code"] == "TEMPORARILY_UNAVAILABLE"
        assert re.search(
            r"output tokens\); no replica became ready in [\d.]+ s\. Try again in 5\.0 s\.$", error["message"]
        )
        assert "retry-after-ms" in got.headers
        assert r.kinds() == ["Rejected"]


async def test_where_replicas_fail_the_client_is_told_so_and_no_more_and_the_gateway_is_not_ready() -> None:
    async with rig() as r:
        r.endpoint = endpoint_view(cold_start_deadline_s=0.05, failing=True)
        await r.publish()
        got = await r.chat()
        told = check_error(got, 503, "cold_start")["message"]
        assert told.endswith("Its replicas fail to start or do not answer; the operator sees why in `headrace status`.")
        assert (await r.get("/healthz")).status == 200
        ready = await r.get("/readyz")
        assert (ready.status, ready.json["waits_for"]) == (503, "endpoints whose replicas fail: smollm2")


async def test_where_there_is_no_room_for_a_replica_the_client_is_told_so_and_no_more() -> None:
    async with rig() as r:
        r.endpoint = endpoint_view(cold_start_deadline_s=0.05, shut_out=True)
        await r.publish()
        told = check_error(await r.chat(), 503, "cold_start")["message"]
        assert told.endswith("There is no room for its replicas; the operator sees in `headrace status` what has it.")
        r.endpoint = endpoint_view(cold_start_deadline_s=0.05, shut_out=True, failing=True)
        await r.publish()
        told = check_error(await r.chat(), 503, "cold_start")["message"]
        assert "no room" not in told
        assert told.endswith("sees why in `headrace status`.")


async def test_a_gateway_that_serves_all_is_ready_and_one_that_waits_is_not() -> None:
    async with rig(RAW) as r:
        await r.publish()
        assert (await r.get("/readyz")).status == 200
        r.endpoint = endpoint_view(failing=True)
        await r.publish()
        assert (await r.get("/readyz")).status == 200, "a replica serves, whatever becomes of others"


async def test_a_request_waits_for_a_replica_and_asks_for_one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.gateway.link.TICK_S", 3600.0)
    async with rig(RAW) as r:
        await r.publish(replicas=[])
        client = await r.connect()
        await client.send("POST", CHAT, chat_body())
        tick = await r.controller.tick(lambda tick: bool(tick.entities) and tick.entities[0].queued == 1)
        assert tick.entities[0].arrivals == 1
        assert tick.entities[0].offered_work > 0
        await r.publish()
        assert (await client.answer()).status == 200


async def test_when_the_endpoint_is_deleted_what_waits_gets_404_and_what_runs_ends() -> None:
    async with rig(RAW) as r:
        await r.publish(replicas=[r.engines[0].view(slots=1)])
        r.engines[0].behave = answer("a", "b", hold_after=1)
        running, waiting = await r.connect(), await r.connect()
        await running.send("POST", CHAT, chat_body(stream=True))
        await r.engines[0].asked()
        await waiting.send("POST", CHAT, chat_body())
        await r.controller.tick(lambda tick: tick.entities[0].queued == 1)
        await r.publish(endpoints=(), replicas=())
        assert "was deleted" in check_error(await waiting.answer(), 404)["message"]
        check_error(await r.chat(), 404, "model_not_found")
        tick = await r.controller.tick(lambda tick: True)
        assert tick.entities[0].in_flight == 1
        r.engines[0].release.set()
        assert (await running.answer()).events[-1] == "[DONE]"
        await r.controller.tick(lambda tick: not tick.entities)
        assert r.kinds() == ["Reserved", "Settled"]


async def test_new_terms_hold_for_the_next_request() -> None:
    async with rig(RAW) as r:
        r.endpoint = endpoint_view(context=100, default_max_tokens=7)
        await r.publish()
        await r.chat()
        assert r.engines[0].bodies[-1]["max_tokens"] == 7
        assert "expected 1 to 99" in check_error(await r.chat(max_tokens=100), 400)["message"]


class FullDisk:
    """A journal that takes no record while ``full``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        real = Writer.append

        def append(writer: Writer, record: Record) -> None:
            if self.full:
                raise JournalError("cannot write the journal: No space left on device")
            real(writer, record)

        monkeypatch.setattr(Writer, "append", append)
        monkeypatch.setattr(outbox, "RETRY_S", 0.01)


async def test_a_disk_that_takes_no_records_stops_the_serving(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch)
    async with rig(RAW) as r:
        disk.full = True
        got = await r.chat()
        assert "No space left" in check_error(got, 503, "journal_unavailable")["message"]
        assert "retry-after" in got.headers
        assert r.engines[0].bodies == []
        disk.full = False
        assert (await r.chat()).status == 200
        assert r.kinds() == ["Reserved", "Settled"]


async def test_the_end_of_a_request_is_written_when_the_disk_takes_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch)
    async with rig(RAW) as r:
        r.engines[0].behave = answer("a", "b", hold_after=1)
        client = await r.connect()
        await client.send("POST", CHAT, chat_body(stream=True))
        await client.until(b'"a"')
        disk.full = True
        r.engines[0].release.set()
        await client.until(b"[DONE]")
        assert r.kinds() == ["Reserved"]
        check_error(await r.chat(), 503, "journal_unavailable")
        disk.full = False
        await r.settled()
        assert r.kinds() == ["Reserved", "Settled"]
        assert (await r.chat()).status == 200
