"""The iteration-time model from measured times: recovered where they tell it, modest where they do not."""

from __future__ import annotations

from functools import partial
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engines.simulated.batching import BatchingCore, BatchRequest
from headrace.profiles.iteration import Timed, fit_iteration, refit
from headrace.profiles.profile import IterationTime
from headrace.profiles.simulate import Content, completions, decode_content, prefill_content, replica_seconds

models = st.builds(
    IterationTime,
    base_s=st.floats(1e-4, 2e-2),
    prefill_s=st.floats(2e-5, 5e-3),
    decode_s=st.floats(2e-5, 1e-2),
    context_s=st.floats(0, 5e-6),
    attention_s=st.floats(0, 1e-6),
    prefill_budget=st.sampled_from([128, 256, 384, 1024]),
)


def loop(budget: int, *, in_flight: int, new: int, out: int) -> Content:
    """What was done by the twelfth completion."""
    return next(islice(completions(budget, in_flight=in_flight, new=new, out=out), 11, None))


def measured(model: IterationTime) -> list[Timed]:
    """Prompts of many lengths, answers in short and long contexts, and batches."""
    contents = [
        *(partial(prefill_content, new=new) for new in (100, 320, 700, 1300, 2048, 3072)),
        *(lambda _, inputs=inputs: decode_content(inputs=inputs, out=64) for inputs in (16, 2000)),
        *(partial(loop, in_flight=many, new=16, out=32) for many in (2, 4)),
    ]
    return [Timed(content(model.prefill_budget).seconds(model), content) for content in contents]


@settings(max_examples=30, deadline=None)
@given(models)
def test_exact_times_give_the_exact_model_and_its_budget(model: IterationTime) -> None:
    fit = fit_iteration(measured(model), budget=None, least_budget=4)
    for many, new, out in ((1, 500, 50), (3, 1200, 80)):
        truth = replica_seconds(model, in_flight=many, new=new, out=out)
        assert replica_seconds(fit.model, in_flight=many, new=new, out=out) == pytest.approx(truth, rel=0.01)
    assert fit.predicted_s == pytest.approx([one.seconds for one in measured(model)], rel=0.01)


def test_a_budget_that_the_engine_told_is_taken() -> None:
    model = IterationTime(base_s=0.01, prefill_s=1e-3, decode_s=2e-3, context_s=1e-6, prefill_budget=300)
    fit = fit_iteration(measured(model), budget=300)
    assert fit.model.prefill_budget == 300
    assert fit.model.base_s == pytest.approx(0.01, rel=1e-3)


def test_other_times_of_the_same_work_give_another_model() -> None:
    model = IterationTime(base_s=0.01, prefill_s=1e-3, decode_s=2e-3, context_s=1e-6, prefill_budget=256)
    fit = fit_iteration(measured(model), budget=256)
    slower = refit(fit, 2 * np.array([one.seconds for one in measured(model)]))
    assert slower.prefill_s == pytest.approx(2e-3, rel=1e-3)


@pytest.mark.parametrize("times", [[], [Timed(0.0, partial(prefill_content, new=1))]])
def test_times_that_say_nothing_are_refused(times: list[Timed]) -> None:
    with pytest.raises(ValueError, match="measured times"):
        fit_iteration(times, budget=None)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 400), st.integers(1, 40), st.integers(20, 256), st.integers(1, 12))
def test_completions_are_those_of_the_live_core_whose_client_waits_for_answers(
    slots: int, new: int, out: int, budget: int, last: int
) -> None:
    model = IterationTime(
        base_s=0.01, prefill_s=0.001, decode_s=0.002, context_s=1e-5, attention_s=1e-7, prefill_budget=budget
    )
    core = BatchingCore(model, slots)
    sent = elapsed = 0.0
    ends: list[float] = []
    waiting = slots - 1  # the first request begins an iteration before the others have come
    core.admit(BatchRequest("first", new, out))
    while len(ends) < last:
        iteration = core.next_iteration()
        coming, waiting = waiting, 0
        if iteration is None:
            raise AssertionError("nothing runs")
        elapsed += iteration.duration_s
        answered = sum(token.last for token in iteration.tokens)
        ends += [elapsed] * answered
        waiting = answered
        idle = core.running == 0
        for _ in range(coming + (answered if idle and not coming else 0)):
            sent += 1
            core.admit(BatchRequest(str(sent), new, out))
        if idle and not coming:
            waiting = 0
    found = [content.seconds(model) for content in islice(completions(budget, in_flight=slots, new=new, out=out), last)]
    assert found == pytest.approx(ends[:last])
