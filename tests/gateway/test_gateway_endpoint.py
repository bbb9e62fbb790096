"""The live driver of one endpoint: what its clock and its waiting tasks may do to one another."""

from __future__ import annotations

import asyncio

import pytest
from gateway_rig import RAW, FakeEngine, endpoint_view

from headrace.gateway.endpoint import EndpointGone, LiveEndpoint
from headrace.policy.endpoint import Ask, Dispatch, Refuse


def ask(rid: str) -> Ask:
    return Ask(rid=rid, key="k", band="default", input_tokens=10, max_output=10, predicted_output=10)


def endpoint(*, slots: int = 1, **changes: object) -> LiveEndpoint:
    """With one replica, to which nothing is sent."""
    replica = FakeEngine("replica-0", RAW).view(slots=slots, url="http://127.0.0.1:9")
    return LiveEndpoint(endpoint_view(**changes), [replica], lambda: None)


async def test_a_client_that_leaves_in_the_moment_of_its_dispatch_leaves_no_slot_taken() -> None:
    live = endpoint()
    assert isinstance(await live.admit(ask("first")), Dispatch)
    waiting = asyncio.create_task(live.admit(ask("second")))
    await asyncio.sleep(0)
    # Before the cancelled task runs again, the slot becomes free and is given to it.
    waiting.cancel()
    live.settle("first", new=10, cached=0, out=10, outcome="ok")
    assert live.core.observe(asyncio.get_running_loop().time()).in_flight == 1
    with pytest.raises(asyncio.CancelledError):
        await waiting
    seen = live.core.observe(asyncio.get_running_loop().time())
    assert (seen.in_flight, seen.queued, seen.abandoned) == (0, 0, 1)
    assert isinstance(await live.admit(ask("third")), Dispatch)


async def test_a_deadline_passes_although_nothing_happens() -> None:
    live = endpoint(queue_deadline_s=0.02)
    await live.admit(ask("first"))
    refused = await live.admit(ask("second"))
    assert isinstance(refused, Refuse)
    assert (refused.status, refused.reason) == (503, "deadline")


async def test_the_rate_lets_the_next_one_through_although_nothing_happens() -> None:
    live = endpoint(slots=2000, chunk=2000.0, max_chunks=1, context=100)
    # 10,000 reference tokens may be admitted at once; the 501st of 20 waits for the limiter.
    for index in range(500):
        assert isinstance(await live.admit(ask(f"r-{index}")), Dispatch)
    dispatch = await live.admit(ask("last"))
    assert isinstance(dispatch, Dispatch)
    assert 0 < dispatch.queued_s < 1


async def test_what_arrives_at_a_deleted_endpoint_ends() -> None:
    live = endpoint()
    await live.admit(ask("first"))
    waiting = asyncio.create_task(live.admit(ask("second")))
    await asyncio.sleep(0)
    live.remove()
    with pytest.raises(EndpointGone):
        await waiting
    with pytest.raises(EndpointGone):
        await live.admit(ask("third"))
    seen = live.core.observe(asyncio.get_running_loop().time())
    assert (seen.in_flight, seen.queued) == (1, 0)
