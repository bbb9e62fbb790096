"""Profiles of simulated engines, whose truth is known: iteration times drawn at random, hidden from the profiler.

Compared is the *work* that the weights predict over a set of shapes, not each weight: several sets of weights can say
nearly the same of every request (in prefill, attention and the first pass grow together), and only what a request
weighs counts for anybody.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from headrace.bench.outcome import FULL, Effort, Measured
from headrace.bench.profiler import measure_profile, slot_candidates
from headrace.bench.shapes import FULL_MENU, REFERENCE, Shape
from headrace.engines.base import ModelSettings
from headrace.profiles.profile import IterationTime
from headrace.profiles.simulate import replica_seconds, true_chunk

WITHIN = 0.03

OTHER_SHAPES = (Shape(1536, 192), Shape(300, 300), Shape(900, 40), Shape(200, 100))
"""Neither fitted nor held out."""

SHORT = replace(FULL, budget_s=12.0, limit_s=90.0)


def hidden(seed: int, slots: int) -> IterationTime:
    """Random proportions of an engine, so fast that a reference request takes 0.8 s of the replica.

    That is much longer than the milliseconds that HTTP and timers add, which are none of the engine's.
    """
    draw = random.Random(seed)
    shape = IterationTime(
        base_s=draw.uniform(0.5, 4.0),
        prefill_s=draw.uniform(0.1, 0.8),
        decode_s=draw.uniform(0.1, 1.0),
        context_s=draw.uniform(0.0, 0.001),
        prefill_budget=draw.choice([256, 512]),
    )
    factor = 0.8 / replica_seconds(shape, in_flight=slots, new=REFERENCE.input_tokens, out=REFERENCE.output_tokens)
    return IterationTime(
        base_s=shape.base_s * factor,
        prefill_s=shape.prefill_s * factor,
        decode_s=shape.decode_s * factor,
        context_s=shape.context_s * factor,
        prefill_budget=shape.prefill_budget,
    )


def model(truth: IterationTime, slots: int) -> ModelSettings:
    timing = {
        "base_s": truth.base_s,
        "prefill_s": truth.prefill_s,
        "decode_s": truth.decode_s,
        "context_s": truth.context_s,
        "prefill_budget": truth.prefill_budget,
    }
    return ModelSettings(name="hidden", engine="simulated", slots=slots, engine_args={"iteration": timing})


async def profile(settings: ModelSettings, effort: Effort, replicas: int) -> Measured:
    """Measured again where the profiler itself says that something else was busy, as its users are told to do."""
    for _ in range(3):
        measured = await measure_profile(settings, effort, replicas=replicas)
        if not measured.disturbed:
            break
    return measured


def true_work(truth: IterationTime, shape: Shape, slots: int) -> float:
    """Replica seconds in units of the reference request's."""
    seconds = replica_seconds(truth, in_flight=slots, new=shape.input_tokens, out=shape.output_tokens)
    reference = replica_seconds(truth, in_flight=slots, new=REFERENCE.input_tokens, out=REFERENCE.output_tokens)
    return REFERENCE.tokens * seconds / reference


@pytest.mark.parametrize(("seed", "slots"), [(1, 1), (2, 1), (3, 2)])
async def test_a_profile_recovers_chunk_and_work_of_an_engine_with_hidden_parameters(seed: int, slots: int) -> None:
    truth = hidden(seed, slots)
    effort: Effort = replace(SHORT, quick=True, menu=FULL_MENU)  # quick: keeps the slots as they are set
    measured = await profile(model(truth, slots), effort, replicas=2)
    found = measured.profile

    assert found.chunk_mean == pytest.approx(true_chunk(truth, slots), rel=WITHIN)
    assert 0.85 * true_chunk(truth, slots) < found.chunk <= found.chunk_low
    assert found.slots == slots
    for shape in (*FULL_MENU.all, *OTHER_SHAPES):
        predicted = found.weights.work(shape.input_tokens, 0, shape.output_tokens)
        assert predicted == pytest.approx(true_work(truth, shape, slots), rel=WITHIN), shape
    assert abs(measured.held_out_error) < WITHIN
    assert found.simulated


async def test_a_full_profile_finds_the_number_of_slots_by_throughput_over_latency() -> None:
    """An engine whose iterations cost the same whatever is in them gains from every slot."""
    truth = IterationTime(base_s=1e-3, prefill_s=1e-6, decode_s=1e-6, context_s=0.0, prefill_budget=2048)
    measured = await profile(model(truth, 4), SHORT, replicas=1)
    merit = {point.slots: point.merit for point in measured.operating_points}
    assert sorted(merit) == slot_candidates(4) == [1, 2, 4]
    assert measured.profile.slots == max(merit, key=lambda slots: merit[slots]) == 4
    for point in measured.operating_points:
        assert point.tokens_per_s == pytest.approx(true_chunk(truth, point.slots), rel=0.05)


async def test_an_engine_that_gains_nothing_from_more_requests_keeps_one_slot() -> None:
    truth = IterationTime(base_s=1e-5, prefill_s=5e-5, decode_s=2e-4, context_s=0.0, prefill_budget=512)
    measured = await profile(model(truth, 2), replace(SHORT, budget_s=6.0), replicas=1)
    assert measured.profile.slots == 1
