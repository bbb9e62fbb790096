"""The live driver of one served entity: what its clock and those that wait may do to one another."""

from __future__ import annotations

import asyncio
from time import monotonic

from gateway_rig import RAW, FakeEngine, endpoint_view

from headrace.gateway.entity import LiveEntity
from headrace.policy.endpoint import Ask, Dispatch, Refuse


class Waiting:
    """A request that asks, and notes what it is told."""

    def __init__(self, entity: LiveEntity, rid: str) -> None:
        self.rid = rid
        self.gone = False
        self.decision: asyncio.Future[Dispatch | Refuse] = asyncio.get_running_loop().create_future()
        ask = Ask(rid=rid, key="k", band="default", input_tokens=10, max_output=10, predicted_output=10)
        entity.admit(self, ask)

    def decided(self, decision: Dispatch | Refuse) -> None:
        self.decision.set_result(decision)

    def entity_gone(self) -> None:
        self.gone = True

    @property
    def dispatched(self) -> bool:
        return self.decision.done() and isinstance(self.decision.result(), Dispatch)


def entity(*, slots: int = 1, **changes: object) -> LiveEntity:
    """With one replica, to which nothing is sent."""
    replica = FakeEngine("replica-0", RAW).view(slots=slots, url="http://127.0.0.1:9")
    view = endpoint_view(**changes)
    return LiveEntity(view, view.entities[0], [replica], lambda: None)


async def test_a_free_slot_is_given_at_once_and_a_client_that_leaves_the_queue_is_never_called() -> None:
    live = entity()
    first, second, third = (Waiting(live, rid) for rid in ("first", "second", "third"))
    assert first.dispatched
    live.leave("second")
    live.settle("first", new=10, cached=0, out=10, outcome="ok")
    assert third.dispatched
    assert not second.decision.done()
    seen = live.core.observe(monotonic())
    assert (seen.in_flight, seen.queued, seen.abandoned) == (1, 0, 1)


async def test_a_deadline_passes_although_nothing_happens() -> None:
    live = entity(queue_deadline_s=0.02)
    Waiting(live, "first")
    refused = await asyncio.wait_for(Waiting(live, "second").decision, 10)
    assert isinstance(refused, Refuse)
    assert (refused.status, refused.reason) == (503, "deadline")


async def test_the_rate_lets_the_next_one_through_although_nothing_happens() -> None:
    live = entity(slots=2000, chunk=2000.0, max_chunks=1, context=100)
    # 10,000 reference tokens may be admitted at once; the 501st of 20 waits for the limiter.
    for index in range(500):
        assert Waiting(live, f"r-{index}").dispatched
    dispatch = await asyncio.wait_for(Waiting(live, "last").decision, 10)
    assert isinstance(dispatch, Dispatch)
    assert 0 < dispatch.queued_s < 1


async def test_what_waits_at_an_entity_that_is_taken_away_is_told() -> None:
    live = entity()
    first, second = Waiting(live, "first"), Waiting(live, "second")
    live.remove()
    assert second.gone
    assert not first.gone
    seen = live.core.observe(monotonic())
    assert (seen.in_flight, seen.queued) == (1, 0)


async def test_a_request_that_ends_in_the_moment_of_its_dispatch_does_not_nest_decisions() -> None:
    class EndsAtOnce(Waiting):
        depth = deepest = 0

        def decided(self, decision: Dispatch | Refuse) -> None:
            super().decided(decision)
            cls = type(self)
            cls.depth += 1
            cls.deepest = max(cls.deepest, cls.depth)
            live.settle(self.rid, new=10, cached=0, out=0, outcome="refused")
            cls.depth -= 1

    live = entity()
    Waiting(live, "first")
    waiting = [EndsAtOnce(live, f"r-{index}") for index in range(50)]
    live.settle("first", new=10, cached=0, out=10, outcome="ok")
    assert all(request.dispatched for request in waiting)
    assert EndsAtOnce.deepest == 1
