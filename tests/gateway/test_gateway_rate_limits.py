"""Rate limits of an endpoint, over real sockets: what is let through, what is told, and what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from gateway_rig import ADMIN_KEY, KEYS, QUERY_KEY, RAW, Answer, Rig, answer, chat_body, endpoint_view, key_view, rig

from headrace.gateway import account
from headrace.gateway.snapshot import RateLimitView
from headrace.journal.records import Rejected

CHAT = "/v1/chat/completions"
OTHER_KEY = "hr-0000000a.of-ann"
JOB_KEY = "hr-0000000b.of-a-job"


class Turned:
    """The gateway's clock for rate limits, turned by hand; it stands where the real one was."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Turned:
        real: Callable[[], float] = account.monotonic
        monkeypatch.setattr(account, "monotonic", lambda: real() + self.ahead_s)
        return self


async def limited(r: Rig, *limits: RateLimitView, **options: object) -> None:
    keys = (
        *(msgspec.structs.replace(key, principal=key.id) for key in KEYS),
        msgspec.structs.replace(key_view(OTHER_KEY), principal="ann"),
        msgspec.structs.replace(key_view(JOB_KEY), principal="job", principal_kind="service_principal"),
    )
    await r.publish(endpoints=(endpoint_view(rate_limits=limits, **options),), keys=keys)


def calls(limit: int, key: str = "endpoint", principal: str | None = None) -> RateLimitView:
    return RateLimitView(key, principal, calls=limit)


def check_over(got: Answer, words: str) -> float:
    """Seconds until it may come back."""
    assert got.status == 429, got.body
    error = got.json
    assert (error["error_code"], error["code"]) == ("REQUEST_LIMIT_EXCEEDED", "rate_limit")
    assert error["message"].startswith("REQUEST_LIMIT_EXCEEDED: Exceeded ")
    assert words in error["message"]
    milliseconds = int(got.headers["retry-after-ms"])
    assert int(got.headers["retry-after"]) == -(-milliseconds // 1000)
    return milliseconds / 1000


async def test_calls_over_the_limit_are_told_when_to_come_back_and_are_let_through_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Turned().install(monkeypatch)
    async with rig(RAW) as r:
        await limited(r, calls(2))
        assert [(await r.chat()).status for _ in range(2)] == [200, 200]
        again_s = check_over(await r.chat(), "endpoint calls per minute rate limit for smollm2. The limit is 2")
        assert 58 < again_s <= 61
        clock.ahead_s += again_s
        assert (await r.chat()).status == 200
        assert len(r.engines[0].bodies) == 3


async def test_a_refused_request_is_counted_and_journaled_as_rejected_and_is_no_demand() -> None:
    async with rig(RAW) as r:
        await limited(r, calls(1))
        await r.chat()
        before = (await r.controller.tick(lambda tick: tick.entities[0].completed == 1)).entities[0]
        await r.chat()
        tick = await r.controller.tick(lambda tick: tick.entities[0].rejected == 1)
        after = tick.entities[0]
        assert (after.arrivals, after.offered_work, after.queued, after.dispatched) == (
            before.arrivals,
            before.offered_work,
            0,
            1,
        )
        rejected = [record for record in r.journal() if isinstance(record, Rejected)]
        assert [(one.status, one.reason, one.key) for one in rejected] == [(429, "rate_limit", "00000002")]
        assert rejected[0].work > 0


async def test_tokens_are_held_by_what_was_used_in_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Turned().install(monkeypatch)
    async with rig(RAW) as r:
        r.engines[0].behave = answer("a", "b", prompt_tokens=498)
        await limited(r, RateLimitView("user", None, tokens=600))
        assert (await r.chat(max_tokens=50)).status == 200
        again_s = check_over(await r.chat(max_tokens=200), "user tokens per minute rate limit for smollm2")
        assert 58 < again_s <= 61
        assert (await r.chat(max_tokens=2)).status == 200, "500 were used, and this one fits into the rest"
        assert (await r.post(CHAT, chat_body(), key=OTHER_KEY)).status == 200, "another user has a limit of its own"
        clock.ahead_s += again_s
        assert (await r.chat(max_tokens=50)).status == 200


async def test_tokens_of_requests_in_flight_are_reserved_and_given_back_when_they_end_unused() -> None:
    async with rig(RAW) as r:
        r.engines[0].behave = answer("a", hold_after=0)
        await limited(r, RateLimitView("endpoint", tokens=200))
        client = await r.connect()
        await client.send("POST", CHAT, chat_body(max_tokens=250))
        await r.engines[0].asked()
        check_over(await r.chat(max_tokens=100), "are reserved for requests in flight")
        client.close()
        await asyncio.wait_for(r.engines[0].cancelled.wait(), 20)
        r.engines[0].behave = answer("a")
        assert (await r.chat(max_tokens=100)).status == 200


@pytest.mark.parametrize(
    ("limit", "closed", "words"),
    [
        (calls(0), {QUERY_KEY, OTHER_KEY, JOB_KEY, ADMIN_KEY}, "Endpoint 'smollm2' is disabled due to a rate limit"),
        (RateLimitView("endpoint", tokens=0), {QUERY_KEY, OTHER_KEY, JOB_KEY, ADMIN_KEY}, "set to 0 (tokens per"),
        (calls(0, "user", "ann"), {OTHER_KEY}, "For this user, 'smollm2' is disabled"),
        (calls(0, "service_principal"), {JOB_KEY}, "For this service principal, 'smollm2' is disabled"),
    ],
)
async def test_a_limit_of_zero_closes_the_endpoint_to_whom_it_holds_for(
    limit: RateLimitView, closed: set[str], words: str
) -> None:
    async with rig(RAW) as r:
        await limited(r, limit)
        for key in (QUERY_KEY, OTHER_KEY, JOB_KEY, ADMIN_KEY):
            got = await r.post(CHAT, chat_body(), key=key)
            assert got.status == (403 if key in closed else 200)
            if key in closed:
                assert got.json["error_code"] == "PERMISSION_DENIED"
                assert words in got.json["message"]
                assert "retry-after" not in got.headers


async def test_a_service_principal_is_told_that_the_limit_of_each_user_holds_for_it() -> None:
    async with rig(RAW) as r:
        await limited(r, calls(1, "user"))
        borrowed = "The limit is that of each user; it holds for this service principal too, which has none of its own."
        for key, holds_for_another in ((OTHER_KEY, False), (JOB_KEY, True)):
            assert (await r.post(CHAT, chat_body(), key=key)).status == 200
            got = await r.post(CHAT, chat_body(), key=key)
            check_over(got, "Exceeded user calls per minute rate limit for smollm2. The limit is 1;")
            assert got.json["message"].endswith(f" {borrowed}") == holds_for_another
        await limited(r, calls(0, "user"))
        closed = (await r.post(CHAT, chat_body(), key=JOB_KEY)).json["message"]
        assert closed == (
            "For this service principal, 'smollm2' is disabled due to a rate limit set to 0 (calls per minute). "
            + borrowed
        )
        await limited(r, calls(1, "service_principal"))
        check_over(await r.post(CHAT, chat_body(), key=JOB_KEY), "Exceeded service principal calls per minute")


async def test_a_limit_that_is_used_up_is_no_reason_to_ask_another_entity() -> None:
    async with rig(RAW) as r:
        await limited(r, calls(1), fallback=True, overload="spill")
        assert [(await r.chat()).status for _ in range(2)] == [200, 429]


async def test_what_can_never_fit_is_no_call() -> None:
    async with rig(RAW) as r:
        await limited(r, calls(1))
        assert (await r.chat(max_tokens=10**9)).status == 400
        assert (await r.chat()).status == 200


async def test_limits_that_change_hold_at_once_and_remember_the_last_minute() -> None:
    async with rig(RAW) as r:
        await limited(r, calls(5))
        assert [(await r.chat()).status for _ in range(2)] == [200, 200]
        await limited(r, calls(2))
        assert (await r.chat()).status == 429
        await limited(r)
        assert (await r.chat()).status == 200
