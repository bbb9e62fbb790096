"""How long answers took: histograms of one served entity, counted when a request has ended."""

from __future__ import annotations

from bisect import bisect_left

from headrace.gateway.snapshot import (
    DURATION_BOUNDS_S,
    TPOT_BOUNDS_S,
    TTFT_BOUNDS_S,
    HistogramTick,
    LatencyTick,
)


class Histogram:
    """Counts of values by fixed bounds; see ``HistogramTick``."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def count(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def tick(self) -> HistogramTick:
        return HistogramTick(tuple(self.counts), self.sum)


class Latency:
    """Of the answers of one shape by one served entity that were complete; seconds. Failed ones would show how fast an
    engine fails."""

    __slots__ = ("e2e", "queue", "service", "tpot", "ttft")

    def __init__(self) -> None:
        self.e2e = Histogram(DURATION_BOUNDS_S)
        """From the request's arrival to the end of its answer."""
        self.queue = Histogram(DURATION_BOUNDS_S)
        """From its arrival until it went to a replica."""
        self.service = Histogram(DURATION_BOUNDS_S)
        """The rest of it: at the replica."""
        self.ttft = Histogram(TTFT_BOUNDS_S)
        """From its arrival to the first byte of content, its wait included; of streamed answers only, as without a
        stream no client sees a first token."""
        self.tpot = Histogram(TPOT_BOUNDS_S)
        """From that byte to the end, by output tokens after the first; of streamed answers of two tokens or more."""

    def answered(self, e2e_s: float, queue_s: float) -> None:
        """A request has been answered in full."""
        self.e2e.count(e2e_s)
        self.queue.count(queue_s)
        self.service.count(e2e_s - queue_s)

    def streamed(self, ttft_s: float, e2e_s: float, output_tokens: int) -> None:
        """And its answer was streamed."""
        self.ttft.count(ttft_s)
        if output_tokens > 1:
            self.tpot.count((e2e_s - ttft_s) / (output_tokens - 1))

    def tick(self, operation: str) -> LatencyTick:
        return LatencyTick(
            operation, self.e2e.tick(), self.queue.tick(), self.service.tick(), self.ttft.tick(), self.tpot.tick()
        )
