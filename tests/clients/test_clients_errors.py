"""Every error that the gateway gives, as the client libraries raise it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest
from clients_rig import HELLO, MODEL, databricks_of, openai_of
from databricks.sdk import WorkspaceClient
from databricks.sdk import errors as sdk
from databricks.sdk.errors import DatabricksError
from gateway_rig import (
    ADMIN_KEY,
    KEYS,
    QUERY_KEY,
    RAW,
    FakeEngine,
    RawClient,
    Rig,
    answer,
    chat_body,
    endpoint_view,
    fail,
    key_view,
    rig,
    silence,
    vanish,
)

from headrace.gateway.config import LimitsConfig
from headrace.journal.records import Record
from headrace.journal.writer import JournalError, Writer
from headrace.wire.server import Exchange

CHAT = "/v1/chat/completions"
WATCHER = "hr-00000004.watch"
Arrange = Callable[[Rig, pytest.MonkeyPatch], Awaitable[list[RawClient]]]


async def nothing(r: Rig, monkeypatch: pytest.MonkeyPatch) -> list[RawClient]:
    return []


def engine(behave: Any, **endpoint: Any) -> Arrange:
    async def arrange(r: Rig, monkeypatch: pytest.MonkeyPatch) -> list[RawClient]:
        r.endpoint = endpoint_view(**endpoint)
        await r.publish()
        for found in r.engines:
            found.behave = behave
        return []

    return arrange


def busy(running: int, waiting: int = 0, *, body: dict[str, Any] | None = None, **endpoint: Any) -> Arrange:
    """So many requests are at the engine, which has no slot more, and so many in the queue."""

    async def arrange(r: Rig, monkeypatch: pytest.MonkeyPatch) -> list[RawClient]:
        r.endpoint = endpoint_view(**endpoint)
        await r.publish(replicas=[r.engines[0].view(slots=running)])
        r.engines[0].behave = answer("a", hold_after=0)
        clients = [await r.connect() for _ in range(running + waiting)]
        for client in clients:
            await client.send("POST", CHAT, chat_body(**(body or {})))
        await r.controller.tick(
            lambda tick: (tick.entities[0].in_flight, tick.entities[0].queued) == (running, waiting)
        )
        return clients

    return arrange


def cold(**endpoint: Any) -> Arrange:
    async def arrange(r: Rig, monkeypatch: pytest.MonkeyPatch) -> list[RawClient]:
        r.endpoint = endpoint_view(**endpoint)
        await r.publish(replicas=[])
        return []

    return arrange


async def one_that_dies(r: Rig, monkeypatch: pytest.MonkeyPatch) -> list[RawClient]:
    r.endpoint = endpoint_view(queue_deadline_s=0.05)
    await r.publish(replicas=[r.engines[0].view()])
    r.engines[0].behave = vanish
    return []


async def full_disk(r: Rig, monkeypatch: pytest.MonkeyPatch) -> list[RawClient]:
    def append(writer: Writer, record: Record) -> None:
        raise JournalError("cannot write the journal: No space left on device")

    monkeypatch.setattr(Writer, "append", append)
    return []


async def cut_off(r: Rig, monkeypatch: pytest.MonkeyPatch) -> list[RawClient]:
    monkeypatch.setattr("headrace.gateway.live.CUT_OFF_GRACE_S", -1.0)
    r.gateway._live.cut_off()
    return []


async def fresh(r: Rig, monkeypatch: pytest.MonkeyPatch) -> list[RawClient]:
    r.gateway._live.version = 0
    return []


async def watched(r: Rig, monkeypatch: pytest.MonkeyPatch) -> list[RawClient]:
    await r.publish(keys=(*KEYS, key_view(WATCHER, role="watch")))
    return []


async def empty(engine: FakeEngine, exchange: Exchange, body: dict[str, Any]) -> None:
    exchange.respond(200, [], b"")


@dataclass
class Case:
    name: str
    status: int
    code: str
    words: str
    arrange: Arrange = nothing
    body: dict[str, Any] = field(default_factory=dict)
    """Members beside model and messages."""
    param: str | None = None
    method: str = "POST"
    path: str = "/chat/completions"
    key: str = QUERY_KEY
    headers: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    retry: bool | None = None
    """The client is told when to come back (True) or not to (False)."""


HEAVY = [{"role": "user", "content": "x" * 15_000}]
LONG = [{"role": "user", "content": "x" * 1_100_000}]
SLOW = {"chunk": 1e6, "max_chunks": 1}
CASES = [
    Case("wrong type", 400, "invalid_value", "max_tokens", body={"max_tokens": "many"}),
    Case("no model", 400, "invalid_value", "'model' is missing", body={"model": None}, param="model"),
    Case("no messages", 400, "invalid_value", "at least one message", body={"messages": []}, param="messages"),
    Case("n", 400, "invalid_value", "expected 1", body={"n": 2}, param="n"),
    Case("n_predict", 400, "invalid_value", "expected max_tokens", body={"n_predict": 2}, param="n_predict"),
    Case("tier", 400, "invalid_value", "priority, default", body={"service_tier": "gold"}, param="service_tier"),
    Case("max_tokens", 400, "max_tokens_out_of_range", "1 to 4095", body={"max_tokens": 10**9}, param="max_tokens"),
    Case("context", 400, "context_length_exceeded", "4096", body={"messages": LONG}, param="messages"),
    Case("engine's 400", 400, "engine_refused", "no tool", engine(fail(400, {"error": {"message": "no tool"}}))),
    Case("engine's 422", 400, "engine_refused", "bad", engine(fail(422, {"detail": "bad"}))),
    Case("no embeddings", 400, "embeddings_not_supported", "makes no embeddings",
         engine(fail(501, {"error": {"message": "no"}})), {"input": "a"}, path="/embeddings"),
    Case("unknown key", 401, "invalid_api_key", "not known here", key="hr-00000009.other"),
    Case("role", 403, "permission_denied", "'watch'", watched, key=WATCHER),
    Case("tier of another", 403, "service_tier_not_allowed", "default, flex", body={"service_tier": "priority"},
         param="service_tier"),
    Case("no endpoint", 404, "model_not_found", "no endpoint is named 'x'", body={"model": "x"}, param="model"),
    Case("responses", 404, "not_supported", "the Responses API is not served", path="/responses"),
    Case("method", 405, "method_not_allowed", "takes POST, not GET", method="GET"),
    Case("body", 413, "request_too_large", "2048 bytes", body={"x": "y" * 4096},
         config={"limits": LimitsConfig(body_bytes=2048)}),
    Case("head", 431, "bad_request", "8192 bytes", headers={"x": "y" * 10_000},
         config={"limits": LimitsConfig(head_bytes=8192)}),
    Case("queue full", 429, "queue_full", "the queue is full", busy(1, 1, max_queue=1), retry=True),
    Case("reject", 429, "reject", "set to reject", busy(1, overload="reject"), retry=True),
    Case("range", 429, "rate", "the range had no room",
         busy(1, body={"messages": HEAVY}, chunk=10.0, max_chunks=1, queue_deadline_s=0.05),
         {"messages": HEAVY}, retry=True),
    Case("slots", 503, "deadline", "no slot of a replica", busy(1, queue_deadline_s=0.05), retry=True),
    Case("cold start", 503, "cold_start", "no replica became ready", cold(cold_start_deadline_s=0.05), retry=True),
    Case("replica down", 503, "no_replica", "no replica was ready", one_that_dies, retry=True),
    Case("journal", 503, "journal_unavailable", "No space left", full_disk, retry=True),
    Case("controller lost", 503, "controller_lost", "no contact with its controller", cut_off),
    Case("just started", 503, "unavailable", "knows no keys yet", fresh, retry=True),
    Case("engine full", 503, "unavailable", "takes no more", engine(fail(429, {"message": "full"})), retry=True),
    Case("engine failed", 502, "engine_error", "with 500: oom", engine(fail(500, {"error": {"message": "oom"}}))),
    Case("engine's 401", 502, "engine_error", "with 401", engine(fail(401, {}))),
    Case("two died", 502, "engine_failed", "two replicas died", engine(vanish), retry=False),
    Case("no answer", 502, "engine_failed", "two replicas died", engine(empty), retry=False),
    Case("silent", 504, "engine_timeout", "two replicas gave no answer", engine(silence, **SLOW),
         config={"first_byte_floor_s": 0.05}, retry=False),
    Case("too long", 504, "total_timeout", "not complete within 0.2 s", engine(answer("a", hold_after=0)),
         config={"limits": LimitsConfig(total_timeout_s=0.2)}),
]  # fmt: skip
EACH = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])

TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
OPENAI: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    405: openai.APIStatusError,
    413: openai.APIStatusError,
    429: openai.RateLimitError,
    431: openai.APIStatusError,
}
"""The exact class; for 5xx InternalServerError."""
SDK: dict[int, tuple[type[DatabricksError], str]] = {
    400: (sdk.InvalidParameterValue, "INVALID_PARAMETER_VALUE"),
    401: (sdk.Unauthenticated, "UNAUTHENTICATED"),
    403: (sdk.PermissionDenied, "PERMISSION_DENIED"),
    404: (sdk.platform.ResourceDoesNotExist, "RESOURCE_DOES_NOT_EXIST"),
    405: (DatabricksError, "BAD_REQUEST"),
    413: (DatabricksError, "BAD_REQUEST"),
    429: (sdk.platform.RequestLimitExceeded, "REQUEST_LIMIT_EXCEEDED"),
    431: (DatabricksError, "BAD_REQUEST"),
    502: (DatabricksError, "INTERNAL_ERROR"),
    503: (sdk.TemporarilyUnavailable, "TEMPORARILY_UNAVAILABLE"),
    504: (sdk.DeadlineExceeded, "DEADLINE_EXCEEDED"),
}


@EACH
async def test_the_openai_client_raises_it_with_all_its_fields(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(RAW, RAW, **case.config) as r, openai_of(r, key=case.key) as client:
        others = await case.arrange(r, monkeypatch)
        body = {"model": MODEL, "messages": HELLO, **case.body}
        options: Any = {"headers": case.headers}
        with pytest.raises(openai.APIStatusError) as raised:
            if case.method == "GET":
                await client.get(case.path, cast_to=object, options=options)
            else:
                await client.post(case.path, body=body, cast_to=object, options=options)
        error = raised.value
        assert error.status_code == case.status
        assert type(error) is OPENAI.get(case.status, openai.InternalServerError)
        assert (error.code, error.param) == (case.code, case.param)
        assert error.type == TYPES.get(case.status, "server_error" if case.status >= 500 else "invalid_request_error")
        assert case.words in error.message
        assert (error.request_id or "").startswith("req-")
        headers = error.response.headers
        assert headers.get("x-should-retry") == ("false" if case.retry is False else None)
        assert ("retry-after" in headers, "retry-after-ms" in headers) == (case.retry is True, case.retry is True)
        if case.retry:
            seconds, milliseconds = int(headers["retry-after"]), int(headers["retry-after-ms"])
            assert 1 <= milliseconds <= seconds * 1000 < milliseconds + 1000
        for other in others:
            other.close()


@EACH
async def test_the_databricks_client_raises_it_with_all_its_fields(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(RAW, RAW, **case.config) as r, databricks_of(r, key=case.key) as (run, watch):
        others = await case.arrange(r, monkeypatch)
        body = {"model": MODEL, "messages": HELLO, **case.body}
        path = f"/serving-endpoints{case.path}"

        def ask(client: WorkspaceClient) -> None:
            try:
                client.api_client.do(case.method, path, body=body, headers=dict(case.headers))
            except TimeoutError as out_of_patience:
                assert out_of_patience.__cause__ is not None
                raise out_of_patience.__cause__ from None

        retried = case.status in (429, 503)
        with pytest.raises(DatabricksError) as raised:
            await run(ask)
        error = raised.value
        expected, error_code = SDK[case.status]
        assert (type(error), error.error_code) == (expected, error_code)
        assert case.words in str(error)
        info = error.get_error_details().error_info
        assert info is not None
        assert (info.reason, info.domain) == (case.code, "headrace")
        assert bool(watch.slept) is retried
        if retried:
            assert error.retry_after_secs is not None
            assert error.retry_after_secs <= watch.slept[0] < error.retry_after_secs + 1
        for other in others:
            other.close()


def test_the_documentation_has_every_status_with_its_codes() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "http.md").read_text()
    rows = re.findall(r"^\| ([\d, ]*) ?\| (`.*?`) \|", text.split("### Errors")[1].split("\n## ")[0], re.MULTILINE)
    told: set[tuple[int, str]] = set()
    statuses: list[int] = []
    for first, codes in rows:
        statuses = [int(status) for status in re.findall(r"\d+", first)] or statuses
        told |= {(status, code) for status in statuses for code in re.findall(r"`(\w+)`", codes)}
    assert {(case.status, case.code) for case in CASES} <= told


async def test_a_head_or_body_that_does_not_come_has_the_same_error_body() -> None:
    """Client libraries always finish what they begin."""
    limits = LimitsConfig(head_timeout_s=0.1, body_timeout_s=0.1)
    async with rig(RAW, limits=limits) as r:
        for begun in (b"POST /v1/chat/completions HTT", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"):
            client = await r.connect()
            client.writer.write(begun)
            got = await client.answer()
            assert (got.status, got.json["code"], got.json["error_code"]) == (408, "request_timeout", "BAD_REQUEST")
            assert "0.1 s" in got.json["message"]
            client.close()


async def test_a_server_that_stops_says_so_to_what_it_cuts() -> None:
    async with rig(RAW) as r, openai_of(r) as client:
        r.engines[0].behave = answer("a", "b", hold_after=1)
        stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        await anext(aiter(stream))
        assert r.gateway._app.cut() == 1
        with pytest.raises(openai.APIError, match="the server is stopping") as raised:
            async for _ in stream:
                pass
        assert raised.value.code == "stopping"


async def test_what_the_controller_serves_is_told_apart_where_there_is_none() -> None:
    async with rig(RAW) as r, openai_of(r, key=ADMIN_KEY, base="/api/2.0/serving-endpoints") as client:
        with pytest.raises(openai.InternalServerError, match="the controller is not running") as raised:
            await client.get("", cast_to=object)
        assert (raised.value.status_code, raised.value.code) == (503, "controller_unavailable")
        assert raised.value.response.headers["retry-after-ms"] == "1000"
