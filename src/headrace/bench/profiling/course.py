"""The course of a measurement, given something that answers requests: on real replicas or on a virtual clock.

First the number of slots, with reference requests; then all cases in interleaved blocks; then reference requests on all
replicas at the same time, for the chunk; then, until the limit, what others disturbed too often.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from headrace.bench.errors import BenchError
from headrace.bench.profiling.clock import Clock
from headrace.bench.profiling.disturbance import CoreWatch
from headrace.bench.profiling.effort import Effort
from headrace.bench.profiling.evidence import Blocks
from headrace.bench.profiling.plan import OVERLAPPING_TURNS, Plan, sized
from headrace.bench.profiling.shapes import REFERENCE, Case, Menu, Shape, full_menu, quick_menu
from headrace.bench.profiling.slots import Scan, operating_point
from headrace.bench.profiling.station import Measure, Station, Turn, check, run_stations
from headrace.bench.slo import Slo
from headrace.profiles.profile import OperatingPoint

FEWEST_REFERENCE_SAMPLES = 3
"""In the shortest measurement: with two, Student's t widens the interval of the chunk fourfold."""

SCAN_SHARE = 0.4
"""Part of the time that may go into finding the number of slots."""

SHAPES_SHARE = 0.55
"""Part of the time after that which goes to shapes; the rest is the chunk's."""

PROBE = Shape(288, 2, cached_tokens=256)
"""Sent twice, to see whether the engine keeps prompts and tells. Engines keep blocks of 16 tokens or more."""


@dataclass(frozen=True, slots=True)
class Course:
    """All that was measured."""

    slots: int
    """k."""
    slots_as_good: tuple[int, int] | None
    menu: Menu
    turns: tuple[Turn, ...]
    """Of the menu's cases, and of the reference at k."""
    operating_points: tuple[OperatingPoint, ...]
    cut_short: tuple[str, ...]
    """What there was no time for, in words."""


@dataclass(slots=True)
class Runner:
    """Replicas, and what it takes to put load on them."""

    measures: Sequence[Measure]
    """One a replica."""
    clock: Clock
    effort: Effort
    seed: int = 0
    watch: CoreWatch | None = None
    between: Callable[[str], None] = lambda _: None
    """Told what begins."""
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def left_s(self) -> float:
        """Until the budget is used up."""
        return self.effort.budget_s - self.clock.now()

    async def run(self, words: str, plan: Plan, *, needed: bool = True) -> list[Turn]:
        """Put all replicas through the plan; what is not ``needed``, as far as there is time. Raises BenchError."""
        self.between(words)
        stations = [
            Station(index, measure, plan, self.clock, self.numbers, self.watch)
            for index, measure in enumerate(self.measures)
        ]
        await run_stations(stations, limit_s=max(1.0, self.effort.limit_s - self.clock.now()), needed=needed)
        return [turn for station in stations for turn in station.turns]

    async def caches(self) -> bool:
        """Whether the engine keeps the head of a prompt, and tells."""
        for _ in range(2):
            asked = await self.measures[0](PROBE, next(self.numbers))
            check(PROBE, asked)
        return (asked.cached_tokens or 0) >= PROBE.cached_tokens // 2


async def run_course(runner: Runner, *, slots: int, context: int, slo: Slo | None = None) -> Course:
    """Measure. ``slots``: the most to try, or k itself where the effort is quick. Raises BenchError."""
    effort = runner.effort
    runner.between("a look at the cache")
    caches = await runner.caches()
    scan: Scan | None = None
    if not effort.quick and (slots > 1 or slo is not None):
        scan = await _scan(runner, slots, slo)
        slots = scan.best
    menu, length = _sized_menu(runner, slots=slots, context=context, caches=caches, scan=scan)
    turns = await _shapes(runner, menu, slots, length)
    turns += await _reference(runner, slots, length, turns)
    turns += await _again(runner, turns)
    points = () if scan is None else tuple(scan.points[number] for number in sorted(scan.points))
    error = max((_half(point) for point in points), default=0.0)
    cut_short = []
    if scan is not None and scan.next() is not None:
        cut_short.append(f"no time to try {scan.next()} in flight")
    if not effort.quick and len(menu.fitted) == len(quick_menu(slots=slots, caches=caches).fitted):
        cut_short.append("no time for more than a quick profile's shapes")
    return Course(slots, None if scan is None else scan.as_good(error), menu, tuple(turns), points, tuple(cut_short))


async def _scan(runner: Runner, most: int, slo: Slo | None) -> Scan:
    """Reference requests with few in flight, then more, as long as there is time."""
    scan = Scan(most, slo)
    spent_until_s = runner.clock.now() + SCAN_SHARE * runner.left_s
    rounds = math.ceil(2 / len(runner.measures))
    while (number := scan.next()) is not None:
        case = Case(REFERENCE, number)
        if scan.points:
            nearest = scan.points[max((tried for tried in scan.points if tried < number), default=min(scan.points))]
            expected_s = nearest.latency_s / nearest.slots
            if runner.clock.now() + rounds * sized(case, expected_s, 1).completions * expected_s > spent_until_s:
                break
        plan = Plan([case], seed=runner.seed, until_s=0, fewest_rounds=rounds, most_rounds=rounds, turns=1)
        scan.told(operating_point(number, await runner.run(f"{number} in flight", plan), slo))
    return scan


def _sized_menu(runner: Runner, *, slots: int, context: int, caches: bool, scan: Scan | None) -> tuple[Menu, int]:
    """The cases, and the turns of a block in which requests overlap: as much as there is time for in one round of all
    cases and another of the reference. One turn says nearly what three do, but for what its ends are off.

    Raises BenchError where there is no time at all.
    """
    quick = quick_menu(slots=slots, caches=caches)
    full = full_menu(slots=slots, context=context, caches=caches)
    if scan is None:
        return (quick, 1) if runner.effort.quick else (full, OVERLAPPING_TURNS)
    to_limit_s = runner.effort.limit_s - runner.clock.now()
    sizes = [*((full, turns, runner.left_s) for turns in range(OVERLAPPING_TURNS, 0, -1)), (quick, 1, to_limit_s)]
    for menu, turns, left_s in sizes:
        cases = (*menu.cases(slots), Case(REFERENCE, slots))
        round_s = sum(_cost_s(case, scan.points[1], scan.points[slots], turns) for case in cases)
        if round_s <= left_s:
            return menu, turns
    raise BenchError(
        f"one round of the fewest shapes with {slots} in flight takes about {round_s / 60:.0f} minutes here, and "
        f"{to_limit_s / 60:.1f} are left: give it more --minutes, or register the model with fewer slots"
    )


def _cost_s(case: Case, alone: OperatingPoint, shared: OperatingPoint, turns: int) -> float:
    """Seconds of a block, about. ``alone``, ``shared``: reference requests with one in flight and with as many as at
    the operating point; sharing iterations helps decode first, and either part is in proportion to its tokens.
    """
    point = alone if case.in_flight == 1 else shared
    reference_s = point.latency_s / point.slots
    prefill_s = min(alone.ttft_s or 0.0, 0.8 * reference_s)
    expected_s = prefill_s * case.shape.new_tokens / REFERENCE.input_tokens
    expected_s += (reference_s - prefill_s) * case.shape.output_tokens / REFERENCE.output_tokens
    return sized(case, math.inf, turns).completions * expected_s


async def _shapes(runner: Runner, menu: Menu, slots: int, length: int) -> list[Turn]:
    until_s = runner.clock.now() + SHAPES_SHARE * runner.left_s
    return await runner.run("shapes", Plan(menu.cases(slots), seed=runner.seed, until_s=until_s, turns=length))


async def _reference(runner: Runner, slots: int, length: int, turns: Sequence[Turn]) -> list[Turn]:
    case = Case(REFERENCE, slots)
    missing = FEWEST_REFERENCE_SAMPLES - sum(turn.case == case for turn in turns)
    rounds = max(1, math.ceil(missing / len(runner.measures)))
    plan = Plan([case], seed=runner.seed, until_s=runner.effort.budget_s, fewest_rounds=rounds, turns=length)
    for turn in turns:
        if turn.case == case:
            plan.expects(case, turn.seconds)
    # The shapes held the reference too: two samples have an interval, and more make it narrow.
    return await runner.run("reference requests", plan, needed=missing > FEWEST_REFERENCE_SAMPLES - 2)


async def _again(runner: Runner, turns: Sequence[Turn]) -> list[Turn]:
    """What was disturbed each time it was measured, while there is time."""
    again: list[Turn] = []
    while True:
        blocks = Blocks([*turns, *again])
        left_s = runner.effort.again_s - runner.clock.now()
        wanted = []
        lacking = [case for case in blocks.cases if blocks.quiet(case) < fewest_quiet(case)]
        for case in sorted(lacking, key=lambda case: case.shape != REFERENCE):
            seconds = blocks.mean_s(case)
            cost_s = sized(case, seconds).completions * seconds
            # Others may make it slower still, and a block that is cut off by the limit is none.
            if 2 * cost_s < left_s:
                left_s -= 2 * cost_s
                wanted.append(case)
        if not wanted:
            return again
        again += await runner.run(
            "again what others disturbed", Plan(wanted, seed=runner.seed, until_s=0, most_rounds=1), needed=False
        )


def fewest_quiet(case: Case) -> int:
    """Undisturbed blocks without which a measurement is not valid."""
    return FEWEST_REFERENCE_SAMPLES if case.shape == REFERENCE else 1


def _half(point: OperatingPoint) -> float:
    low_high = point.tokens_per_s_range
    return 0.0 if low_high is None else (low_high[1] - low_high[0]) / 2 / point.tokens_per_s
