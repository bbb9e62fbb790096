"""Two runs side by side: is B better than A, worse, or is no difference seen?

Requests that follow one another share the state of the server, so what is drawn anew in the bootstrap is blocks of
them (Kunsch 1989; Lahiri 2003, non-overlapping blocks) and never single requests. Runs of the same seed and
specification sent the same requests at the same times: their blocks are drawn together, and what both have in common
(a long prompt, a burst) cancels out of the difference. On queues that are alike, a difference is claimed in about 7% of
unpaired and in fewer of paired comparisons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from headrace.bench import slo as objectives
from headrace.bench.client.records import Records
from headrace.bench.errors import BenchError
from headrace.bench.results import percentiles, rates, timings
from headrace.bench.results.inputs import Differing, differing
from headrace.bench.results.span import inside
from headrace.bench.results.summary import Summary
from headrace.bench.workload.spec import ClosedLoop, Dataset, LoadSpec

CONFIDENCE = 0.95
RESAMPLES = 4000
FEWEST_BLOCKS = 20
MOST_BLOCKS = 100
BINS = 4096
POWER = 0.8
"""Of the minimum detectable effect: a true difference of this size is seen four times in five."""

Floats = NDArray[np.float64]
Verdict = Literal["better", "worse", "no difference seen"]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Of one figure, B less A, in the figure's unit."""

    name: str
    unit: str
    a: float
    b: float
    difference: float
    low: float
    """Of the interval that decides. All intervals of a comparison hold together with 95%: each is widened for the
    number of figures (Bonferroni), so that two equal runs differ in any of them in 5% of comparisons only."""
    high: float
    detectable: float
    """Minimum detectable effect: a smaller difference would probably not have been seen."""
    verdict: Verdict
    """Of B: whether the interval holds 0."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    paired: bool
    requests: tuple[int, int]
    """Compared, of A and B."""
    blocks: int
    valid: bool
    """Both runs are."""
    differences: tuple[Difference, ...]
    differs: tuple[Differing, ...]
    """In what was asked for, and where it went: what a difference may be due to."""
    words: str

    @property
    def verdict(self) -> Verdict:
        """Worse if any figure is; better if any is and none is worse."""
        found = {difference.verdict for difference in self.differences}
        return "worse" if "worse" in found else "better" if "better" in found else "no difference seen"


@dataclass(frozen=True, slots=True)
class _Run:
    """What is compared of a run: the measured requests due in its headline's span, in the order they were due."""

    summary: Summary
    records: Records
    rows: NDArray[np.int64]

    def column(self, values: Floats) -> Floats:
        return np.asarray(values[self.rows], np.float64)


@dataclass(frozen=True, slots=True)
class _Figure:
    name: str
    unit: str
    a: float
    b: float
    drawn: Floats
    """B less A in each resample."""
    higher_is_better: bool
    resolution: float = 0.0
    """What a resample cannot show: where all requests are good in both runs, none of it differs."""


def compare(a: tuple[Summary, Records], b: tuple[Summary, Records], *, seed: int = 0) -> Comparison:
    """Raises BenchError where a run is too short to compare."""
    left, right = _run(*a), _run(*b)
    paired = pairable(left.summary.spec, right.summary.spec)
    if paired:
        left, right = _common(left, right)
    blocks = min(_blocks(left), _blocks(right))
    generator = np.random.default_rng(seed)
    draws_a = _draws(generator, blocks)
    draws_b = draws_a if paired else _draws(generator, blocks)
    figures = [
        *_latencies(left, right, draws_a, draws_b, blocks),
        # Of two open loops with other arrivals, tokens/s would only tell how much each was sent.
        *(_throughput(left, right, draws_a, draws_b, blocks) if _same_load(left, right) else ()),
        *_attainments(left, right, draws_a, draws_b, blocks),
    ]
    side = (1 - CONFIDENCE) / 2 / max(1, len(figures))
    how = (
        "paired by request number (same seed and specification)"
        if paired
        else "unpaired (seed or specification differ): a difference may be one of the requests"
    )
    return Comparison(
        paired=paired,
        requests=(len(left.rows), len(right.rows)),
        blocks=blocks,
        valid=left.summary.valid and right.summary.valid,
        differences=tuple(_judged(figure, side) for figure in figures),
        differs=differing(a[0], b[0]),
        words=f"{how}; intervals that hold together with 95%, by a bootstrap of {blocks} blocks",
    )


def _same_load(a: _Run, b: _Run) -> bool:
    one, other = a.summary.spec.arrivals, b.summary.spec.arrivals
    return one == other or isinstance(one, ClosedLoop) or isinstance(other, ClosedLoop)


def pairable(a: LoadSpec, b: LoadSpec) -> bool:
    """Whether request i of both is the same request at the same time. The model's name, the path, what defeats a cache,
    how prose was fitted to the model's tokens and how much was sent may differ."""
    return _schedule(a) == _schedule(b)


def _schedule(spec: LoadSpec) -> LoadSpec:
    source, content = spec.source, msgspec.structs.replace(spec.content, salt=0, path=None, prose=None)
    if isinstance(source, Dataset):
        source = msgspec.structs.replace(source, format=None)  # said or recognised, it is the file's
    return msgspec.structs.replace(spec, model="", source=source, content=content, amount=type(spec.amount)())


def _run(summary: Summary, records: Records) -> _Run:
    due = records.requests["scheduled_s"]
    rows = np.flatnonzero(records.requests["measured"] & inside(summary.headline.spans, due))
    return _Run(summary, records, rows[np.argsort(due[rows], kind="stable")])


def _common(a: _Run, b: _Run) -> tuple[_Run, _Run]:
    """The requests that both runs sent, in one order."""
    numbers_a, numbers_b = (run.records.requests["number"][run.rows] for run in (a, b))
    _, of_a, of_b = np.intersect1d(numbers_a, numbers_b, return_indices=True)
    order = np.argsort(of_a)
    return _Run(a.summary, a.records, a.rows[of_a[order]]), _Run(b.summary, b.records, b.rows[of_b[order]])


def _blocks(run: _Run) -> int:
    """As many blocks as leave each longer than what is in flight at once, twice over.

    Raises BenchError where those are too few to draw from.
    """
    count = len(run.rows)
    if count < 2 * FEWEST_BLOCKS:
        raise BenchError(f"{count} requests in common are too few to compare; measure {2 * FEWEST_BLOCKS} at least")
    length = max(count ** (1 / 3), 2 * run.summary.headline.in_flight)
    return int(np.clip(count / length, FEWEST_BLOCKS, MOST_BLOCKS))


def _draws(generator: np.random.Generator, blocks: int) -> NDArray[np.float64]:
    """How often each block is in each resample."""
    return generator.multinomial(blocks, np.full(blocks, 1 / blocks), RESAMPLES).astype(np.float64)


def _places(count: int, blocks: int) -> NDArray[np.int64]:
    """Block of each of so many requests in a row."""
    return np.arange(count) * blocks // count


def _latencies(a: _Run, b: _Run, draws_a: Floats, draws_b: Floats, blocks: int) -> list[_Figure]:
    figures = []
    for name, of in (
        ("TTFT", timings.ttft_scheduled_s),
        ("TPOT", timings.tpot_s),
        ("E2E", timings.e2e_scheduled_s),
    ):
        values_a, values_b = (run.column(np.where(timings.ok(run.records), of(run.records), np.nan)) for run in (a, b))
        seen_a, seen_b = values_a[~np.isnan(values_a)], values_b[~np.isnan(values_b)]
        for level in (0.5, 0.99):
            # Where a percentile has no interval, its difference has none either.
            if percentiles.interval_ranks(min(len(seen_a), len(seen_b)), level) == (None, None):
                continue
            grid = _grid(np.concatenate((seen_a, seen_b)))
            drawn = _quantiles(values_b, grid, draws_b, level, blocks) - _quantiles(
                values_a, grid, draws_a, level, blocks
            )
            points = [float(np.sort(v)[percentiles.rank(len(v), level) - 1]) for v in (seen_a, seen_b)]
            figures.append(_Figure(f"{name} p{level * 100:g}", "s", points[0], points[1], drawn, False))
    return figures


def _grid(values: Floats) -> Floats:
    """Values on which quantiles are looked up: all, or many with half of them in the tail."""
    distinct = np.unique(values)
    if len(distinct) <= BINS:
        return distinct
    levels = np.concatenate((np.linspace(0, 0.98, BINS // 2, endpoint=False), np.linspace(0.98, 1, BINS // 2)))
    return np.unique(np.quantile(values, levels, method="inverted_cdf"))


def _quantiles(values: Floats, grid: Floats, draws: Floats, level: float, blocks: int) -> Floats:
    """The quantile in each resample: the least value of the grid that ``level`` of what was drawn does not exceed, by
    bisection in all resamples at once."""
    seen = ~np.isnan(values)
    places = _places(len(values), blocks)[seen]
    bins = np.searchsorted(grid, values[seen])
    counts = np.bincount(bins * blocks + places, minlength=blocks * len(grid)).reshape(len(grid), blocks)
    reached = np.cumsum(counts, axis=0, dtype=np.float64)  # by value, then block
    wanted = level * (draws @ reached[-1]) - 1e-9
    low, high = np.zeros(len(draws), np.int64), np.full(len(draws), len(grid) - 1)
    for _ in range(len(grid).bit_length()):
        middle = (low + high) // 2
        enough = np.einsum("rb,rb->r", draws, reached[middle]) >= wanted
        low, high = np.where(enough, low, np.minimum(middle + 1, high)), np.where(enough, middle, high)
    return np.asarray(grid[high])


def _throughput(a: _Run, b: _Run, draws_a: Floats, draws_b: Floats, blocks: int) -> list[_Figure]:
    """Tokens/s in equal parts of what was looked at of each run."""
    figures = []
    for name, rate in (("input tokens/s", rates.input_rate), ("output tokens/s", rates.output_rate)):
        parts = [_in_parts(rate, run, blocks) for run in (a, b)]
        drawn = draws_b @ parts[1] / blocks - draws_a @ parts[0] / blocks
        figures.append(_Figure(name, "tokens/s", float(parts[0].mean()), float(parts[1].mean()), drawn, True))
    return figures


def _in_parts(rate: Callable[[Records, Floats], Floats], run: _Run, blocks: int) -> Floats:
    """The rate in so many parts: each segment of an interrupted run has as many as it is long, and one that is shorter
    than half a part has none."""
    spans = run.summary.headline.spans
    ends = np.cumsum([span.seconds for span in spans])
    counts = np.diff(np.rint(blocks * ends / ends[-1]).astype(int), prepend=0)
    return np.concatenate(
        [
            rate(run.records, np.linspace(span.start_s, span.end_s, count + 1))
            for span, count in zip(spans, counts.tolist(), strict=True)
            if count
        ]
    )


def _attainments(a: _Run, b: _Run, draws_a: Floats, draws_b: Floats, blocks: int) -> list[_Figure]:
    """By A's objective, on both."""
    objective = a.summary.slo or b.summary.slo
    figures = []
    for criterion in objective.criteria if objective else ():
        shares, drawn = [], []
        for run, draws in ((a, draws_a), (b, draws_b)):
            judged = objectives.judged(run.records, criterion)[run.rows]
            good = objectives.good(run.records, criterion)[run.rows] & judged
            places = _places(len(run.rows), blocks)
            hits, counts = (np.bincount(places, weights=w.astype(np.float64), minlength=blocks) for w in (good, judged))
            shares.append(float(hits.sum() / max(1.0, counts.sum())))
            drawn.append(draws @ hits / np.maximum(draws @ counts, 1.0))
        name = f"attained: {objectives.describe(criterion)}"
        # Rule of three: of n alike, up to 3 / n may be otherwise (at 95%).
        resolution = 3 / min(len(a.rows), len(b.rows))
        figures.append(_Figure(name, "", shares[0], shares[1], drawn[1] - drawn[0], True, resolution))
    return figures


def _judged(figure: _Figure, side: float) -> Difference:
    """``side``: of the interval, the probability beyond each end."""
    low, high = np.quantile(figure.drawn, [side, 1 - side]).tolist()
    if low == high:
        low, high = low - figure.resolution, high + figure.resolution
    verdict: Verdict = "no difference seen"
    if low > 0 or high < 0:
        verdict = "better" if (low > 0) == figure.higher_is_better else "worse"
    return Difference(
        name=figure.name,
        unit=figure.unit,
        a=figure.a,
        b=figure.b,
        difference=figure.b - figure.a,
        low=low,
        high=high,
        detectable=max(figure.resolution, float((ndtri(1 - side) + ndtri(POWER)) * np.std(figure.drawn))),
        verdict=verdict,
    )
