"""What several served entities cost: each by its own minimum and price, and no chunk-millisecond twice or lost."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import msgspec
import pytest
from controller_world import CHUNK, ToyGateway, World, entity

from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.lifecycle import COMING, Phase
from headrace.ledger.bills import EndpointBill, bill

SECOND = 1_000


async def world_of(folder: Path, places: int) -> World:
    world = World(folder / "data", places=places)
    for model in ("toy", "other", "third"):
        world.model(model)
    return world


async def served(world: World) -> ToyGateway:
    """Endpoint ``a`` with big (2 chunks) and small (1 to 2), just ready."""
    world.create_several("a", (entity("big", 2, 2), 70), (entity("small", 1, 2, model="other"), 30))
    await world.step()
    world.fleet.load()
    await world.step()
    gateway = ToyGateway(world)
    gateway.ack()
    gateway.report()
    return gateway


async def restarted(world: World) -> ToyGateway:
    world.restart()
    await world.step()
    gateway = ToyGateway(world)
    gateway.ack()
    return gateway


async def sell_at(world: World, micro: int) -> ToyGateway:
    """From the next config on."""
    world.config = msgspec.structs.replace(world.config, price_micro=micro)
    return await restarted(world)


def billed(world: World, from_ms: int) -> EndpointBill:
    return bill(world.controller.timeline, world.get("a").id, from_ms, world.clock.ms, world.clock.ms)


def chunk_ms(world: World, from_ms: int) -> dict[str, int]:
    """By name of the entity in its last config."""
    names = world.controller.store.entity_names()
    return {names[one.entity].entity: one.chunk_ms for one in billed(world, from_ms).entities}


async def test_the_gap_of_one_entity_is_not_billed_and_the_others_are(tmp_path: Path) -> None:
    world = await world_of(tmp_path, 4)
    await served(world)
    start = world.clock.ms
    (small,) = [replica.id for replica in world.controller.roster.all() if replica.model.name == "other"]
    await world.step(10)
    world.fleet.crash(small)
    await world.step(5)
    world.fleet.load()
    await world.step(20)
    assert chunk_ms(world, start) == {"big": 35 * 2 * SECOND, "small": (10 + 20) * SECOND}


async def test_a_minimum_that_is_short_of_a_chunk_is_billed_while_its_entity_serves(tmp_path: Path) -> None:
    world = await world_of(tmp_path, 4)
    await served(world)
    start = world.clock.ms
    big = [replica.id for replica in world.controller.roster.all() if replica.model.name == "toy"]
    world.fleet.crash(big[0])
    await world.step(5)
    world.fleet.crash(big[1])
    await world.step(5)
    assert chunk_ms(world, start) == {"big": 5 * 2 * SECOND, "small": 10 * SECOND}


async def test_an_entity_that_is_replaced_is_billed_to_its_end_and_the_next_one_from_there(tmp_path: Path) -> None:
    world = await world_of(tmp_path, 6)
    await served(world)
    start = world.clock.ms
    await sell_at(world, 1_000_000)
    await world.step(10)
    world.update_several("a", (entity("big", 2, 2), 20), (entity("new", 1, 1, model="third"), 80))
    await world.step(4)
    world.fleet.load()
    await world.step(6)
    await world.step(10)
    assert chunk_ms(world, start) == {"big": 30 * 2 * SECOND, "small": 20 * SECOND, "new": 10 * SECOND}
    lines = {one.entity: one.lines for one in billed(world, start).entities}[world.entity("a", "big").id]
    assert [(line.config_version, line.price_micro_per_chunk_hour, line.chunk_ms) for line in lines] == [
        (1, 3_600_000, 20 * 2 * SECOND),
        (2, 1_000_000, 10 * 2 * SECOND),
    ]


async def test_what_drains_of_a_removed_entity_after_a_scale_down_is_billed_at_its_own_price(tmp_path: Path) -> None:
    world = await world_of(tmp_path, 6)
    gateway = await served(world)
    small = world.entity("a", "small")
    for _ in range(30):
        gateway.offer(world.get("a"), small, work=1.8 * CHUNK)
        gateway.report()
        await world.step(1)
        world.fleet.load()
    assert len(world.phases("a", "small")) == 2
    while "draining" not in world.phases("a", "small"):
        gateway.on_replica = dict.fromkeys(world.fleet.living(), 1)
        gateway.ack()
        gateway.report()
        await world.step(1)
    gateway = await sell_at(world, 1_000_000)
    gateway.on_replica = dict.fromkeys(world.fleet.living(), 1)
    gateway.report()
    start = world.clock.ms
    world.update_several("a", (entity("big", 2, 2), 100))
    await world.step(0)
    await world.step(10)
    (line,) = next(one for one in billed(world, start).entities if one.entity == small.id).lines
    assert (line.chunk_ms, line.price_micro_per_chunk_hour) == (10 * SECOND, 3_600_000)
    assert [(span.draining_own, span.min_chunks) for span in line.spans] == [(1, 0)]
    gateway.on_replica = {}
    gateway.ack()
    gateway.report()
    await world.step(1)
    await world.step(30)
    assert billed(world, start).chunk_ms - chunk_ms(world, start)["big"] in (11 * SECOND, 12 * SECOND)


async def test_a_deleted_endpoint_costs_nothing_in_any_of_its_entities(tmp_path: Path) -> None:
    world = await world_of(tmp_path, 4)
    await served(world)
    endpoint, start = world.get("a"), world.clock.ms
    world.controller.endpoints.delete("a")
    await world.step(10)
    world.restart()
    await world.step(10)
    assert bill(world.controller.timeline, endpoint.id, start, world.clock.ms, world.clock.ms).chunk_ms == 0


class Due:
    """What the law of billing asks for, counted from what runs and not from what the ledger has."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        """Ids of entities of whose minimum an update has taken something, which is not back."""

    def now(self, world: World) -> int:
        """Chunks at this moment."""
        endpoint = world.get("a")
        if endpoint.active is None:
            return 0
        seen, total = world.fleet.seen, 0
        known = world.controller.roster.of(endpoint.id)
        sold = {one.id: one for one in endpoint.active.entities}
        for entity_id in {replica.entity_id for replica in known} | sold.keys():
            own = [replica for replica in known if replica.entity_id == entity_id]
            kept = [r for r in own if r.phase in COMING | {Phase.READY} and seen[r.id].state == "ready"]
            leaving = [r for r in own if (r.phase, r.drain_cause) == (Phase.DRAINING, "scale_down") and r.ready_ms]
            provided = sum(seen[replica.id].state == "ready" for replica in leaving)
            if entity_id in sold:
                provided += min(len(kept), sold[entity_id].max_chunks)
                self._look(endpoint, sold[entity_id], len(kept))
                if kept and entity_id not in self.taken:
                    provided = max(provided, sold[entity_id].min_chunks)
            total += provided
        return total

    def _look(self, endpoint: Endpoint, entity: Entity, ready: int) -> None:
        """A minimum that is short is billed, but not where an update has to do with it."""
        left = sum(one.min_chunks for one in endpoint.target.entities if one.runs_as == entity.runs_as)
        keeps = endpoint.pending is not None and left >= entity.min_chunks
        if (
            ready >= entity.min_chunks
            or endpoint.update == "NOT_UPDATING"
            or (endpoint.update == "IN_PROGRESS" and keeps)
        ):
            self.taken.discard(entity.id)
        elif endpoint.update == "IN_PROGRESS" or not ready:
            self.taken.add(entity.id)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_the_bill_is_what_was_provided(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    world = await world_of(tmp_path, 7)
    gateway = await served(world)
    start, due, law = world.clock.ms, 0, Due()
    configs = (
        ((entity("big", 2, 3), 70), (entity("small", 1, 2, model="other"), 30)),
        ((entity("big", 1, 3), 10), (entity("small", 0, 2, model="other"), 90)),
        ((entity("big", 1, 2, model="third"), 50), (entity("small", 1, 2, model="other"), 50)),
        ((entity("small", 2, 3), 100),),
        ((entity("big", 1, 1), 40), (entity("new", 2, 3, model="third"), 60)),
        ((entity("x", 1, 1), 0), (entity("y", 1, 2), 100), (entity("z", 0, 1, model="third"), 0)),
    )
    updates = 0
    for _ in range(400):
        match draw.randrange(12):
            case 0 if (living := world.fleet.living()) and draw.random() < 0.5:
                world.fleet.crash(draw.choice(living))
            case 1 | 2 | 3 | 4:
                world.fleet.load()
            case 5 if world.get("a").update != "IN_PROGRESS":
                world.update_several("a", *draw.choice(configs))
                updates += 1
                await world.step()
            case 6 | 7 | 8:
                for one in world.get("a").current.entities:
                    gateway.offer(world.get("a"), one, work=draw.choice((0, 0, 4, 9)) * CHUNK)
            case 9:
                gateway.on_replica = {name: draw.randrange(2) for name in world.fleet.living()}
            case 10 if draw.random() < 0.2:
                gateway = await restarted(world)
        gateway.ack()
        gateway.report()
        seconds = draw.choice((1, 1, 1, 7))
        due += law.now(world) * seconds * SECOND
        await world.step(seconds)
    assert updates > 5
    whole = billed(world, start)
    assert whole.chunk_ms == due
    for one in whole.entities:
        spans = [span for line in one.lines for span in line.spans]
        assert all(before.to_ms <= after.from_ms for before, after in itertools.pairwise(spans))
