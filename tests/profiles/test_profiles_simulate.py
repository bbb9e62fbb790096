"""The truth of the simulated engine: equal to its live batching core, and to sums done by hand."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engines.simulated.batching import BatchingCore, BatchRequest
from headrace.profiles.profile import IterationTime
from headrace.profiles.simulate import completions, decode_content, prefill_content, replica_seconds, true_chunk

MODEL = IterationTime(base_s=0.01, prefill_s=0.001, decode_s=0.002, context_s=1e-5, prefill_budget=100)


def test_one_request_by_hand() -> None:
    # 150 tokens of prompt in iterations of 100 and 50, the first token with the second, then two decodes.
    prefill = (0.01 + 0.1) + (0.01 + 0.05 + 100e-5)
    decode = (0.01 + 0.002 + 150e-5) + (0.01 + 0.002 + 151e-5)
    assert replica_seconds(MODEL, in_flight=1, new=150, out=3) == pytest.approx(prefill + decode)


def test_cached_tokens_are_read_and_not_processed() -> None:
    assert replica_seconds(MODEL, in_flight=1, new=50, cached=200, out=1) == pytest.approx(0.01 + 0.05 + 200e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 400), st.integers(1, 40), st.integers(20, 256))
def test_it_is_the_live_batching_core_in_a_closed_loop(slots: int, new: int, out: int, budget: int) -> None:
    model = IterationTime(base_s=0.01, prefill_s=0.001, decode_s=0.002, context_s=1e-5, prefill_budget=budget)
    core = BatchingCore(model, slots)
    rounds, elapsed, finished, count = 400, 0.0, 0, 0
    for count in range(slots):
        core.admit(BatchRequest(str(count), new, out))
    while finished < rounds * slots:
        iteration = core.next_iteration()
        assert iteration is not None
        elapsed += iteration.duration_s
        for token in iteration.tokens:
            if token.last:
                finished += 1
                count += 1
                core.admit(BatchRequest(str(count), new, out))
    # The first requests start together; over many rounds that fades.
    assert replica_seconds(model, in_flight=slots, new=new, out=out) == pytest.approx(elapsed / finished, rel=0.01)


def test_the_chunk_is_the_reference_request_at_the_operating_point() -> None:
    assert true_chunk(MODEL, 2) == pytest.approx(2304 / replica_seconds(MODEL, in_flight=2, new=2048, out=256))


@pytest.mark.parametrize("nothing", [{"in_flight": 0}, {"new": 0}, {"out": 0}])
def test_nothing_to_simulate_is_refused(nothing: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="nothing to simulate"):
        replica_seconds(MODEL, **{"in_flight": 1, "new": 1, "out": 1, **nothing})


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.integers(1, 200), st.integers(1, 20), st.integers(20, 256))
def test_with_a_client_that_waits_it_is_what_completions_come_to(slots: int, new: int, out: int, budget: int) -> None:
    model = IterationTime(
        base_s=0.01, prefill_s=0.001, decode_s=0.002, context_s=1e-5, attention_s=1e-7, prefill_budget=budget
    )
    loop = completions(budget, in_flight=slots, new=new, out=out)
    turns = 60
    ends = [content.seconds(model) for content in islice(loop, 2 * turns * slots)]
    found = (ends[-1] - ends[turns * slots - 1]) / (turns * slots)
    waiting = replica_seconds(model, in_flight=slots, new=new, out=out, client_waits=True)
    assert waiting == pytest.approx(found, rel=0.02)
    assert slots > 1 or waiting == pytest.approx(replica_seconds(model, in_flight=1, new=new, out=out))


def test_alone_a_request_is_its_prefill_and_its_decode() -> None:
    model = IterationTime(
        base_s=0.01, prefill_s=0.001, decode_s=0.002, context_s=1e-5, attention_s=1e-7, prefill_budget=100
    )
    parts = prefill_content(100, new=250, cached=40).plus(decode_content(inputs=290, out=20))
    alone = replica_seconds(model, in_flight=1, new=250, cached=40, out=20)
    assert parts.seconds(model) == pytest.approx(alone)
