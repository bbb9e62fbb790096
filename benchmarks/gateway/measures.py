"""What is measured of a row in one round. The rounds of all rows are interleaved; see ``run``."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from load import Load, Outcome, Shape
from rows import Row

SHORT, LONG = 22, 256
"""Events of a stream."""
KB = 1024


@dataclass
class Started:
    """A row that runs, with its users and what it takes when nobody asks anything."""

    row: Row
    load: Load
    idle: float = 0.0
    """Processor seconds a second."""
    wrong: Counter[str] = field(default_factory=Counter)

    def cpu_s(self) -> float:
        return self.row.child.cpu_s() if self.row.child is not None else 0.0

    async def cost(self, shape: Shape, users: int, requests: int) -> tuple[float, Outcome]:
        """Processor seconds of the proxy for these requests, above what it takes when idle."""
        cpu, began = self.cpu_s(), time.perf_counter()
        outcome = await self.load.run(shape, users=users, requests=requests)
        spent = self.cpu_s() - cpu - self.idle * (time.perf_counter() - began)
        self.wrong.update(outcome.wrong)
        return spent, outcome


Figures = dict[str, float]
"""By name, with the unit in it."""


@dataclass(frozen=True)
class Effort:
    """How much of each measure one round takes."""

    users: int = 8
    requests: int = 1500
    short_streams: int = 64
    long_streams: int = 16


async def request(started: Started, effort: Effort) -> Figures:
    """Processor time of a request that is no stream, from users who each wait for their answer."""
    figures: Figures = {}
    if started.row.child is None:
        return figures
    for prompt_bytes, name in ((KB, "request_us"), (16 * KB, "request_16kb_us")):
        requests = effort.requests if prompt_bytes == KB else effort.requests // 2
        spent, outcome = await started.cost(Shape(prompt_bytes=prompt_bytes), effort.users, requests)
        if outcome.requests:
            figures[name] = spent / outcome.requests * 1e6
    return figures


async def event(started: Started, effort: Effort) -> Figures:
    """Processor time of a streamed event: what 234 more of them add to a stream.

    The upstream sends each as a write of its own; ``events_a_read`` tells whether they also arrived so.
    """
    if started.row.child is None:
        return {}
    short, few = await started.cost(Shape(SHORT), effort.users, effort.short_streams)
    long, many = await started.cost(Shape(LONG), effort.users, effort.long_streams)
    if not few.requests or not many.requests:
        return {}
    stream, longer = short / few.requests, long / many.requests
    return {
        "stream_22_us": stream * 1e6,
        "stream_256_us": longer * 1e6,
        "event_us": (longer - stream) / (LONG - SHORT) * 1e6,
        "events_a_read": many.events / max(1, many.reads),
    }


MEASURES = {"request": request, "event": event}
