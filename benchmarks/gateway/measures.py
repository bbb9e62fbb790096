"""What one round measures of every row. Rounds, and rows in a round, are interleaved: see ``run``."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from load import Load, Outcome, Shape
from rows import Row

SHORT, LONG = 22, 256
"""Events of a stream."""
TURNS = 2
"""Of each row in a round: what disturbs the machine for a second is to meet all of them."""
KB = 1024

Figures = dict[str, float]
"""By name, with the unit at its end."""


@dataclass(frozen=True)
class Effort:
    """How much of each measure one round takes of a row."""

    users: int = 8
    requests: int = 1500
    short_streams: int = 64
    long_streams: int = 16
    alone_turns: int = 8
    alone: int = 40
    """Requests of such a turn, one at a time."""
    alone_streams: int = 3
    """Streams of such a turn, for their first byte."""
    saturation_s: float = 1.0
    saturation_users: int = 64
    stream_users: int = 256


FULL = Effort()
QUICK = Effort(requests=800, short_streams=32, long_streams=12, alone_turns=4, saturation_s=0.4)
SLOW = Effort(
    requests=120,
    short_streams=16,
    long_streams=8,
    users=2,
    alone_turns=2,
    alone=15,
    saturation_users=16,
    stream_users=16,
)
"""For proxies that take milliseconds: two users, or the events of all streams would arrive faster than they can be
passed on, several in one read, which would flatter them."""
WARM_UP = Effort(requests=300, short_streams=16, long_streams=8, alone_turns=1, alone=10, saturation_s=0.3)


@dataclass
class Started:
    """A row that runs, with its users and what it takes when nobody asks anything."""

    row: Row
    load: Load
    effort: Effort
    idle: float = 0.0
    """Processor seconds a second."""
    wrong: Counter[str] = field(default_factory=Counter)

    def cpu_s(self) -> float:
        return self.row.child.cpu_s() if self.row.child is not None else 0.0

    async def run(self, shape: Shape, *, users: int, requests: int = 10**9, seconds: float = 3600.0) -> Outcome:
        outcome = await self.load.run(shape, users=users, requests=requests, seconds=seconds)
        self.wrong.update(outcome.wrong)
        return outcome

    async def cost(self, shape: Shape, requests: int, *, users: int) -> tuple[float, Outcome]:
        """Processor seconds of the proxy for these requests, above what it takes when idle."""
        cpu, began = self.cpu_s(), time.perf_counter()
        outcome = await self.run(shape, users=users, requests=requests)
        return self.cpu_s() - cpu - self.idle * (time.perf_counter() - began), outcome


Measure = Callable[[Sequence[Started]], Awaitable[dict[str, Figures]]]
"""Figures by row."""


@dataclass
class Spent:
    """Over the turns of one round."""

    cpu_s: float = 0.0
    requests: int = 0
    events: int = 0
    reads: int = 0

    @property
    def request_us(self) -> float:
        return self.cpu_s / self.requests * 1e6


async def in_turns(rows: Sequence[Started], shape: Shape, requests: Callable[[Effort], int]) -> dict[str, Spent]:
    """So many requests of every proxy from users who each wait for their answer, a part of them each turn.

    A proxy that answered none is left out.
    """
    proxies = [started for started in rows if started.row.child is not None]
    spent = {started.row.name: Spent() for started in proxies}
    for turn in range(TURNS):
        for started in proxies if turn % 2 else proxies[::-1]:
            effort, one = started.effort, spent[started.row.name]
            cpu_s, outcome = await started.cost(shape, requests(effort) // TURNS, users=effort.users)
            one.cpu_s += cpu_s
            one.requests += outcome.requests
            one.events += outcome.events
            one.reads += outcome.reads
    return {name: one for name, one in spent.items() if one.requests}


async def request(rows: Sequence[Started]) -> dict[str, Figures]:
    """Processor time of a request that is no stream."""
    small = await in_turns(rows, Shape(prompt_bytes=KB), lambda effort: effort.requests)
    large = await in_turns(rows, Shape(prompt_bytes=16 * KB), lambda effort: effort.requests // 2)
    both = small.keys() & large.keys()
    return {name: {"request_us": small[name].request_us, "request_16kb_us": large[name].request_us} for name in both}


async def event(rows: Sequence[Started]) -> dict[str, Figures]:
    """Processor time of a streamed event: what 234 more of them add to a stream.

    The upstream sends each as a write of its own; ``events_a_read`` tells whether they also arrived so.
    """
    short = await in_turns(rows, Shape(SHORT), lambda effort: effort.short_streams)
    long = await in_turns(rows, Shape(LONG), lambda effort: effort.long_streams)
    return {
        name: {
            "stream_22_us": short[name].request_us,
            "stream_256_us": long[name].request_us,
            "event_us": (long[name].request_us - short[name].request_us) / (LONG - SHORT),
            "events_a_read": long[name].events / max(1, long[name].reads),
        }
        for name in short.keys() & long.keys()
    }


async def latency(rows: Sequence[Started]) -> dict[str, Figures]:
    """Latency of requests and first byte of streams, one at a time, the rows in turns; and the processor time then."""
    whole: dict[str, list[float]] = {started.row.name: [] for started in rows}
    first: dict[str, list[float]] = {started.row.name: [] for started in rows}
    spent: dict[str, list[float]] = {started.row.name: [] for started in rows}
    for turn in range(max(started.effort.alone_turns for started in rows)):
        for started in rows if turn % 2 else reversed(rows):
            name = started.row.name
            cpu_s, outcome = await started.cost(Shape(), started.effort.alone, users=1)
            whole[name] += outcome.latencies
            spent[name].append(cpu_s / max(1, outcome.requests))
            outcome = await started.run(Shape(SHORT), users=1, requests=started.effort.alone_streams)
            first[name] += outcome.ttfbs
    figures: dict[str, Figures] = {}
    for started in rows:
        name = started.row.name
        if whole[name] and first[name]:
            figures[name] = {
                "latency_p50_ms": statistics.median(whole[name]) * 1e3,
                "latency_p99_ms": percentile(whole[name], 0.99) * 1e3,
                "first_byte_p50_ms": statistics.median(first[name]) * 1e3,
            }
            if started.row.child is not None:
                figures[name]["request_alone_us"] = statistics.median(spent[name]) * 1e6
    return figures


async def saturation(rows: Sequence[Started]) -> dict[str, Figures]:
    """Requests a second, and streams of 22 events a second, from more users than it can keep up with."""
    figures: dict[str, Figures] = {}
    for started in rows:
        effort = started.effort
        requests = await started.run(Shape(), users=effort.saturation_users, seconds=effort.saturation_s)
        streams = await started.run(Shape(SHORT), users=effort.stream_users, seconds=effort.saturation_s)
        figures[started.row.name] = {
            "requests_per_s": requests.requests_per_s,
            "streams_22_per_s": streams.requests_per_s,
        }
    return figures


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


MEASURES: dict[str, Measure] = {"request": request, "event": event, "latency": latency, "saturation": saturation}
