"""What runs is made what was bought: on a toy fleet and a clock that the test turns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from controller_world import CHUNK, ToyGateway, World

from headrace.controller.backoff import FAILING_AFTER, LONGEST_DELAY_S
from headrace.controller.gateways import RECONNECT_GRACE_S
from headrace.controller.reconcile import DRAIN_DEADLINE_S, LABEL
from headrace.controller.view import endpoint_info
from headrace.controller.watches import SILENCE_S, Watch
from headrace.ledger.bills import bill
from headrace.policy.scaling import replay


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = World(tmp_path / "data")
    world.model()
    return world


def watch(world: World, name: str) -> Watch:
    """Of the only served entity of an endpoint."""
    (entity,) = world.get(name).current.entities
    return world.controller.reconciler.watches.of(entity.id)


async def test_the_update_is_in_progress_until_the_minimum_is_ready(world: World) -> None:
    world.create("a", 2, 3)
    await world.step()
    assert world.phases("a") == ["pending", "pending"]
    await world.step(1)
    assert world.phases("a") == ["loading", "loading"]
    world.fleet.load(world.fleet.living()[0])
    await world.step(1)
    assert (world.get("a").update, world.get("a").active) == ("IN_PROGRESS", None)
    world.fleet.load()
    await world.step(1)
    assert world.get("a").update == "NOT_UPDATING"
    assert [replica.draining for replica in world.snapshot.replicas] == [False, False]


async def test_a_minimum_of_zero_is_accepted_at_once_and_starts_nothing(world: World) -> None:
    world.create("a", 0, 2)
    await world.step()
    assert world.get("a").update == "NOT_UPDATING"
    assert world.fleet.started == 0


async def test_a_new_endpoint_at_zero_is_not_said_to_have_a_request(world: World) -> None:
    gateway = await world.served("first", 1, 1)
    world.create("a", 0, 2)
    gateway.offer(world.get("a"))
    gateway.report()
    await world.step(1)
    events = [event for event in world.controller.events.list(endpoint="a") if event.kind == "scaled"]
    assert all("has a request" not in event.message for event in events)
    reason = watch(world, "a").reason
    assert "kept ready until it has been idle for 300 s" in reason


async def test_a_request_at_an_endpoint_at_zero_starts_a_replica_at_once(world: World) -> None:
    gateway = await world.served("a", 0, 2)
    gateway.offer(world.get("a"), work=50.0, queued=1, queued_work=50.0)
    assert gateway.report() is True, "a step must follow at once"
    await world.step()
    assert world.phases("a") == ["pending"]
    world.fleet.load()
    await world.step(1)
    assert gateway.report() is False, "something serves: the next look is soon enough"


async def test_an_idle_endpoint_goes_back_to_zero(world: World) -> None:
    gateway = await world.served("a", 0, 2)
    gateway.offer(world.get("a"), work=50.0, queued=1, queued_work=50.0)
    gateway.report()
    await world.step()
    world.fleet.load()
    gateway.offer(world.get("a"), queued=0, queued_work=0.0)
    for _ in range(40):
        gateway.ack()
        gateway.report()
        await world.step(9)
    assert world.phases("a") == []
    assert world.kinds().count("replica_stopped") == 1


async def test_demand_scales_up_and_its_end_scales_down_by_a_drain(world: World) -> None:
    gateway = await world.served("a", 1, 3)
    for _ in range(30):
        gateway.offer(world.get("a"), work=1.8 * CHUNK)
        gateway.report()
        await world.step(1)
    assert world.phases("a") == ["loading", "ready"]
    world.fleet.load()
    await world.step(1)
    assert world.phases("a") == ["ready", "ready"]

    busy = {replica.id: 1 for replica in world.snapshot.replicas}
    gateway.on_replica = dict(busy)
    while "draining" not in world.phases("a"):
        gateway.ack()
        gateway.report()
        await world.step(1)
    draining = next(replica for replica in world.snapshot.replicas if replica.draining)

    gateway.report()
    await world.step(1)
    assert draining.id in world.fleet.living(), "the gateway has not acknowledged the drain"
    gateway.ack()
    gateway.report()
    await world.step(1)
    assert draining.id in world.fleet.living(), "it still has a request"
    gateway.on_replica[draining.id] = 0
    gateway.report()
    await world.step(1)
    assert draining.id not in world.fleet.living()
    await world.step(1)
    assert world.phases("a") == ["ready"]


async def test_every_scaling_event_recomputes_from_its_own_inputs(world: World) -> None:
    gateway = await world.served("a", 1, 3)
    for number in range(200):
        gateway.offer(world.get("a"), work=2.6 * CHUNK if number < 60 else 0.0)
        gateway.ack()
        gateway.report()
        await world.step(1)
        world.fleet.load()
    events = [event for event in world.controller.events.list(limit=1000) if event.kind == "scaled"]
    assert [event.data["to"] for event in events] == [1, 2, 3, 2, 1]
    for event in events:
        inputs = json.loads(json.dumps(event.data["inputs"]))
        assert (replay(inputs).chunks, replay(inputs).reason) == (event.data["to"], event.message)


async def test_a_drain_ends_at_its_deadline_whatever_the_gateway_says(world: World) -> None:
    gateway = await world.served("a", 2, 2)
    gateway.on_replica = dict.fromkeys(world.fleet.living(), 1)
    world.update("a", 1, 1)
    await world.step(1)
    await world.step(1)
    assert world.phases("a") == ["draining", "ready"]
    gateway.ack()
    gateway.report()
    await world.step(DRAIN_DEADLINE_S - 10)
    assert world.phases("a") == ["draining", "ready"]
    await world.step(20)
    await world.step(1)
    assert world.phases("a") == ["ready"]


async def test_a_draining_replica_that_is_needed_again_serves_again(world: World) -> None:
    gateway = await world.served("a", 2, 2)
    gateway.on_replica = dict.fromkeys(world.fleet.living(), 1)
    world.update("a", 1, 2)
    for _ in range(80):
        gateway.ack()
        gateway.report()
        await world.step(1)
    assert world.phases("a") == ["draining", "ready"]
    world.update("a", 2, 2)
    await world.step(1)
    assert world.phases("a") == ["ready", "ready"]
    assert world.fleet.started == 2


async def test_a_crashed_replica_is_replaced_and_the_gap_is_not_billed(world: World) -> None:
    await world.served("a", 1, 1)
    start = world.clock.ms
    world.clock.ms += 10_000
    world.fleet.crash()
    await world.step(1)
    assert world.snapshot.replicas == ()
    await world.step(5)
    assert world.phases("a") == ["loading"]
    world.fleet.load()
    await world.step(4)
    ready = world.clock.ms - 4_000
    await world.step(10)
    lines = bill(world.controller.timeline, world.get("a").id, start, world.clock.ms, world.clock.ms)
    assert lines.chunk_ms == 10_000 + world.clock.ms - ready


async def test_a_crash_loop_backs_off_and_shows_its_last_words(world: World) -> None:
    world.create("a", 1, 1)
    for _ in range(600):
        await world.step(1)
        world.fleet.crash()
    backoff = watch(world, "a").backoff
    assert 600 / LONGEST_DELAY_S < world.fleet.started < 30
    assert backoff.failures >= FAILING_AFTER
    assert backoff.tail == "the last words"
    assert world.get("a").update == "UPDATE_FAILED"
    assert "ended by SIGKILL" in world.get("a").update_message
    assert world.snapshot.endpoints[0].cold_start_deadline_s == 30, "there is no cold start to wait for"
    assert world.snapshot.restored, "an endpoint that fails keeps no server from starting"

    while not world.fleet.living():
        await world.step(1)
    world.fleet.load()
    await world.step(1)
    assert world.get("a").update == "NOT_UPDATING"


async def test_a_replica_that_cannot_be_started_is_a_failure_with_its_reason(world: World) -> None:
    world.create("a", 1, 1)
    world.fleet.refuses = "the file is gone"
    await world.step()
    assert watch(world, "a").backoff.message == "the file is gone"
    world.fleet.refuses = None
    await world.step(2)
    assert world.phases("a") == ["pending"]


async def test_a_first_config_that_cannot_start_fails_with_the_reason_and_is_tried_on(world: World) -> None:
    world.create("a", 1, 1)
    world.fleet.refuses = "the variable KEY is not set"
    for _ in range(10):
        await world.step(1)
    assert world.get("a").update == "UPDATE_FAILED"
    assert "the variable KEY is not set" in world.get("a").update_message
    for _ in range(390):
        await world.step(1)
    assert world.kinds().count("replica_failed") > 390 / LONGEST_DELAY_S
    assert world.kinds().count("config_failed") == 1
    world.fleet.refuses, world.fleet.ready_at_once = None, True
    for _ in range(int(LONGEST_DELAY_S) + 2):
        await world.step(1)
    assert (world.get("a").update, world.phases("a")) == ("NOT_UPDATING", ["ready"])


async def test_a_controller_that_restarts_adopts_what_runs(world: World) -> None:
    await world.served("a", 2, 3)
    before = world.snapshot
    events = len(world.kinds())
    world.restart()
    await world.step(3)
    assert world.fleet.started == 2
    assert world.phases("a") == ["ready", "ready"]
    assert world.snapshot.version > before.version
    assert world.snapshot.restored
    assert world.snapshot.replicas == before.replicas
    assert len(world.kinds()) == events, "nothing has changed, so nothing is told"


async def test_a_drain_goes_on_after_a_restart_when_its_gateway_is_back(world: World) -> None:
    gateway = await world.served("a", 2, 2)
    gateway.on_replica = dict.fromkeys(world.fleet.living(), 1)
    world.update("a", 1, 1)
    gateway.report()
    await world.step(1)
    await world.step(1)
    world.restart()
    await world.step(1)
    assert world.phases("a") == ["draining", "ready"], "its gateway may be serving, and has not connected yet"
    gateway = ToyGateway(world)
    gateway.on_replica = dict.fromkeys(world.fleet.living(), 1)
    gateway.ack()
    gateway.report()
    await world.step(RECONNECT_GRACE_S)
    assert world.phases("a") == ["draining", "ready"], "it still has a request"
    gateway.on_replica = {}
    gateway.report()
    await world.step(1)
    await world.step(1)
    assert world.phases("a") == ["ready"]


async def test_what_ended_while_no_controller_ran_is_billed_until_its_end(world: World) -> None:
    await world.served("a", 1, 1)
    start = world.clock.ms
    world.clock.ms += 5_000
    world.fleet.crash()
    world.clock.ms += 20_000
    world.restart()
    await world.step()
    assert bill(world.controller.timeline, world.get("a").id, start, world.clock.ms, world.clock.ms).chunk_ms == 5_000


async def test_the_time_in_which_the_whole_machine_was_down_is_not_billed(world: World) -> None:
    await world.served("a", 1, 1)
    start = world.clock.ms
    await world.step(7)
    world.fleet.forget()
    world.clock.ms += 3_600_000
    world.restart()
    await world.step()
    assert bill(world.controller.timeline, world.get("a").id, start, world.clock.ms, world.clock.ms).chunk_ms == 7_000
    assert "replica_failed" not in world.kinds()
    assert world.phases("a") == ["pending"], "the minimum is started again"
    assert not world.snapshot.restored, "not before it is ready"
    world.fleet.load()
    await world.step(1)
    assert world.snapshot.restored


async def test_a_replica_that_nobody_knows_of_is_ended(world: World) -> None:
    await world.fleet.start("orphan", world.controller.offers.model("toy"), labels={LABEL: "gone"})
    await world.fleet.start("not-ours", world.controller.offers.model("toy"), labels={})
    await world.step()
    assert world.fleet.living() == ["not-ours"]


async def test_a_range_only_change_restarts_nothing(world: World) -> None:
    await world.served("a", 1, 2)
    before = {replica.id for replica in world.snapshot.replicas}
    world.update("a", 2, 3)
    await world.step(1)
    assert world.get("a").update == "IN_PROGRESS"
    world.fleet.load()
    await world.step(1)
    assert world.get("a").update == "NOT_UPDATING"
    assert before < {replica.id for replica in world.snapshot.replicas}
    assert world.snapshot.endpoints[0].entities[0].config_version == 2


async def test_another_model_takes_over_when_it_can_serve(world: World) -> None:
    gateway = await world.served("a", 1, 1)
    world.model("other")
    old = world.snapshot.replicas[0].id
    world.update("a", 1, 1, model="other")
    await world.step(1)
    assert world.snapshot.endpoints[0].entities[0].model == "toy", "the old one serves meanwhile"
    world.fleet.load()
    await world.step(1)
    assert world.snapshot.endpoints[0].entities[0].model == "other"
    assert {r.id for r in world.snapshot.replicas if r.draining} == {old}
    gateway.ack()
    gateway.report()
    await world.step(1)
    await world.step(1)
    assert world.phases("a") == ["ready"]


async def test_a_config_that_is_proposed_during_a_start_is_not_taken_for_the_one_before(world: World) -> None:
    await world.served("a", 2, 2)
    world.fleet.crash(world.fleet.living()[0])
    await world.step(0.5)
    world.update("a", 1, 2)
    world.model(chunk=500)
    world.fleet.while_starting = lambda: world.controller.endpoints.measured("a", "toy")
    await world.step(2)
    await world.step(1)
    told = [event.message for event in world.controller.events.list(limit=1000) if event.kind == "config_active"]
    assert told == ["config version 1 is active", "config version 3 is active"]
    assert world.snapshot.endpoints[0].entities[0].chunk == 500


async def test_an_endpoint_that_is_deleted_during_a_start_leaves_nothing_behind(world: World) -> None:
    world.create("a", 1, 1)
    world.create("b", 1, 1)
    world.fleet.while_starting = lambda: (
        world.controller.endpoints.delete("a"),
        world.controller.endpoints.delete("b"),
    )
    await world.step()
    assert world.fleet.started == 1
    for _ in range(3):
        await world.step(1)
    assert (world.fleet.living(), world.controller.roster.all()) == ([], [])


async def test_an_update_that_fails_leaves_what_serves(world: World) -> None:
    await world.served("a", 1, 1)
    world.model("other")
    old = world.fleet.living()
    world.update("a", 1, 1, model="other")
    for _ in range(60):
        await world.step(1)
        for replica in set(world.fleet.living()) - set(old):
            world.fleet.crash(replica)
    assert world.get("a").update == "UPDATE_FAILED"
    assert world.fleet.living() == old
    assert world.snapshot.endpoints[0].entities[0].model == "toy"


async def test_an_update_fails_beside_what_has_served_for_long_and_the_next_one_has_its_own_tries(world: World) -> None:
    await world.served("a", 1, 1)
    world.model("other")
    old = world.fleet.living()
    await world.step(600)
    world.update("a", 1, 1, model="other")
    for _ in range(60):
        await world.step(1)
        for replica in set(world.fleet.living()) - set(old):
            world.fleet.crash(replica)
    assert world.get("a").update == "UPDATE_FAILED"
    assert world.fleet.started < 10, "the starts back off"
    world.update("a", 1, 1, model="other")
    await world.step(1)
    assert world.get("a").update == "IN_PROGRESS", "what failed before the update says nothing of it"


async def test_a_minimum_takes_the_place_of_what_another_endpoint_has_beyond_its_own(tmp_path: Path) -> None:
    world = World(tmp_path / "data", places=2)
    world.model()
    gateway = await world.served("a", 1, 2)
    for _ in range(60):
        gateway.offer(world.get("a"), work=1.8 * CHUNK)
        gateway.report()
        await world.step(1)
    world.fleet.load()
    await world.step(1)
    assert world.phases("a") == ["ready", "ready"]
    world.create("b", 1, 1)
    await world.step(1)
    for _ in range(3):
        gateway.offer(world.get("a"), work=1.8 * CHUNK)
        gateway.ack()
        gateway.report()
        await world.step(1)
    assert world.phases("a") == ["ready"]
    assert len(world.phases("b")) == 1
    taken = [event for event in world.controller.events.list() if event.kind == "place_taken"]
    assert [(event.endpoint, event.message) for event in taken] == [
        ("a", "down to 1 chunk, though it should have 2: endpoint b needs its minimum of 1 chunk")
    ]
    assert endpoint_info(world.controller, world.get("a")).problems == (
        "it should have 2 chunks, and there is room for 1: make its range or that of b smaller, "
        "or use a machine with more cores",
    )


async def test_a_deleted_endpoint_drains_its_replicas_and_is_billed_no_more(world: World) -> None:
    gateway = await world.served("a", 1, 1)
    endpoint = world.get("a")
    replica = world.snapshot.replicas[0].id
    gateway.on_replica = {replica: 1}
    start = world.clock.ms
    world.controller.endpoints.delete("a")
    await world.step(1)
    assert world.snapshot.endpoints == ()
    assert [(r.id, r.draining) for r in world.snapshot.replicas] == [(replica, True)]
    gateway.ack()
    gateway.report()
    await world.step(1)
    assert world.fleet.living() == [replica]
    gateway.on_replica = {}
    gateway.report()
    await world.step(1)
    await world.step(1)
    assert world.fleet.living() == []
    assert world.controller.roster.all() == []
    assert bill(world.controller.timeline, endpoint.id, start, world.clock.ms, world.clock.ms).chunk_ms == 0


def unanswered(world: World, name: str) -> None:
    """As the static fleet tells of a server that does not answer."""
    world.fleet.seen[name] = replace(
        world.fleet.seen[name], state="loading", url=None, ready_ms=None, error="no answer"
    )


async def test_a_server_that_stops_answering_is_not_ready_and_not_billed_until_it_does(world: World) -> None:
    await world.served("a", 1, 1)
    name = world.fleet.living()[0]
    start = world.clock.ms
    world.clock.ms += 5_000
    unanswered(world, name)
    await world.step()
    assert world.phases("a") == ["loading"]
    assert world.snapshot.replicas == ()
    await world.step(10)
    assert bill(world.controller.timeline, world.get("a").id, start, world.clock.ms, world.clock.ms).chunk_ms == 5_000


async def test_each_loss_of_a_server_is_told_once_and_shortens_the_wait_for_it(world: World) -> None:
    await world.served("a", 1, 1)
    name = world.fleet.living()[0]
    for _ in range(2):
        unanswered(world, name)
        for _ in range(5):
            await world.step(1)
        assert world.snapshot.endpoints[0].cold_start_deadline_s == 30
        world.fleet.load(name)
        world.fleet.seen[name] = replace(world.fleet.seen[name], error=None)
        await world.step(1)
        assert world.snapshot.endpoints[0].cold_start_deadline_s == 290
    assert [kind for kind in world.kinds() if kind.startswith("replica")] == [
        "replica_ready",
        "replica_failed",
        "replica_ready",
        "replica_failed",
        "replica_ready",
    ]
    failed = next(event for event in world.controller.events.list() if event.kind == "replica_failed")
    assert failed.message == f"replica {name} failed: no answer"


async def test_a_first_config_on_a_server_that_does_not_answer_fails_until_it_does(world: World) -> None:
    world.create("a", 1, 1)
    await world.step()
    name = world.fleet.living()[0]
    unanswered(world, name)
    await world.step(1)
    await world.step(SILENCE_S - 1)
    assert world.get("a").update == "IN_PROGRESS"
    await world.step(1)
    assert world.get("a").update == "UPDATE_FAILED"
    assert world.get("a").update_message.endswith("no answer")
    world.fleet.load(name)
    world.fleet.seen[name] = replace(world.fleet.seen[name], error=None)
    await world.step(1)
    assert (world.get("a").update, world.phases("a")) == ("NOT_UPDATING", ["ready"])
