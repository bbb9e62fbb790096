"""A measurement whose chunk is hardly known, or whose weights do not predict, is not valid."""

from __future__ import annotations

import pytest

from headrace.bench.profiling.effort import QUICK
from headrace.bench.profiling.validity import inaccuracies
from headrace.bench.profiling.virtual import virtual_profile
from headrace.profiles.chunk import Interval
from headrace.profiles.profile import IterationTime, ShapeResult

SURE = Interval(100.0, 90.0, 110.0)
TRUTH = IterationTime(base_s=0.01, prefill_s=0.005, decode_s=0.004, context_s=2e-6, prefill_budget=256)


def predicted(error: float, *, input_tokens: int = 640) -> ShapeResult:
    return ShapeResult(
        input_tokens=input_tokens, output_tokens=96, seconds=2.0, predicted_s=2.0 * (1 + error), requests=4
    )


def test_a_narrow_interval_and_weights_that_predict_raise_no_doubt() -> None:
    assert inaccuracies(SURE, [predicted(0.1), predicted(-0.19)]) == ()


def test_too_wide_an_interval_is_a_reason_with_its_width_and_the_limit() -> None:
    (reason,) = inaccuracies(Interval(61.2, 17.6, 104.8), [predicted(0.0)])
    assert reason == "the 95% interval of the chunk is ±71% of the mean, and more than ±15% is too wide"


def test_weights_that_do_not_predict_are_a_reason_with_the_shape_that_is_worst() -> None:
    (reason,) = inaccuracies(SURE, [predicted(0.3, input_tokens=128), predicted(-0.48)])
    assert reason.startswith("the time of 640/96, which the weights were not fitted to, is predicted -48% off")


@pytest.mark.parametrize(("noise", "valid"), [(0.0, True), (0.6, False)])
def test_a_noisy_measurement_is_not_valid_and_is_not_said_to_be_disturbed(noise: float, valid: bool) -> None:
    measured = virtual_profile(TRUTH, QUICK, slots=1, seed=1, noise=noise)
    assert (measured.profile.problems == ()) is valid
    assert not measured.disturbed
