"""The link to the gateways over a real Unix socket, and the sums over what they count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from controller_world import empty_tick

from headrace.controller.gateways import RECONNECT_GRACE_S, Gateways
from headrace.controller.link import Link
from headrace.gateway.snapshot import Ack, EntityTick, Hello, ReplicaTick, Snapshot, Tick


class Harness:
    """A link on a socket, and connections to it."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.gateways = Gateways()
        self.ticks: asyncio.Queue[Tick] = asyncio.Queue()
        self.link = Link(self.gateways, self.ticks.put_nowait)

    async def connect(self, gateway: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(self.socket)
        self.say(writer, Hello(gateway=gateway, pid=1))
        return reader, writer

    @staticmethod
    def say(writer: asyncio.StreamWriter, message: msgspec.Struct) -> None:
        writer.write(msgspec.json.encode(message) + b"\n")

    @staticmethod
    async def hear(reader: asyncio.StreamReader) -> Snapshot:
        return msgspec.json.decode(await asyncio.wait_for(reader.readline(), 10), type=Snapshot)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    harness = Harness(tmp_path / "link.sock")
    await harness.link.start(harness.socket)
    yield harness
    await harness.link.close()


async def test_a_gateway_gets_the_newest_snapshot_at_once_and_every_newer_one(harness: Harness) -> None:
    await harness.link.publish(Snapshot(version=3, restored=False))
    reader, writer = await harness.connect("g1")
    assert (await harness.hear(reader)).version == 3
    await harness.link.publish(Snapshot(version=4, restored=True))
    assert (await harness.hear(reader)).restored
    writer.close()


async def test_a_publication_is_done_when_every_connected_gateway_has_acknowledged(harness: Harness) -> None:
    await harness.link.publish(Snapshot(version=1, restored=True))
    connections = [await harness.connect(name) for name in ("g1", "g2")]
    for reader, _ in connections:
        await harness.hear(reader)
    waiting = asyncio.create_task(harness.link.acknowledged(1, 30))
    harness.say(connections[0][1], Ack(version=1))
    harness.say(connections[0][1], Tick(gateway="g1", at_ms=1, version=1))
    await asyncio.wait_for(harness.ticks.get(), 10)
    assert not waiting.done()
    assert harness.gateways.behind(1, 0.0) == ["g2"]
    harness.say(connections[1][1], Ack(version=1))
    assert await asyncio.wait_for(waiting, 10) is True
    for _, writer in connections:
        writer.close()


async def test_a_gateway_that_does_not_acknowledge_in_time_is_said_to_be_missing(harness: Harness) -> None:
    await harness.link.publish(Snapshot(version=1, restored=True))
    reader, writer = await harness.connect("g1")
    await harness.hear(reader)
    assert await harness.link.acknowledged(1, 0.05) is False
    writer.close()


@pytest.mark.parametrize("line", [b"not json\n", b'{"type": "ack", "version": 1}\n', b'{"type": "nonsense"}\n'])
async def test_a_gateway_that_breaks_the_format_is_cut_off_and_the_others_are_not(
    harness: Harness, line: bytes
) -> None:
    await harness.link.publish(Snapshot(version=1, restored=True))
    good, writer = await harness.connect("g1")
    await harness.hear(good)
    bad, broken = await asyncio.open_unix_connection(harness.socket)
    broken.write(line)
    assert await asyncio.wait_for(bad.read(), 10) == b""
    await harness.link.publish(Snapshot(version=2, restored=True))
    assert (await harness.hear(good)).version == 2
    for one in (writer, broken):
        one.close()


def tick(gateway: str, *entities: EntityTick, version: int = 1, replicas: tuple[ReplicaTick, ...] = ()) -> Tick:
    return Tick(gateway=gateway, at_ms=1, version=version, entities=entities, replicas=replicas)


def counted(work: float, arrivals: int = 1) -> EntityTick:
    return msgspec.structs.replace(empty_tick("e", "n"), offered_work=work, arrivals=arrivals)


def connected(*names: str) -> Gateways:
    gateways = Gateways()
    for name in names:
        gateways.hello(Hello(gateway=name, pid=1))
    return gateways


def test_counters_of_all_gateways_add_up_and_a_restarted_gateway_counts_from_zero() -> None:
    gateways = connected("g1", "g2")
    gateways.tick("g1", tick("g1"), 0.0)
    gateways.tick("g2", tick("g2"), 0.0)
    gateways.tick("g1", tick("g1", counted(100.0, 1)), 1.0)
    gateways.tick("g2", tick("g2", counted(50.0, 1)), 1.0)
    gateways.gone("g2", 2.0)
    gateways.hello(Hello(gateway="g3", pid=2))
    gateways.tick("g3", tick("g3"), 2.5)
    gateways.tick("g3", tick("g3", counted(5.0, 1)), 3.0)
    assert (gateways.totals("e").offered_work, gateways.totals("e").arrivals) == (155.0, 3)


def test_what_a_gateway_counted_before_this_controller_knew_it_is_history() -> None:
    gateways = connected("g1")
    gateways.tick("g1", tick("g1", counted(1e9, 10_000)), 0.0)
    gateways.tick("g1", tick("g1", counted(1e9 + 7, 10_001)), 1.0)
    assert (gateways.totals("e").offered_work, gateways.totals("e").arrivals) == (7.0, 1)


def test_a_replica_is_idle_when_every_gateway_has_said_so_by_a_snapshot_that_drains_it() -> None:
    gateways = connected("g1", "g2")
    busy = (ReplicaTick("r", 1, 10.0, 1, 0),)
    gateways.tick("g1", tick("g1", version=5), 0.0)
    gateways.tick("g2", tick("g2", version=4), 0.0)
    assert not gateways.idle("r", 5, 0.0), "g2 may still send to it"
    gateways.tick("g2", tick("g2", version=5, replicas=busy), 1.0)
    assert not gateways.idle("r", 5, 1.0)
    gateways.tick("g2", tick("g2", version=5), 2.0)
    assert gateways.idle("r", 5, 2.0)


def test_a_gateway_that_was_just_cut_off_may_still_serve() -> None:
    gateways = connected("g1")
    gateways.ack("g1", Ack(version=1))
    gateways.gone("g1", 100.0)
    assert not gateways.acknowledged(2, 100.0 + RECONNECT_GRACE_S / 2)
    assert not gateways.idle("r", 1, 100.0 + RECONNECT_GRACE_S / 2)
    assert gateways.acknowledged(2, 100.0 + RECONNECT_GRACE_S)
    assert gateways.idle("r", 1, 100.0 + RECONNECT_GRACE_S)


async def test_a_gateway_that_died_holds_nothing_up_for_longer_than_its_grace() -> None:
    now, gateways = 100.0, connected("g1")
    gateways.gone("g1", now)

    def clock() -> float:
        nonlocal now
        now += 0.5
        return now

    link = Link(gateways, lambda tick: None, clock=clock)
    assert await asyncio.wait_for(link.acknowledged(1, 60), 10) is True
    assert now < 100.0 + 2 * RECONNECT_GRACE_S
