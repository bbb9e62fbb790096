"""Memory with streams open, whether any of them stalls, memory after many requests, and the time to start.

Each row alone, in front of an upstream that sends every stream one event a second.
"""

from __future__ import annotations

import asyncio
import resource
import time

from load import Load, Shape
from measures import Figures
from rows import Place, Row, start

INTERVAL_MS = 1000.0
LEVELS = (10, 1000, 5000)
EVENTS = 100_000
"""Of a stream: more than anybody waits for."""
SETTLE_S = 20.0
"""For the streams of a level to be opened, and again for them to have begun."""
SETTLE_POLL_S = 0.2
WATCH_S = 6.0
"""For the longest gap between the events of any stream, with all of them open; they are due each second."""
WARM_REQUESTS, MANY_REQUESTS = 2000, 10_000
MANY_S = 20.0
"""For a proxy that would take longer: the figure tells how many it did."""
MANY_USERS = 8
FILES_BESIDE = 300


def most_streams() -> int:
    """What the limit on open files leaves, which is raised as far as it goes: a proxy has two a stream."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return LEVELS[-1] if hard == resource.RLIM_INFINITY else (hard - FILES_BESIDE) // 2


async def memory(row: Row, place: Place) -> Figures:
    """Start it, open streams level by level, and stop it. Raises Failed where it does not start."""
    began = time.perf_counter()
    await start(row, place)
    assert row.child is not None, f"{row.name} has no process"
    load = Load(row.target)
    try:
        await load.run(Shape(), users=1, requests=1)
        figures: Figures = {"start_s": time.perf_counter() - began}
        figures["rss_idle_mb"] = row.child.rss_mb()
        await load.run(Shape(), users=MANY_USERS, requests=WARM_REQUESTS, seconds=MANY_S)
        before = row.child.rss_mb()
        many = await load.run(Shape(), users=MANY_USERS, requests=MANY_REQUESTS, seconds=MANY_S)
        figures |= {"requests_in_a_row": many.requests, "grown_by_them_mb": row.child.rss_mb() - before}
        load.close()
        held = streaming = 0
        for level in LEVELS:
            await load.hold(min(level, most_streams()) - held, EVENTS, within_s=SETTLE_S)
            held = min(level, most_streams())
            streaming = await settled(load, held)
            await asyncio.sleep(1.0)
            figures |= {f"streams_open_{level}": streaming, f"rss_{level}_mb": row.child.rss_mb()}
            if streaming < held:
                break  # more would tell nothing
        if streaming:
            figures["longest_gap_s"] = await load.longest_gap_s(WATCH_S)
    finally:
        load.close()
        await row.stop()
    return figures


async def settled(load: Load, streams: int) -> int:
    """Streams that have brought an event, when so many have or time is up."""
    for _ in range(int(SETTLE_S / SETTLE_POLL_S)):
        if load.streaming >= streams:
            break
        await asyncio.sleep(SETTLE_POLL_S)
    return load.streaming
