"""What a profile goes by: undisturbed blocks, how well they are known, and which number of slots they speak for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from math import sqrt
from random import Random
from statistics import fmean

import pytest

from headrace.bench.errors import BenchError
from headrace.bench.profiling.asking import Asked
from headrace.bench.profiling.clock import Clock
from headrace.bench.profiling.course import Runner, run_course
from headrace.bench.profiling.disturbance import LEAST_S, CoreWatch, Look
from headrace.bench.profiling.effort import QUICK
from headrace.bench.profiling.evidence import DRAWS, FEWEST_SAMPLES, TOGETHER, Blocks, middle, over_time
from headrace.bench.profiling.plan import sized
from headrace.bench.profiling.prompts import VOCABULARY, Prompts
from headrace.bench.profiling.shapes import REFERENCE, Case, Shape
from headrace.bench.profiling.slots import Scan
from headrace.bench.profiling.station import Measure, Turn
from headrace.bench.profiling.virtual import LoopClock, NoisyCore, VirtualLoop, VirtualReplica
from headrace.bench.slo import Criterion, Slo
from headrace.profiles.chunk import interval
from headrace.profiles.profile import IterationTime, OperatingPoint

ONE, TWO = Case(REFERENCE, 1), Case(Shape(128, 64), 1)
TRUTH = IterationTime(base_s=0.01, prefill_s=0.005, decode_s=0.004, context_s=2e-6, prefill_budget=256)


def turn(case: Case, seconds: float, *, disturbed: bool = False, at_s: float = 0.0) -> Turn:
    end_s = at_s + seconds
    asked = Asked(at_s, end_s, first_s=at_s + seconds / 2, last_s=end_s, output_tokens=case.shape.output_tokens)
    return Turn(0, sized(case, seconds), seconds, (asked,), disturbed=disturbed)


def test_a_disturbed_block_counts_for_nothing_where_the_case_has_another() -> None:
    blocks = Blocks([turn(ONE, 10.0), turn(ONE, 99.0, disturbed=True), turn(TWO, 5.0, disturbed=True)])
    assert (blocks.mean_s(ONE), blocks.mean_s(TWO)) == (10.0, 5.0)
    assert (blocks.quiet(ONE), blocks.quiet(TWO)) == (1, 0)


def test_the_noise_is_pooled_over_cases_and_shrinks_with_the_blocks() -> None:
    blocks = Blocks([turn(ONE, 9.0), turn(ONE, 11.0), turn(TWO, 0.9), turn(TWO, 1.1)])
    assert blocks.freedom == 2
    assert blocks.noise == pytest.approx(sqrt(0.04 / 2))
    assert blocks.error(ONE) == pytest.approx(4.303 * sqrt(0.02) / sqrt(2))


def blocks_on_a_machine_that_drifts(random: Random) -> list[Turn]:
    """16 reference blocks on each of two replicas; the machine's pace wanders, and each block has its own noise."""
    pace, turns = random.gauss(0, 0.02), []
    for number in range(16):
        pace = 0.6 * pace + random.gauss(0, 0.016)
        turns += [turn(ONE, 10 * (1 + pace + random.gauss(0, 0.005)), at_s=10.0 * number) for _ in range(2)]
    return turns


def test_an_interval_holds_on_a_machine_whose_pace_wanders() -> None:
    random = Random(1)
    drawn = [blocks_on_a_machine_that_drifts(random) for _ in range(400)]

    def holds(samples: list[float]) -> bool:
        known = interval(samples)
        return known.low <= 10.0 <= known.high

    together = sum(holds(over_time(turns)) for turns in drawn)
    alone = sum(holds([turn.seconds for turn in turns]) for turns in drawn)
    assert together >= 0.85 * len(drawn)
    assert alone <= 0.70 * len(drawn), "blocks taken as independent promise too much here"


def test_samples_over_time_hold_every_block_once_in_the_order_of_time() -> None:
    turns = [turn(ONE, float(second), at_s=float(second)) for second in range(1, 4 * TOGETHER * FEWEST_SAMPLES)]
    samples = over_time(turns[::-1])
    assert samples == sorted(samples) and len(samples) == len(turns) // TOGETHER
    assert fmean(samples) == pytest.approx(fmean(turn.seconds for turn in turns), rel=0.02)
    few = turns[: TOGETHER * FEWEST_SAMPLES - 1]
    assert over_time(few[::-1]) == [turn.seconds for turn in few]


def test_of_single_blocks_no_noise_is_known() -> None:
    blocks = Blocks([turn(ONE, 9.0), turn(TWO, 1.0)])
    assert blocks.noise is None and blocks.error(ONE) is None
    with pytest.raises(ValueError, match="no case was measured twice"):
        blocks.draws([ONE], seed=0)


def test_draws_spread_as_the_means_may_be_off() -> None:
    blocks = Blocks([turn(ONE, 10.0 + offset) for offset in (-0.2, -0.1, 0.0, 0.1, 0.2)])
    draws = blocks.draws([ONE], seed=0)
    assert draws.shape == (DRAWS, 1)
    low, high = middle(draws)
    error = blocks.error(ONE)
    assert error is not None
    assert (1 - low[0], high[0] - 1) == (pytest.approx(error, rel=0.3), pytest.approx(error, rel=0.3))


def point(slots: int, merit: float, *, meets: bool | None = None) -> OperatingPoint:
    """``merit`` with a latency of one second."""
    return OperatingPoint(slots, merit, 1.0, ttft_s=2.0, tpot_s=0.05, meets_target=meets)


def scanned(scan: Scan, merits: dict[int, float], fine: int | None = None) -> list[int]:
    """The numbers that a scan asks for."""
    asked: list[int] = []
    while (number := scan.next()) is not None:
        asked.append(number)
        scan.told(point(number, merits[number], meets=None if fine is None else number <= fine))
    return asked


@pytest.mark.parametrize("best", range(1, 33))
def test_the_best_number_of_slots_is_found_wherever_the_peak_is(best: int) -> None:
    scan = Scan(32)
    asked = scanned(scan, {number: 100 - abs(number - best) for number in range(1, 33)})
    assert scan.best == best
    assert len(asked) <= 14 and len(set(asked)) == len(asked)


@pytest.mark.parametrize("fine", range(1, 17))
def test_the_largest_number_that_meets_a_target_is_found(fine: int) -> None:
    scan = Scan(16, Slo((Criterion(attainment=0.9, ttft_s=1.0),)))
    scanned(scan, dict.fromkeys(range(1, 17), 1.0), fine)
    assert scan.best == fine
    assert scan.as_good(0.1) == (fine, fine)


def test_a_target_that_is_not_met_by_one_request_in_flight_is_an_error() -> None:
    scan = Scan(4, Slo((Criterion(attainment=0.9, ttft_s=1.0),)))
    scanned(scan, {1: 1.0, 2: 1.0}, fine=0)
    with pytest.raises(BenchError, match=r"TTFT of 2 s and a TPOT of 50\.0 ms"):
        assert scan.best


def test_numbers_that_cannot_be_told_from_the_best_are_named() -> None:
    scan = Scan(4)
    scanned(scan, {1: 10.0, 2: 10.1, 3: 9.9, 4: 5.0})
    assert scan.best == 2
    assert scan.as_good(0.0) == (2, 2)
    assert scan.as_good(0.01) == (1, 3)


class Busy(CoreWatch):
    """Others use the cores at the times that are told."""

    def __init__(self, clock: Clock, until_s: float) -> None:
        super().__init__([])
        self._clock = clock
        self._until_s = until_s

    def look(self) -> Look:
        return Look(self._clock.now(), 0.0, 0.0)

    def others(self, since: Look) -> float | None:
        return None if self._clock.now() - since.at_s < LEAST_S else 0.4 if since.at_s < self._until_s else 0.01


def course_beside(until_s: float) -> list[Turn]:
    """A quick course beside somebody who uses the cores until then."""

    async def run() -> list[Turn]:
        clock = LoopClock()
        measures: list[Measure] = [
            VirtualReplica(NoisyCore(TRUTH, 1, lambda: 1.0), clock, Prompts()).measure for _ in range(2)
        ]
        runner = Runner(measures, clock, QUICK, watch=Busy(clock, until_s))
        return list((await run_course(runner, slots=1, context=4096)).turns)

    with asyncio.Runner(loop_factory=VirtualLoop) as loop:
        return loop.run(run())


def test_what_others_disturb_is_measured_again_until_it_is_quiet() -> None:
    quiet, disturbed = course_beside(0.0), course_beside(30.0)
    assert not any(turn.disturbed for turn in quiet)
    assert any(turn.disturbed for turn in disturbed) and len(disturbed) > len(quiet)
    blocks = Blocks(disturbed)
    assert all(blocks.quiet(case) >= (3 if case.shape == REFERENCE else 1) for case in blocks.cases)


def test_a_neighbour_that_stays_is_waited_for_no_longer_than_is_said() -> None:
    turns = course_beside(1e9)
    assert all(turn.disturbed for turn in turns)
    assert sum(turn.block.measured * turn.seconds for turn in turns if turn.station == 0) < QUICK.again_s


def test_prompts_share_what_they_are_asked_to_and_nothing_else() -> None:
    prompts, shape = Prompts(seed=3), Shape(576, 32, cached_tokens=512)
    first, second = prompts.tokens(shape, 1), prompts.tokens(shape, 2)
    assert len(first) == 576
    assert first[:512] == second[:512] and first[512] != second[512]
    plain = [Prompts(seed=3).tokens(Shape(64, 1), number) for number in range(200)]
    assert len({tokens[0] for tokens in plain}) == 200
    assert Prompts(seed=3).tokens(shape, 2) == second
    everything = (Prompts(seed=3).tokens(Shape(8, 1), number)[0] for number in range(len(VOCABULARY) + 1))
    assert first[0] not in set(everything)


def test_numbers_of_requests_are_never_used_twice() -> None:
    async def run() -> list[int]:
        clock = LoopClock()
        replica = VirtualReplica(NoisyCore(TRUTH, 1, lambda: 1.0), clock, Prompts())
        seen: list[int] = []

        async def measure(shape: Shape, number: int) -> Asked:
            seen.append(number)
            return await replica.measure(shape, number)

        numbers: Iterator[int] = count()
        runner = Runner([measure], clock, replace(QUICK, budget_s=10.0), numbers=numbers)
        await run_course(runner, slots=1, context=4096)
        return seen

    with asyncio.Runner(loop_factory=VirtualLoop) as loop:
        seen = loop.run(run())
    assert len(set(seen)) == len(seen)
