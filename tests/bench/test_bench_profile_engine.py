"""A profile of the real engine."""

from __future__ import annotations

import pytest

from headrace.bench.outcome import QUICK
from headrace.bench.profile_lock import alone, machine_lock
from headrace.bench.profiler import measure_profile
from headrace.engines.base import ModelSettings

WITHIN = 0.10


@pytest.mark.engine
async def test_a_quick_profile_predicts_a_shape_that_was_not_measured(smollm2: ModelSettings) -> None:
    with alone(machine_lock()):
        for _ in range(3):  # again where the profiler itself says that something else was busy
            measured = await measure_profile(smollm2, QUICK)
            if not measured.disturbed:
                break
    profile = measured.profile
    assert profile.status == "quick"
    assert not profile.simulated
    assert abs(measured.held_out_error) < WITHIN
    assert profile.fit_error < WITHIN
    assert 0 < profile.chunk <= profile.chunk_low <= profile.chunk_mean <= profile.chunk_high
    assert profile.memory_bytes is not None and profile.memory_bytes > 100_000_000
    assert profile.start_s is not None and profile.start_s > 0
    assert profile.weights.work(2048, 0, 256) == pytest.approx(2304)
