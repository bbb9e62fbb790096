"""Work weights from measured shapes: recovered where they can be, modest where they cannot."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from headrace.policy.work import Weights
from headrace.profiles.fit import MeasuredShape, fit_weights
from headrace.profiles.profile import IterationTime
from headrace.profiles.simulate import replica_seconds, true_chunk

SHAPES = ((2048, 8, 0), (1024, 128, 0), (512, 64, 0), (128, 256, 0), (128, 64, 0), (1024, 64, 768))
weights = st.builds(
    Weights,
    w_in=st.floats(1e-4, 1e-2),
    w_out=st.floats(1e-4, 1e-2),
    w_pp=st.just(0.0) | st.floats(1e-8, 1e-5),
    w_dd=st.just(0.0) | st.floats(1e-8, 1e-5),
    w_c=st.just(0.0) | st.floats(1e-5, 1e-3),
)


def measured(seconds: Weights, shapes: tuple[tuple[int, int, int], ...] = SHAPES) -> list[MeasuredShape]:
    return [MeasuredShape(i, out, seconds.work(i - cached, cached, out), cached) for i, out, cached in shapes]


@given(weights)
def test_exact_measurements_give_the_exact_weights(seconds: Weights) -> None:
    fit = fit_weights(measured(seconds))
    assert fit.error < 1e-6
    assert fit.weights.work(2048, 0, 256) == pytest.approx(2304)
    for new, cached, out in ((300, 0, 30), (1500, 500, 200), (10, 2000, 5)):
        assert fit.seconds(new, cached, out) == pytest.approx(seconds.work(new, cached, out), rel=1e-4)


@given(weights, st.lists(st.floats(0.9, 1.1), min_size=len(SHAPES), max_size=len(SHAPES)))
def test_noise_never_makes_a_weight_negative_nor_the_error_larger_than_the_noise_can(
    seconds: Weights, noise: list[float]
) -> None:
    shapes = [
        MeasuredShape(s.input_tokens, s.output_tokens, s.seconds * factor, s.cached_tokens)
        for s, factor in zip(measured(seconds), noise, strict=True)
    ]
    fit = fit_weights(shapes)
    found = fit.weights
    assert min(found.w_in, found.w_out, found.w_pp, found.w_dd, found.w_c) >= 0
    # The truth itself is off by at most (1 / 0.9 - 1) per shape, and least squares is no worse than it in sum.
    assert fit.error <= (1 / 0.9 - 1) * len(SHAPES) ** 0.5 + 1e-9


@settings(max_examples=25, deadline=None)
@given(
    st.builds(
        IterationTime,
        base_s=st.floats(1e-4, 2e-2),
        prefill_s=st.floats(2e-4, 5e-3),
        decode_s=st.floats(2e-4, 1e-2),
        context_s=st.floats(0, 5e-6),
        prefill_budget=st.sampled_from([128, 256, 512]),
    ),
    st.integers(1, 4),
)
def test_chunk_and_weights_of_a_hidden_engine_are_found_within_three_percent(model: IterationTime, slots: int) -> None:
    # Where an iteration costs more than its tokens, time goes in steps that five smooth terms cannot follow.
    assume(model.prefill_s * model.prefill_budget >= 12 * model.base_s)
    shapes = [
        MeasuredShape(new, out, replica_seconds(model, in_flight=slots, new=new, out=out))
        for new, out in ((2048, 8), (1024, 128), (512, 64), (128, 256), (128, 64), (2048, 256))
    ]
    fit = fit_weights(shapes)
    assert 1 / fit.seconds_per_token == pytest.approx(true_chunk(model, slots), rel=0.03)
    for new, out in ((700, 100), (1500, 32), (300, 200)):
        truth = replica_seconds(model, in_flight=slots, new=new, out=out)
        assert fit.seconds(new, 0, out) == pytest.approx(truth, rel=0.05)


def test_without_a_cached_shape_cached_tokens_weigh_nothing() -> None:
    assert fit_weights(measured(Weights(1e-3, 2e-3, 1e-7, 1e-7, 5e-4), SHAPES[:5])).weights.w_c == 0


def test_one_shape_weighs_every_token_the_same() -> None:
    fit = fit_weights([MeasuredShape(2048, 256, 23.04)])
    assert fit.weights == Weights(w_in=pytest.approx(1), w_out=pytest.approx(1), w_pp=0, w_dd=0, w_c=0)
    assert fit.seconds_per_token == pytest.approx(0.01)


def test_shapes_in_one_proportion_are_not_told_apart() -> None:
    fit = fit_weights([MeasuredShape(800, 100, 9.0), MeasuredShape(800, 100, 9.2), MeasuredShape(800, 100, 8.8)])
    assert fit.weights.w_in == fit.weights.w_out == pytest.approx(1)
    assert fit.error == pytest.approx(0.2 / 8.8, rel=0.1)


def test_fewer_shapes_use_fewer_features() -> None:
    truth = Weights(1e-3, 5e-3, 1e-6, 1e-6, 0)
    used = []
    for count in (1, 2, 3, 4):
        fit = fit_weights(measured(truth, SHAPES[:count])).weights
        used.append(sum(value > 0 for value in (fit.w_pp, fit.w_dd)))
    assert used[:2] == [0, 0]
    assert all(a <= b for a, b in pairwise(used))


@pytest.mark.parametrize(
    "shapes",
    [
        [],
        [MeasuredShape(10, 10, 0.0)],
        [MeasuredShape(10, 10, float("nan"))],
        [MeasuredShape(10, 10, 1.0, cached_tokens=11)],
        [MeasuredShape(0, 0, 1.0)],
    ],
)
def test_shapes_that_say_nothing_are_refused(shapes: list[MeasuredShape]) -> None:
    with pytest.raises(ValueError, match="shape"):
        fit_weights(shapes)
