"""Profiles of engines whose truth is known, on a virtual clock: iteration times drawn at random, hidden from the
profiler.

Compared is the *work* that the weights predict over a set of shapes, not each weight: several sets of weights can say
nearly the same of every request (in prefill, attention and the first pass grow together), and only what a request
weighs counts for anybody.
"""

from __future__ import annotations

import random

import pytest

from headrace.bench.errors import BenchError
from headrace.bench.profiling.effort import FULL, QUICK, full_within
from headrace.bench.profiling.truth import drawn, errors_of
from headrace.bench.profiling.virtual import virtual_profile
from headrace.bench.slo import Criterion, Slo
from headrace.profiles.profile import IterationTime
from headrace.profiles.simulate import true_chunk

WITHIN = 0.03

SLOW = IterationTime(base_s=0.01, prefill_s=0.005, decode_s=0.004, context_s=2e-6, prefill_budget=256)
"""A reference request takes 15 s, as on a core of an ordinary machine."""
BATCHING = IterationTime(base_s=4e-3, prefill_s=1e-5, decode_s=1e-5, context_s=0.0, prefill_budget=2048)
"""Its iterations cost nearly the same whatever is in them, so it gains from every slot."""


@pytest.mark.parametrize("seed", range(20))
def test_chunk_slots_and_work_of_an_engine_with_hidden_parameters_are_found_within_three_percent(seed: int) -> None:
    truth, most_slots = drawn(random.Random(seed))
    measured = virtual_profile(truth, FULL, slots=most_slots, seed=seed)
    errors = errors_of(measured, truth, most_slots)
    assert abs(errors.chunk) < WITHIN
    assert errors.merit < WITHIN
    assert abs(errors.work) < WITHIN, errors.worst
    assert abs(errors.iteration) < WITHIN
    assert measured.profile.chunk <= measured.profile.chunk_low
    assert measured.profile.duration_s <= FULL.limit_s
    assert measured.profile.cached_tokens == "measured"
    assert not measured.disturbed


def test_the_parameters_of_a_batching_engine_are_themselves_recovered() -> None:
    truth = IterationTime(
        base_s=0.004, prefill_s=1e-4, decode_s=2e-4, context_s=1e-7, attention_s=2e-8, prefill_budget=384
    )
    found = virtual_profile(truth, FULL, slots=4).profile.iteration
    assert found is not None
    assert found.prefill_budget == truth.prefill_budget
    for name in ("base_s", "prefill_s", "decode_s", "context_s", "attention_s"):
        assert getattr(found, name) == pytest.approx(getattr(truth, name), rel=WITHIN), name


def test_a_noisy_engine_is_measured_to_its_intervals_and_two_runs_agree() -> None:
    noise = 0.05
    runs = [virtual_profile(SLOW, FULL, slots=1, seed=seed, noise=noise).profile for seed in range(6)]
    truth = true_chunk(SLOW, 1)
    for run in runs:
        assert run.chunk_mean == pytest.approx(truth, rel=WITHIN)
        assert run.intervals is not None and run.intervals.weights is not None
        low, high = run.intervals.weights
        assert low.w_in < run.weights.w_in < high.w_in
    inside = sum(run.chunk_low <= truth <= run.chunk_high for run in runs)
    assert inside >= 4  # 95% each: fewer than four of six is one chance in three hundred and eighty
    low = max(run.chunk_low for run in runs[:2])
    assert low <= min(run.chunk_high for run in runs[:2])


def test_a_quick_profile_of_a_slow_engine_takes_a_minute_and_is_marked() -> None:
    measured = virtual_profile(SLOW, QUICK, slots=1)
    assert measured.profile.status == "quick"
    assert measured.profile.duration_s < 60
    assert abs(errors_of(measured, SLOW, 1).work) < WITHIN
    assert measured.profile.chunk_mean == pytest.approx(true_chunk(SLOW, 1), rel=WITHIN)


def test_a_full_profile_of_a_slow_engine_ends_within_ten_minutes_whatever_its_slots() -> None:
    for slots in (1, 2, 4):
        assert virtual_profile(SLOW, FULL, slots=slots, noise=0.1).profile.duration_s < 600


def test_a_replica_too_slow_for_its_slots_is_given_up_early_with_what_to_do() -> None:
    slower = IterationTime(base_s=1.0, prefill_s=1e-4, decode_s=1e-3, context_s=0.0, prefill_budget=512)
    with pytest.raises(BenchError, match="--minutes"):
        virtual_profile(slower, FULL, slots=2)
    assert virtual_profile(slower, full_within(180), slots=2).profile.duration_s < 180 * 60


def test_what_there_was_no_time_for_is_said() -> None:
    slow = IterationTime(base_s=0.12, prefill_s=1e-5, decode_s=1e-4, context_s=0.0, prefill_budget=512)
    short = virtual_profile(slow, FULL, slots=16).profile.cut_short
    assert short[0].startswith("no time to try")
    assert virtual_profile(slow, full_within(60), slots=4).profile.cut_short == ()
    assert virtual_profile(SLOW, FULL, slots=1).profile.cut_short == ()


def test_the_number_of_slots_is_the_best_of_all_and_not_only_of_the_powers_of_two() -> None:
    truth = IterationTime(base_s=0.004, prefill_s=1e-4, decode_s=2e-4, context_s=1e-7, prefill_budget=512)
    merit = {slots: true_chunk(truth, slots) ** 2 / slots for slots in range(1, 17)}
    best = max(merit, key=lambda slots: merit[slots])
    measured = virtual_profile(truth, FULL, slots=16)
    assert best not in (1, 2, 4, 8, 16)
    assert measured.profile.slots == best
    assert {point.slots for point in measured.profile.operating_points} < set(range(1, 17))


def test_an_engine_that_gains_from_every_slot_gets_all_of_them() -> None:
    assert virtual_profile(BATCHING, FULL, slots=8).profile.slots == 8


def test_an_engine_that_gains_nothing_from_more_requests_keeps_one_slot() -> None:
    assert virtual_profile(SLOW, FULL, slots=4).profile.slots == 1


def test_with_a_latency_target_the_number_of_slots_is_the_largest_that_meets_it() -> None:
    loose = Slo((Criterion(attainment=0.9, tpot_s=10.0),))
    assert virtual_profile(SLOW, FULL, slots=3, slo=loose).profile.slots == 3
    strict = virtual_profile(SLOW, FULL, slots=4, slo=Slo((Criterion(attainment=0.9, tpot_s=0.03),))).profile
    assert {point.slots: point.meets_target for point in strict.operating_points} == {1: True, 2: False}
    assert strict.slots == 1
    fast, slow = (point.tpot_s or 0 for point in strict.operating_points)
    assert fast < 0.03 < slow


def test_a_latency_target_that_nothing_meets_is_said_with_what_was_seen() -> None:
    strict = Slo((Criterion(attainment=0.9, ttft_s=0.001),))
    with pytest.raises(BenchError, match=r"have a TTFT of 10\.\d s and a TPOT of .* met by no number of slots"):
        virtual_profile(SLOW, FULL, slots=1, slo=strict)


def test_an_engine_that_tells_no_cached_tokens_has_their_weight_assumed_and_never_too_small() -> None:
    assumed = virtual_profile(SLOW, QUICK, slots=1, tells_cached=False).profile
    known = virtual_profile(SLOW, QUICK, slots=1).profile
    assert assumed.cached_tokens == "assumed" and "assumed" in assumed.method
    assert assumed.weights.w_c == assumed.weights.w_in > known.weights.w_c
    assert assumed.intervals is not None and assumed.intervals.weights is not None
    for end in assumed.intervals.weights:
        assert end.w_c == end.w_in


def test_the_long_shape_fits_the_context() -> None:
    inputs = [shape.input_tokens for shape in virtual_profile(SLOW, FULL, slots=1, context=2700).profile.shapes]
    assert max(inputs) == 2700 - 192
    shapes = virtual_profile(SLOW, FULL, slots=1, context=2304).profile.shapes
    assert max(shape.input_tokens + shape.output_tokens for shape in shapes) == 2304
