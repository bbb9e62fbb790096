"""Which range do I need? From what an endpoint was measured to hold, and from what will come in."""

from __future__ import annotations

import math

import msgspec

from headrace.bench.capacity.answer import Answer, TokenRates
from headrace.bench.capacity.demand import Demand


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """A range in whole chunks, and why."""

    chunk: float
    """Tokens/s: of the reference workload for Headrace, input + output as provisioned elsewhere."""
    min_chunks: int
    max_chunks: int
    rate_per_chunk: float
    """Requests/s that a chunk holds within the SLO."""
    min_tokens: TokenRates
    max_tokens: TokenRates
    """What the ends of the range hold within the SLO, in the tokens of the requests measured."""
    headroom: float
    """By how much the maximum holds more than the mean demand: 0.5 for half as much again."""
    used: float | None
    """Tokens/s that a chunk holds within the SLO over its size, in the unit of the chunk: below 1, the SLO does not let
    a chunk be filled."""
    reason: str
    assumptions: tuple[str, ...]

    @property
    def range(self) -> tuple[float, float]:
        """``[min_provisioned_throughput, max_provisioned_throughput]``, tokens/s."""
        return self.min_chunks * self.chunk, self.max_chunks * self.chunk


def recommend(
    answer: Answer, demand: Demand, *, chunk: float, chunks: float, reference: bool, baseline: float | None = None
) -> Recommendation:
    """``chunks``: ready on the endpoint while it was measured; its capacity is shared among them, so that what it holds
    now is its measured capacity, and what it should have is a range. ``reference``: the chunk is in reference tokens
    (Headrace), else in input + output tokens (Databricks). ``baseline``: requests/s that must be served at once at any
    time, in place of the typical demand.

    Raises ValueError when the answer holds no rate to go by.
    """
    if not (chunk > 0 and chunks > 0):
        raise ValueError("a range needs a positive chunk, and the chunks that were ready during the measurement")
    held = _held(answer)
    each = held / chunks
    lowest = demand.typical if baseline is None else baseline
    max_chunks = max(math.ceil(max(demand.peak, lowest) / each - 1e-9), 1)
    min_chunks = min(max(math.ceil(lowest / each - 1e-9), 1), max_chunks)
    tokens = answer.tokens(each)
    filled = tokens.reference if reference else tokens.both
    return Recommendation(
        chunk=chunk,
        min_chunks=min_chunks,
        max_chunks=max_chunks,
        rate_per_chunk=each,
        min_tokens=answer.tokens(min_chunks * each),
        max_tokens=answer.tokens(max_chunks * each),
        headroom=max_chunks * each / demand.mean - 1,
        used=None if filled is None else filled / chunk,
        reason=(
            f"{chunks:g} chunks hold at least {held:.4g} requests/s within the SLO (95%), so one holds {each:.4g}. "
            f"{'The typical' if baseline is None else 'The baseline'} demand of {lowest:.4g} requests/s needs "
            f"{min_chunks} at all times. {_burst(demand)}, which needs {max_chunks}."
        ),
        assumptions=_assumptions(answer, chunks, min_chunks),
    )


def _held(answer: Answer) -> float:
    """What holds with 95% confidence: the lower end of the interval, or what was confirmed where that is more (a wide
    interval) or all there is (the server's capacity was not reached)."""
    held = max(answer.interval[0] if answer.interval is not None else 0.0, answer.confirmed or 0.0)
    if not held > 0:
        raise ValueError(f"there is no rate to make a range of: {answer.reason}")
    return held


def _burst(demand: Demand) -> str:
    if demand.peak <= demand.mean * 1.001:
        return (
            f"Arrivals burst no more than at random, which the measurement had in it: the peak is {demand.peak:.4g} "
            "requests/s"
        )
    return (
        f"Counts in windows of {demand.window_s:g} s vary {demand.dispersion:.3g} times as much as random arrivals: "
        f"99% of the time the rate stays below {demand.peak:.4g} requests/s"
    )


def _assumptions(answer: Answer, chunks: float, min_chunks: int) -> tuple[str, ...]:
    said = [
        "requests are of the lengths measured: longer ones weigh more",
        "chunks add up: capacity grows in proportion (larger endpoints do a little better, since they share bursts)",
        "between minimum and maximum a chunk takes its start-up time to come: what must be served at once belongs in "
        "the minimum",
    ]
    if min_chunks < chunks:
        said.append(
            f"fewer chunks than the {chunks:g} that were measured share bursts less well: measure again at {min_chunks}"
        )
    if answer.verdict != "PASS":
        said.append("no rate was confirmed within the budget: the lower end of the interval was taken")
    if answer.cliff:
        said.append("attainment falls off a cliff above the capacity: one chunk more is cheap insurance")
    return tuple(said)
