"""Profiles of simulated replicas over HTTP: the same course as on the virtual clock, with processes and real time."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from headrace.bench.profiling.effort import FULL, QUICK
from headrace.bench.profiling.outcome import Measured
from headrace.bench.profiling.profiler import measure_profile
from headrace.bench.profiling.truth import REQUESTS, errors_of
from headrace.engines.base import ModelSettings
from headrace.profiles.profile import IterationTime
from headrace.profiles.simulate import true_chunk

WITHIN = 0.03
TRUTH = IterationTime(
    base_s=2.4e-3, prefill_s=7e-4, decode_s=1.8e-3, context_s=1.2e-6, attention_s=6e-9, prefill_budget=256
)
"""A reference request takes three seconds: much longer than the milliseconds that HTTP and timers add, which are none
of the engine's."""


def model(truth: IterationTime, slots: int, *, prefix_cache: bool = True) -> ModelSettings:
    arguments = {"iteration": msgspec.to_builtins(truth), "prefix_cache": prefix_cache}
    return ModelSettings(name="hidden", engine="simulated", slots=slots, engine_args=arguments)


async def profile(settings: ModelSettings, *, quick: bool) -> Measured:
    effort = replace(QUICK, quick=quick, budget_s=15.0, again_s=30.0, limit_s=120.0)
    return await measure_profile(settings, effort, replicas=2)


async def test_chunk_work_and_cached_tokens_of_two_replicas_are_found_over_http() -> None:
    measured = await profile(model(TRUTH, 1), quick=True)
    found = measured.profile
    uncached = [shape for shape in REQUESTS if not shape.cached_tokens]
    errors = errors_of(measured, TRUTH, 1, uncached)
    assert abs(errors.chunk) < WITHIN
    assert abs(errors.work) < WITHIN, errors.worst
    assert found.chunk == pytest.approx(true_chunk(TRUTH, 1), rel=0.15)
    assert found.chunk <= found.chunk_low
    assert abs(measured.held_out_error) < WITHIN
    # A request of cached tokens is so short that the milliseconds of HTTP show in it: the virtual clock has none.
    assert found.cached_tokens == "measured" and found.weights.w_c < 0.1 * found.weights.w_in
    assert found.simulated and found.status == "quick"


async def test_starts_and_memory_are_measured_of_each_replica() -> None:
    measured = await profile(model(TRUTH, 1, prefix_cache=False), quick=False)
    found = measured.profile
    assert len(found.starts_s) == 4 and found.start_s == max(found.starts_s) > 0
    assert found.memory_bytes is not None and found.memory_bytes > 10_000_000
    assert found.intervals is not None
    assert found.intervals.start_s is not None and found.intervals.start_s[0] <= found.start_s
    assert found.intervals.memory_bytes is not None
    assert found.cached_tokens == "assumed" and found.weights.w_c == found.weights.w_in
    assert found.duration_s < FULL.limit_s
