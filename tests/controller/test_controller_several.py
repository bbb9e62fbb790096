"""Several served entities of one endpoint: each is sized by its own demand, and all are rolled out together."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from controller_world import CHUNK, ToyGateway, World, empty_tick, entity

from headrace.config import ScalingConfig
from headrace.controller.endpoint import Options
from headrace.controller.view import endpoint_info
from headrace.policy.scaling import replay


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = World(tmp_path / "data", places=6)
    for model in ("toy", "other", "third"):
        world.model(model)
    return world


async def served(world: World, *, options: Options | None = None) -> ToyGateway:
    """Endpoint ``a`` with big (1 to 3 chunks, 70%) and small (1 to 2, 30%), ready, and a gateway that reports."""
    both = (entity("big", 1, 3), 70), (entity("small", 1, 2, model="other"), 30)
    world.create_several("a", *both, options=options)
    return await world.brought_up("a")


async def under_load(world: World, gateway: ToyGateway, seconds: int, **chunks: float) -> None:
    """So many chunks' work is offered to each named entity of ``a``, each second; what is started loads at once."""
    for _ in range(seconds):
        for name, count in chunks.items():
            gateway.offer(world.get("a"), world.entity("a", name), work=count * CHUNK)
        gateway.ack()
        gateway.report()
        await world.step(1)
        world.fleet.load()


def traffic(world: World) -> dict[str, int]:
    """As the gateways are told."""
    return {one.name: one.traffic for one in world.snapshot.endpoints[0].entities}


# Sizing


async def test_each_entity_scales_on_its_own_demand_within_its_own_range(world: World) -> None:
    gateway = await served(world)
    await under_load(world, gateway, 60, small=5.0)
    assert (len(world.phases("a", "big")), len(world.phases("a", "small"))) == (1, 2), "the range of small ends at 2"
    await under_load(world, gateway, 60, big=2.5, small=0.5)
    assert len(world.phases("a", "big")) == 3


async def test_a_scaling_event_names_its_entity_and_recomputes(world: World) -> None:
    gateway = await served(world)
    await under_load(world, gateway, 30, small=1.8)
    (event,) = [one for one in world.controller.events.list(limit=1000) if one.kind == "scaled" and one.data["to"] == 2]
    assert event.data["entity"] == "small"
    assert event.message == f"small: {event.data['reason']}"
    assert replay(json.loads(json.dumps(event.data["inputs"]))).reason == event.data["reason"]


async def test_what_is_counted_of_an_entity_that_is_no_more_scales_nothing(world: World) -> None:
    gateway = await served(world)
    gone = empty_tick(world.get("a").id, "gone")
    for second in range(60):
        gateway.counters["gone"] = msgspec.structs.replace(
            gone, offered_work=second * 9.0 * CHUNK, queued=5, queued_work=9.0 * CHUNK
        )
        gateway.ack()
        assert gateway.report() is False
        await world.step(1)
    assert world.fleet.started == 2


async def test_a_request_at_an_entity_at_zero_is_urgent_although_another_one_serves(world: World) -> None:
    world.create_several("a", (entity("big", 1, 1), 90), (entity("small", 0, 1), 10))
    await world.step()
    world.fleet.load()
    await world.step(1)
    gateway = ToyGateway(world)
    gateway.offer(world.get("a"), world.entity("a", "small"), work=50.0, queued=1, queued_work=50.0)
    assert gateway.report() is True
    await world.step()
    assert world.phases("a", "small") == ["pending"]
    world.fleet.load()
    await world.step(1)
    assert gateway.report() is False


async def test_a_busy_entity_does_not_take_the_place_of_a_minimum(tmp_path: Path) -> None:
    world = World(tmp_path / "data", places=3)
    world.model()
    world.model("other")
    world.create_several("a", (entity("big", 1, 3), 100), (entity("small", 1, 1, model="other"), 0))
    await world.step()
    world.fleet.load()
    await world.step(1)
    gateway = ToyGateway(world)
    await under_load(world, gateway, 60, big=9.0)
    assert (len(world.phases("a", "big")), len(world.phases("a", "small"))) == (2, 1)
    assert endpoint_info(world.controller, world.get("a")).problems == (
        "big: it should have 3 chunks, and there is room for 2: make its range or that of a/small smaller, "
        "or use a machine with more cores",
    )


async def test_an_endpoint_that_loses_a_place_is_told_to_which_entity(tmp_path: Path) -> None:
    world = World(tmp_path / "data", places=3)
    world.model()
    world.model("other")
    asleep = Options(scaling=ScalingConfig(idle_to_zero_s=1.0))
    world.create_several("a", (entity("big", 1, 3), 100), (entity("small", 0, 1, model="other"), 0), options=asleep)
    await world.step()
    world.fleet.load()
    await world.step(1)
    gateway = ToyGateway(world)
    await under_load(world, gateway, 60, big=9.0)
    assert len(world.phases("a", "big")) == 3
    world.update_several("a", (entity("big", 1, 3), 100), (entity("small", 1, 1, model="other"), 0))
    await under_load(world, gateway, 5, big=9.0)
    (taken,) = [event for event in world.controller.events.list() if event.kind == "place_taken"]
    assert taken.message == (
        "big: down to 2 chunks, though it should have 3: served entity a/small needs its minimum of 1 chunk"
    )
    assert (taken.data["entity"], taken.data["to"]) == ("big", ["a/small"])


# Roll-out


async def test_the_first_config_is_in_progress_until_every_minimum_is_ready(world: World) -> None:
    world.create_several("a", (entity("big", 2, 2), 100), (entity("small", 1, 1, model="other"), 0))
    await world.step()
    big = [replica for replica in world.controller.roster.all() if replica.model.name == "toy"]
    world.fleet.load(*(replica.id for replica in big))
    await world.step(1)
    assert (world.get("a").update, world.get("a").active) == ("IN_PROGRESS", None)
    assert not world.snapshot.restored
    world.fleet.load()
    await world.step(1)
    assert world.get("a").update == "NOT_UPDATING"
    assert world.snapshot.restored


async def test_another_split_of_the_traffic_restarts_nothing_and_applies_at_once(world: World) -> None:
    await served(world)
    running = world.fleet.living()
    world.update_several("a", (entity("big", 1, 3), 10), (entity("small", 1, 2, model="other"), 90))
    await world.step(1)
    assert traffic(world) == {"big": 10, "small": 90}
    assert (world.get("a").update, world.fleet.living()) == ("NOT_UPDATING", running)


async def test_an_update_replaces_one_entity_and_its_traffic_waits_for_it(world: World) -> None:
    gateway = await served(world)
    big, small = world.get("a").current.entities
    running = set(world.fleet.living())
    world.update_several("a", (entity("big", 1, 3), 20), (entity("new", 1, 1, model="third"), 80))
    await world.step(1)
    assert traffic(world) == {"big": 70, "small": 30}
    assert running < set(world.fleet.living())
    world.fleet.load()
    await world.step(1)
    assert traffic(world) == {"big": 20, "new": 80}
    assert world.entity("a", "big").id == big.id, "it runs what it ran, so it is the same one"
    assert [r.entity for r in world.snapshot.replicas if r.draining] == [small.id]
    for _ in range(2):
        gateway.ack()
        gateway.report()
        await world.step(1)
    assert (world.phases("a", "big"), world.phases("a", "new")) == (["ready"], ["ready"])
    assert len(world.fleet.living()) == 2


async def test_entities_that_swap_their_names_keep_their_replicas(world: World) -> None:
    await served(world)
    running = world.fleet.living()
    big, small = world.get("a").current.entities
    world.update_several("a", (entity("big", 1, 3, model="other"), 70), (entity("small", 1, 2), 30))
    await world.step(1)
    assert world.fleet.living() == running
    assert (world.entity("a", "big").id, world.entity("a", "small").id) == (small.id, big.id)


async def test_two_entities_of_one_model_have_replicas_of_their_own(world: World) -> None:
    world.create_several("a", (entity("x", 1, 1), 50), (entity("y", 2, 2), 50))
    await world.step()
    world.fleet.load()
    await world.step(1)
    assert (world.phases("a", "x"), world.phases("a", "y")) == (["ready"], ["ready", "ready"])
    x, y = world.get("a").current.entities
    world.update_several("a", (entity("y", 1, 2), 100), (entity("x", 1, 1), 0))
    await world.step(1)
    assert (world.entity("a", "x").id, world.entity("a", "y").id) == (x.id, y.id), "the name says which is which"


async def test_an_entity_that_takes_over_under_a_name_starts_with_as_many_chunks(world: World) -> None:
    gateway = await served(world)
    await under_load(world, gateway, 40, big=1.8)
    assert len(world.phases("a", "big")) == 2
    world.update_several("a", (entity("big", 1, 3, model="third"), 70), (entity("small", 1, 2, model="other"), 30))
    await world.step(1)
    third = [replica for replica in world.controller.roster.all() if replica.model.name == "third"]
    assert len(third) == 2


async def test_where_old_and_new_do_not_fit_the_traffic_moves_when_every_new_one_serves(tmp_path: Path) -> None:
    world = World(tmp_path / "data", places=3)
    for model in ("toy", "other", "third"):
        world.model(model)
    gateway = await served(world)
    world.update_several("a", (entity("new", 1, 3, model="third"), 50), (entity("next", 1, 1, model="third"), 50))
    seen = []
    for _ in range(12):
        seen.append((sorted(traffic(world)), len(world.phases("a", "new")), len(world.phases("a", "next"))))
        gateway.ack()
        gateway.report()
        await world.step(1)
        world.fleet.load()
    assert (["big", "small"], 1, 0) in seen, "one place is free, and two are needed"
    assert all(new and following for names, new, following in seen if names == ["new", "next"])
    assert seen[-1] == (["new", "next"], 1, 1)
    assert world.get("a").update == "NOT_UPDATING"


async def test_an_update_in_which_one_entity_fails_changes_nothing_and_says_which(world: World) -> None:
    await served(world)
    running = world.fleet.living()
    world.update_several("a", (entity("big", 1, 3), 20), (entity("new", 1, 1, model="third"), 80))
    for _ in range(60):
        await world.step(1)
        for replica in set(world.fleet.living()) - set(running):
            world.fleet.crash(replica)
    assert world.get("a").update == "UPDATE_FAILED"
    assert world.get("a").update_message.startswith("new: 3 replicas in a row failed")
    assert (traffic(world), world.fleet.living()) == ({"big": 70, "small": 30}, running)
    events = [event for event in world.controller.events.list(limit=1000) if event.kind == "replica_failed"]
    assert all(" of new failed: " in event.message and event.data["entity"] == "new" for event in events)


async def test_requests_wait_no_cold_start_out_where_an_entity_with_traffic_fails(world: World) -> None:
    world.create_several("a", (entity("big", 1, 1), 100), (entity("spare", 1, 1, model="other"), 0))
    await world.step()
    world.fleet.load()
    await world.step(1)

    async def keep_failing(model: str) -> None:
        for _ in range(40):
            doomed = [r.id for r in world.controller.roster.all() if r.model.name == model and r.phase != "draining"]
            world.fleet.crash(*doomed) if doomed else None
            await world.step(1)

    await keep_failing("other")
    assert world.snapshot.endpoints[0].cold_start_deadline_s == 290
    assert {one.name: one.failing for one in world.snapshot.endpoints[0].entities} == {"big": False, "spare": True}
    assert endpoint_info(world.controller, world.get("a")).state == "degraded"
    await keep_failing("toy")
    assert world.snapshot.endpoints[0].cold_start_deadline_s == 30
    assert endpoint_info(world.controller, world.get("a")).state == "failed"


async def test_gateways_know_of_an_endpoint_that_there_is_no_room_for_it_as_long_as_that_is_so(tmp_path: Path) -> None:
    world = World(tmp_path / "data", places=1)
    world.model()
    world.fleet.ready_at_once = True
    gateway = await world.served("full", 1, 1)

    async def shut_out() -> dict[str, bool]:
        for _ in range(5):
            gateway.ack()
            gateway.report()
            await world.step(1)
        return {endpoint.name: endpoint.entities[0].shut_out for endpoint in world.snapshot.endpoints}

    world.create("late", 0, 1)
    assert await shut_out() == {"full": False, "late": True}
    world.controller.endpoints.delete("full")
    assert await shut_out() == {"late": False}
    assert world.phases("late") == ["ready"]


async def test_a_controller_that_restarts_knows_whose_replica_each_is(world: World) -> None:
    await served(world)
    before = world.snapshot.replicas
    world.restart()
    await world.step(1)
    assert world.snapshot.replicas == before
    assert len({replica.entity for replica in before}) == 2
    assert world.fleet.started == 2


@pytest.mark.parametrize(
    ("low", "state"), [((0, 0), "asleep"), ((1, 0), "ready"), ((0, 1), "ready"), ((1, 1), "ready")]
)
async def test_an_endpoint_sleeps_when_all_of_it_does(world: World, low: tuple[int, int], state: str) -> None:
    world.create_several("a", (entity("x", low[0], 1), 50), (entity("y", low[1], 1), 50))
    await world.step()
    world.fleet.load()
    await world.step(1)
    assert endpoint_info(world.controller, world.get("a")).state == state
