"""Laws of the batching core, and its arithmetic against a naive simulator."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engines.simulated.batching import BatchingCore, BatchRequest, Iteration
from headrace.profiles.profile import IterationTime
from headrace.profiles.simulate import replica_seconds

TIME = IterationTime(base_s=0.01, prefill_s=0.001, decode_s=0.002, context_s=0.0001, prefill_budget=16)


@dataclass
class Job:
    """A request of the tests: it arrives before iteration number ``arrives``."""

    id: str
    arrives: int
    input: int
    output: int
    cancelled: int | None = None
    """Before this iteration."""


@st.composite
def workloads(draw: st.DrawFn) -> list[Job]:
    """In order of arrival."""
    shapes = st.tuples(st.integers(0, 30), st.integers(1, 50), st.integers(1, 10), st.none() | st.integers(0, 40))
    drawn = sorted(draw(st.lists(shapes, max_size=12)), key=lambda shape: shape[0])
    return [Job(str(n), *shape) for n, shape in enumerate(drawn)]


times = st.builds(
    IterationTime,
    base_s=st.floats(0, 1),
    prefill_s=st.floats(0, 1),
    decode_s=st.floats(0, 1),
    context_s=st.floats(0, 1),
    prefill_budget=st.integers(1, 40),
)


def run(core: BatchingCore, jobs: list[Job]) -> list[Iteration | None]:
    """Every iteration until all work is done; None for those in which there was none."""
    iterations: list[Iteration | None] = []
    last_change = max((max(job.arrives, job.cancelled or 0) for job in jobs), default=0)
    while len(iterations) <= last_change or core.running or core.waiting:
        now = len(iterations)
        for job in jobs:
            if job.arrives == now:
                core.admit(BatchRequest(job.id, job.input, job.output))
        for job in jobs:
            if job.cancelled == now:
                core.cancel(job.id)
        iterations.append(core.next_iteration())
    return iterations


def naive(time: IterationTime, slots: int, jobs: list[Job]) -> list[tuple[float, list[str]] | None]:
    """(seconds, ids that get a token) of every iteration, token by token and without any cleverness."""
    read = {job.id: 0 for job in jobs}  # input tokens processed
    said = {job.id: 0 for job in jobs}
    line: list[Job] = []
    result: list[tuple[float, list[str]] | None] = []
    last_change = max((max(job.arrives, job.cancelled or 0) for job in jobs), default=0)
    while True:
        line += [job for job in jobs if job.arrives == len(result)]
        line = [job for job in line if job.cancelled != len(result)]
        if not line and len(result) > last_change:
            return result
        batch = line[:slots]
        decoding = [job for job in batch if read[job.id] == job.input]
        context = sum(job.input + said[job.id] - 1 for job in decoding)
        got = {job.id for job in decoding}
        prompt_tokens = 0
        for job in batch:
            before = read[job.id]
            while read[job.id] < job.input and prompt_tokens + len(decoding) < time.prefill_budget:
                read[job.id] += 1
                prompt_tokens += 1
            if read[job.id] > before:
                context += before
                if read[job.id] == job.input:
                    got.add(job.id)
        for id in got:
            said[id] += 1
        ids = [job.id for job in batch if job.id in got]
        seconds = (
            time.base_s + time.prefill_s * prompt_tokens + time.decode_s * len(decoding) + time.context_s * context
        )
        result.append((seconds, ids) if batch else None)
        line = [job for job in line if said[job.id] < job.output]


@given(times, st.integers(1, 4), workloads())
def test_every_iteration_is_that_of_the_naive_simulator(time: IterationTime, slots: int, jobs: list[Job]) -> None:
    expected = naive(time, slots, jobs)
    found = run(BatchingCore(time, slots), jobs)
    assert [it and [token.request for token in it.tokens] for it in found] == [it and it[1] for it in expected]
    for iteration, naively in zip(found, expected, strict=True):
        if iteration is not None and naively is not None:
            assert iteration.duration_s == pytest.approx(naively[0])


@given(times, st.integers(1, 4), workloads())
def test_tokens_are_conserved(time: IterationTime, slots: int, jobs: list[Job]) -> None:
    iterations = [it for it in run(BatchingCore(time, slots), jobs) if it is not None]
    for job in jobs:
        tokens = [token for it in iterations for token in it.tokens if token.request == job.id]
        assert [token.index for token in tokens] == list(range(1, len(tokens) + 1))
        assert [token.last for token in tokens] == [index == job.output for index in range(1, len(tokens) + 1)]
        if job.cancelled is None:
            assert len(tokens) == job.output
    if all(job.cancelled is None for job in jobs):
        assert sum(it.prefill_tokens for it in iterations) == sum(job.input for job in jobs)
        assert sum(it.decode_sequences for it in iterations) == sum(job.output - 1 for job in jobs)
    assert all(it.prefill_tokens <= time.prefill_budget for it in iterations)


@given(times, st.integers(1, 4), workloads())
def test_the_first_token_comes_in_order_of_arrival(time: IterationTime, slots: int, jobs: list[Job]) -> None:
    firsts = [
        token.request for it in run(BatchingCore(time, slots), jobs) if it for token in it.tokens if token.index == 1
    ]
    assert firsts == sorted(firsts, key=int)


@pytest.mark.parametrize(("slots", "input", "output"), [(1, 40, 5), (3, 40, 5), (2, 100, 1), (4, 7, 20)])
def test_a_closed_loop_takes_the_replica_seconds_that_profiles_compute(slots: int, input: int, output: int) -> None:
    core = BatchingCore(TIME, slots)
    for number in range(slots):
        core.admit(BatchRequest(str(number), input, output))
    elapsed, finished = 0.0, []
    while len(finished) < 600:
        iteration = core.next_iteration()
        assert iteration is not None
        elapsed += iteration.duration_s
        for token in iteration.tokens:
            if token.last:
                finished.append(elapsed)
                core.admit(BatchRequest(f"{slots + len(finished)}", input, output))
    expected = replica_seconds(TIME, in_flight=slots, new=input, out=output)
    # Over a whole number of turns of the slots, after the start has settled.
    assert (finished[-1] - finished[-1 - 240]) / 240 == pytest.approx(expected, rel=0.02)


def test_one_request_by_hand() -> None:
    core = BatchingCore(TIME, slots=1)
    core.admit(BatchRequest("a", input_tokens=20, output_tokens=3))
    iterations = run(core, [])
    figures = [(it.prefill_tokens, it.decode_sequences, it.context_tokens) for it in iterations if it]
    assert figures == [(16, 0, 0), (4, 0, 16), (0, 1, 20), (0, 1, 21)]
    assert [it.duration_s for it in iterations if it] == pytest.approx([0.026, 0.0156, 0.014, 0.0141])


def test_requests_beyond_the_slots_wait_and_a_cancelled_one_makes_room() -> None:
    core = BatchingCore(TIME, slots=1)
    for id in "abc":
        core.admit(BatchRequest(id, 1, 100))
    core.next_iteration()
    assert (core.running, core.waiting) == (1, 2)
    assert core.cancel("a") and core.cancel("b") and not core.cancel("a")
    iteration = core.next_iteration()
    assert iteration is not None and [token.request for token in iteration.tokens] == ["c"]
    assert (core.running, core.waiting) == (1, 0)


def test_an_idle_core_has_no_iteration() -> None:
    assert BatchingCore(TIME, slots=1).next_iteration() is None


def test_a_cached_prefix_costs_its_context_only() -> None:
    core = BatchingCore(TIME, slots=1, prefix_cache=True)
    core.admit(BatchRequest("a", 10, 1, prompt=range(10)))
    core.next_iteration()
    core.admit(BatchRequest("b", 12, 1, prompt=[*range(8), 90, 91, 92, 93]))
    iteration = core.next_iteration()
    assert iteration is not None
    assert (iteration.prefill_tokens, iteration.context_tokens) == (4, 8)
    assert iteration.tokens[0].cached_tokens == 8


def test_the_whole_prompt_cached_still_processes_its_last_token() -> None:
    core = BatchingCore(TIME, slots=1, prefix_cache=True)
    for id in "ab":
        core.admit(BatchRequest(id, 10, 1, prompt=range(10)))
    iterations = run(core, [])
    assert [(it.prefill_tokens, it.tokens[0].cached_tokens) for it in iterations if it] == [(10, 0), (1, 9)]


def test_of_a_prompt_cancelled_half_way_only_the_half_is_cached() -> None:
    core = BatchingCore(TIME, slots=1, prefix_cache=True)
    core.admit(BatchRequest("a", 40, 1, prompt=range(40)))
    core.next_iteration()
    core.cancel("a")
    core.admit(BatchRequest("b", 40, 1, prompt=range(40)))
    tokens = [token for it in run(core, []) if it for token in it.tokens]
    assert [token.cached_tokens for token in tokens] == [16]


def test_a_request_goes_to_the_slot_that_shares_most_with_it() -> None:
    core = BatchingCore(TIME, slots=2, prefix_cache=True)
    core.admit(BatchRequest("a", 4, 1, prompt="aaaa"))
    core.admit(BatchRequest("b", 4, 1, prompt="bbbb"))
    core.next_iteration()
    core.admit(BatchRequest("c", 4, 1, prompt="bbbc"))
    core.admit(BatchRequest("d", 4, 1, prompt="aaac"))
    iteration = core.next_iteration()
    assert iteration is not None and [token.cached_tokens for token in iteration.tokens] == [3, 3]


def test_without_the_cache_the_same_prompt_is_processed_again() -> None:
    core = BatchingCore(TIME, slots=1)
    for id in "ab":
        core.admit(BatchRequest(id, 10, 1, prompt=range(10)))
    iterations = run(core, [])
    assert [it.prefill_tokens for it in iterations if it] == [10, 10]


@pytest.mark.parametrize(("input", "output"), [(0, 1), (1, 0)])
def test_a_request_without_input_or_output_is_refused(input: int, output: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        BatchingCore(TIME, slots=1).admit(BatchRequest("a", input, output))
