"""From a measured capacity to the range to buy, as far as the endpoint and its users are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.cli.output import console, print_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headrace.bench.capacity.answer import Answer
    from headrace.bench.capacity.demand import Demand
    from headrace.bench.capacity.recommend import Recommendation
    from headrace.bench.slo import Slo
    from headrace.bench.target import Target

SHORTEST_WINDOW_S = 10.0
"""Bursts shorter than this, or than the longest wait that the SLO allows, are waited out."""


@dataclass(frozen=True, slots=True)
class Users:
    """What is known of who will send."""

    rate: float | None
    """Requests/s on average; None: a trace's own, where there is one."""
    cv: float | None
    """Coefficient of variation of the gaps; None: 1, or a trace's own."""
    trace_s: NDArray[np.float64] | None
    """Arrival times of a trace."""

    def demand(self, slo: Slo) -> Demand | None:
        """None where nobody has said how much will come. Raises ValueError where a trace is too short to tell."""
        from headrace.bench.capacity import demand  # noqa: PLC0415

        limits = [limit for one in slo.criteria for limit in (one.ttft_s, one.e2e_s) if limit is not None]
        window_s = max([SHORTEST_WINDOW_S, *limits])
        if self.trace_s is not None and self.cv is None:
            times = self.trace_s
            if self.rate is not None and len(times) > 1 and times[-1] > times[0]:
                times = times * (len(times) - 1) / (times[-1] - times[0]) / self.rate
            return demand.of_trace(times, window_s)
        return None if self.rate is None else demand.of_gamma(self.rate, self.cv or 1.0, window_s)


def recommended(answer: Answer, slo: Slo, target: Target, users: Users) -> Recommendation | str:
    """The range; or why there is none, and what to do."""
    from headrace.bench.capacity.recommend import recommend  # noqa: PLC0415

    terms = target.terms
    if target.kind == "openai":
        return "the server sells no ranges"
    chunks = terms.chunks_ready or terms.max_chunks
    if terms.chunk is None or not chunks:
        return f"{target.url} tells no chunk of {target.model!r} to this key, so no range can be made of it"
    try:
        demand = users.demand(slo)
        if demand is None:
            return (
                "say how much will come, with --demand (requests/s on average) or --trace, and a range is recommended"
            )
        return recommend(answer, demand, chunk=terms.chunk, chunks=chunks, reference=target.kind == "headrace")
    except ValueError as error:
        return f"no range can be recommended: {error}"


def print_range(found: Recommendation | str, target: Target, *, confirmed: bool) -> None:
    out = console()
    if isinstance(found, str):
        out.print(f"Range: {found}", markup=False, highlight=False)
        return
    unit = "reference tokens/s" if target.kind == "headrace" else "tokens/s (input + output)"
    low, high = found.range
    doubt = "" if confirmed else " (not confirmed within the budget)"
    out.print(
        f"Range to buy{doubt}: {found.min_chunks} to {found.max_chunks} chunks = {low:,.0f} to {high:,.0f} {unit}",
        style="bold",
        markup=False,
    )
    out.print(found.reason, markup=False, highlight=False)
    if target.kind == "headrace":
        words = f"--min-chunks {found.min_chunks} --max-chunks {found.max_chunks}"
        out.print(f"  headrace endpoints update {target.model} {words}", markup=False, highlight=False)
    columns = ["holds within the SLO, per second", ">minimum", ">maximum"]
    ends = found.min_tokens, found.max_tokens
    rows = [
        ["requests", *(f"{chunks * found.rate_per_chunk:.3f}" for chunks in (found.min_chunks, found.max_chunks))],
        ["input tokens", *(f"{end.input:,.1f}" for end in ends)],
        ["output tokens", *(f"{end.output:,.1f}" for end in ends)],
        ["input + output tokens", *(f"{end.both:,.1f}" for end in ends)],
    ]
    if all(end.reference is not None for end in ends):
        rows.append(["reference tokens (work)", *(f"{end.reference:,.1f}" for end in ends)])
    print_table(columns, rows)
    out.print(f"The maximum is {found.headroom:.0%} above the mean demand.", markup=False, highlight=False)
    if found.used is not None:
        out.print(
            f"Within the SLO a chunk is filled to {found.used:.0%}; at 100% it is at its operating point.",
            markup=False,
            highlight=False,
        )
    for words in found.assumptions:
        out.print(f"assumed: {words}", style="dim", markup=False)
