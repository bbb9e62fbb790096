"""A profile of the real engine. What it finds holds where it says that it is valid; on a machine that others use all
the time it says that it is not, and that is all that can be asked of it there."""

from __future__ import annotations

import os

import pytest

from headrace.bench.errors import BenchError
from headrace.bench.profiling.effort import QUICK
from headrace.bench.profiling.lock import alone, machine_lock
from headrace.bench.profiling.profiler import measure_profile
from headrace.engines.base import ModelSettings

WITHIN = 0.10


@pytest.mark.engine
@pytest.mark.timeout(600)
async def test_a_quick_profile_is_complete_and_where_it_is_valid_predicts_what_was_not_measured(
    smollm2: ModelSettings,
) -> None:
    with alone(machine_lock()):
        try:
            measured = await measure_profile(smollm2, QUICK)
        except BenchError as error:
            # Only beside others may nothing be promised, and then it says what to do about it. The measurement's own
            # replicas are as many as there are cores: a longer queue for them is of others.
            assert "with nothing else running" in str(error) or "too slow or too busy" in str(error)
            assert os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1)
            return
    profile = measured.profile
    assert profile.status == "quick"
    assert not profile.simulated
    assert 0 < profile.chunk <= profile.chunk_low <= profile.chunk_mean <= profile.chunk_high
    assert profile.memory_bytes is not None and profile.memory_bytes > 100_000_000
    assert profile.start_s is not None and profile.start_s > 0
    assert profile.weights.work(2048, 0, 256) == pytest.approx(2304)
    # The engine tells what its cache held and how far its prefill is.
    assert profile.cached_tokens == "measured"
    assert profile.weights.w_c < profile.weights.w_in / 4
    assert profile.iteration is not None and profile.iteration.prefill_budget == 256
    assert profile.intervals is not None and profile.intervals.weights is not None
    assert measured.others is not None
    if measured.disturbed:
        assert profile.problems and measured.disturbed_blocks > 0
        return
    assert not profile.problems
    assert profile.duration_s <= QUICK.again_s + 60
    assert abs(measured.held_out_error) < WITHIN
    assert profile.fit_error < WITHIN
