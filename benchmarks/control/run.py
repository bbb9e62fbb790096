"""What a look of the controller costs with 500 endpoints, and how soon what is ready is routed to.

The controller, its store (SQLite on this machine's disk) and its snapshots are the real ones; replicas are those of its
tests, which are records, and so are the reports of gateways (``standin``). A real gateway process takes the snapshots
in the last part.
"""

from __future__ import annotations

import asyncio
import contextlib
import cProfile
import gc
import json
import os
import platform
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

sys.path.append(str(Path(__file__).parents[2] / "tests"))
sys.path.append(str(Path(__file__).parents[2] / "tests" / "controller"))
from controller_world import CHUNK, ToyFleet, entity, profile_of
from standin import StandInGateway, WallClock

from headrace.controller.asked import AskedConfig
from headrace.controller.config import ControllerConfig
from headrace.controller.controller import Controller
from headrace.controller.endpoint import Options
from headrace.controller.gateways import RECONNECT_GRACE_S
from headrace.gateway.config import GatewayConfig
from headrace.models.registry import Registry
from headrace.paths import DataDir
from headrace.profiles.files import path_of, save

QUICK = bool(os.environ.get("QUICK"))
ENDPOINTS = 100 if QUICK else 500
REPLICAS = 2
"""Of each endpoint."""
LOOKS = 30 if QUICK else 100
MANY = 64
"""Replicas of the one endpoint that has so many."""
PLACES = 10_000
TARGET_MS = 100.0


@dataclass(frozen=True)
class Row:
    """One thing that was done again and again: wall-clock milliseconds, and those of this process on a core."""

    what: str
    times: int
    median_ms: float
    p99_ms: float
    worst_ms: float
    cpu_ms: float
    """Median."""
    worst_cpu_ms: float


Took = tuple[float, float]
"""Milliseconds by the clock, and of this process on a core."""


def row(what: str, took: list[Took]) -> Row:
    wall, cpu = sorted(one for one, _ in took), sorted(one for _, one in took)
    p99 = wall[round(0.99 * (len(wall) - 1))]
    return Row(what, len(wall), statistics.median(wall), p99, wall[-1], statistics.median(cpu), cpu[-1])


async def timed(work: Callable[[], Awaitable[object] | None]) -> Took:
    began, began_cpu = time.perf_counter(), time.process_time()
    done = work()
    if done is not None:
        await done
    return 1000 * (time.perf_counter() - began), 1000 * (time.process_time() - began_cpu)


def data_dir(folder: Path) -> DataDir:
    """With a simulated model, and a profile of which only the chunk matters."""
    data = DataDir(folder)
    data.create()
    model = Registry(data.models).add("sim", simulated=True, slots=4, engine_args={"null": True})
    save(path_of(model, data.profiles), profile_of(model, CHUNK))
    return data


def create(controller: Controller, name: str, low: int, high: int) -> None:
    asked = AskedConfig(entities=(entity(None, low, high, model="sim"),))
    controller.endpoints.create(name, asked, creator="benchmark", options=Options())


async def looks(controller: Controller, gateway: StandInGateway, fleet: ToyFleet) -> list[Row]:
    """Looks while everything is as it should be and a load comes in, and looks of which each finds a dead replica."""
    reports, steady, points, eventful = [], [], [], []
    for _ in range(LOOKS):
        tick = gateway.tick(rate=CHUNK / 2)
        reports.append(await timed(lambda tick=tick: gateway.report(tick)))
        steady.append(await timed(controller.reconciler.step))
        points.append(await timed(controller._add_points))
    for number in range(LOOKS):
        gateway.report(gateway.tick(rate=CHUNK / 2))
        fleet.crash(controller.roster.all()[number * 7 % len(controller.roster.all())].id)
        fleet.load()
        eventful.append(await timed(controller.reconciler.step))
    return [
        row("a report of a gateway on all of them", reports),
        row("a look that finds nothing new", steady),
        row("a look that finds a dead replica and one that has become ready", eventful),
        row("a point of every series", points),
    ]


async def many_become_ready(controller: Controller, gateway: StandInGateway, fleet: ToyFleet) -> Row:
    """``MANY`` replicas of one endpoint are ready at the same moment: one look later gateways are told of all."""
    seconds = []
    for number in range(5):
        create(controller, f"many-{number}", MANY, MANY)
        await controller.reconciler.step()
        fleet.load()
        endpoint = controller.endpoints.get(f"many-{number}")
        seconds.append(await timed(controller.reconciler.step))
        assert controller.link.snapshot is not None
        routed = {view.id for view in controller.link.snapshot.replicas if not view.draining}
        assert all(replica.id in routed for replica in controller.roster.of(endpoint.id))
        assert len(controller.roster.of(endpoint.id)) == MANY
        gateway.report(gateway.tick(rate=0.0))
    return row(f"{MANY} replicas that become ready at once, from the look to the snapshot", seconds)


@contextlib.asynccontextmanager
async def gateway_process(data: DataDir) -> AsyncIterator[None]:
    """A real one, linked to the controller of this process."""
    config = GatewayConfig(
        gateway_id="bench",
        controller_socket=str(data.socket("controller")),
        link_socket=str(data.socket("link")),
        journal_dir=str(data.journal),
        port=0,
        log_level="WARNING",
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "headrace.gateway.main",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(config))
    process.stdin.close()
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def published(controller: Controller) -> Row:
    """From the end of a look that changed something to a real gateway's word that it decides by that."""
    seconds, gateways = [], controller.gateways
    await controller.link.start(controller.data.socket("link"))
    async with gateway_process(controller.data):
        until = time.monotonic() + 30
        while "bench" not in gateways.connected():
            if time.monotonic() > until:
                raise RuntimeError("the gateway did not connect in 30 s")
            await asyncio.sleep(0.05)
        gateways.gone("stand-in", controller.clock.now() - RECONNECT_GRACE_S)
        for number in range(LOOKS // 10):
            create(controller, f"new-{number}", 1, 1)
            await controller.reconciler.step()
            snapshot = controller.link.snapshot
            assert snapshot is not None
            seconds.append(await timed(lambda version=snapshot.version: controller.link.acknowledged(version, 10.0)))
            assert gateways.acknowledged(snapshot.version, controller.clock.now())
    return row("a changed snapshot, from its publication to a real gateway's acknowledgement", seconds)


async def measure(folder: Path, profile: cProfile.Profile | None) -> list[Row]:
    fleet = ToyFleet(WallClock(), PLACES)
    controller = Controller(ControllerConfig(data_dir=str(folder), price_micro=3_600_000), fleet)
    try:
        print(f"making {ENDPOINTS} endpoints of {REPLICAS} replicas ...", file=sys.stderr)
        for number in range(ENDPOINTS):
            create(controller, f"e-{number}", REPLICAS, 2 * REPLICAS)
        await controller.reconciler.step()
        fleet.load()
        await controller.reconciler.step()
        gateway = StandInGateway(controller)
        gateway.report(gateway.tick(rate=0.0))
        assert len(controller.roster.all()) == ENDPOINTS * REPLICAS
        gc.freeze()  # as the controller's process does
        if profile is not None:
            profile.enable()
        rows = await looks(controller, gateway, fleet)
        if profile is not None:
            profile.disable()
        rows.append(await many_become_ready(controller, gateway, fleet))
        rows.append(await published(controller))
        return rows
    finally:
        await controller.close()


def main() -> None:
    """``--profile``: also where the time of the looks goes, by the functions that take it themselves."""
    profile = cProfile.Profile() if "--profile" in sys.argv[1:] else None
    with tempfile.TemporaryDirectory(prefix="hr-control-") as folder:
        rows = asyncio.run(measure(data_dir(Path(folder)).root, profile))
    if profile is not None:
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(30)
    print(f"{ENDPOINTS} endpoints, {ENDPOINTS * REPLICAS} replicas; ms by the clock, and of this process on a core")
    print(f"{'':80} {'times':>6} {'median':>8} {'p99':>8} {'worst':>8} {'on a core':>10} {'worst':>8}")
    for one in rows:
        wall, cpu = (one.median_ms, one.p99_ms, one.worst_ms), f"{one.cpu_ms:10.1f} {one.worst_cpu_ms:8.1f}"
        print(f"{one.what:80} {one.times:6} " + " ".join(f"{ms:8.1f}" for ms in wall) + f" {cpu}")
    ticks = [one for one in rows if "look" in one.what]
    met = all(one.worst_ms < TARGET_MS for one in ticks)
    print(f"every look under {TARGET_MS:.0f} ms: {'yes' if met else 'NO'}")
    results = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.processor() or platform.machine(),
        "quick": QUICK,
        "endpoints": ENDPOINTS,
        "replicas": ENDPOINTS * REPLICAS,
        "rows": [asdict(one) for one in rows],
        "met": met,
    }
    Path(__file__).with_name("results.json").write_text(json.dumps(results, indent=2) + "\n")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
