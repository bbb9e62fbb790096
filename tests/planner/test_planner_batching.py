"""A replica in virtual time is the simulated engine, iteration by iteration."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engines.simulated.batching import BatchingCore, BatchRequest
from headrace.planner.batching import Batch
from headrace.profiles.profile import IterationTime
from headrace.profiles.simulate import replica_seconds

times = st.builds(
    IterationTime,
    base_s=st.floats(0.001, 0.1),
    prefill_s=st.floats(0, 0.01),
    decode_s=st.floats(0, 0.01),
    context_s=st.floats(0, 0.001),
    attention_s=st.floats(0, 1e-5),
    prefill_budget=st.integers(1, 40),
)


@dataclass(frozen=True)
class Job:
    arrives_s: float
    input: int
    output: int


jobs = st.lists(st.builds(Job, st.floats(0, 3), st.integers(1, 60), st.integers(1, 30)), min_size=1, max_size=8).map(
    lambda found: sorted(found, key=lambda job: job.arrives_s)
)


def engine(model: IterationTime, work: list[Job]) -> dict[str, tuple[float, float]]:
    """When each job got its first and its last token, by the simulated engine as it runs live: it plans an iteration
    when the one before ends, and what arrives meanwhile joins after it."""
    core = BatchingCore(model, slots=len(work))
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    waiting = [(job, str(number)) for number, job in enumerate(work)]
    now = 0.0
    while len(last) < len(work):
        if not core.running and not core.waiting:
            now = max(now, waiting[0][0].arrives_s)
        # An idle engine begins with the first that comes, and those that come at the same moment find it at work.
        idle = not core.running
        while waiting and (waiting[0][0].arrives_s < now or (idle and waiting[0][0].arrives_s <= now)):
            job, id = waiting.pop(0)
            core.admit(BatchRequest(id, job.input, job.output))
            idle = False
        iteration = core.next_iteration()
        assert iteration is not None
        now += iteration.duration_s
        for token in iteration.tokens:
            if token.index == 1:
                first[token.request] = now
            if token.last:
                last[token.request] = now
    return {id: (first[id], last[id]) for id in last}


def virtual(model: IterationTime, work: list[Job]) -> dict[str, tuple[float, float]]:
    batch = Batch(model)
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    waiting = [(job, str(number)) for number, job in enumerate(work)]
    while waiting or batch.ends_at is not None:
        if batch.ends_at is None or (waiting and waiting[0][0].arrives_s < batch.ends_at):
            job, id = waiting.pop(0)
            batch.add(job.arrives_s, id, job.input, job.output)
            continue
        now = batch.ends_at
        firsts, lasts = batch.advance()
        first.update(dict.fromkeys(firsts, now))
        last.update(dict.fromkeys(lasts, now))
    return {id: (first[id], last[id]) for id in last}


@settings(deadline=None)
@given(times, jobs)
def test_every_token_comes_when_the_simulated_engine_gives_it(model: IterationTime, work: list[Job]) -> None:
    expected, found = engine(model, work), virtual(model, work)
    assert found.keys() == expected.keys()
    for id, (first, last) in expected.items():
        assert found[id] == (pytest.approx(first, rel=1e-9), pytest.approx(last, rel=1e-9))


@pytest.mark.parametrize(("slots", "input", "output"), [(1, 2048, 256), (4, 300, 40), (16, 700, 90)])
def test_a_closed_loop_takes_the_replica_seconds_that_profiles_compute(slots: int, input: int, output: int) -> None:
    model = IterationTime(base_s=0.03, prefill_s=1e-4, decode_s=4e-4, context_s=1e-7, prefill_budget=512)
    batch = Batch(model)
    for number in range(slots):
        batch.add(0.0, str(number), input, output)
    ends: list[float] = []
    while len(ends) < 120 * slots:
        assert batch.ends_at is not None
        now = batch.ends_at
        _, lasts = batch.advance()
        for _ in lasts:
            ends.append(now)
            batch.add(now, f"more {len(ends)}", input, output)
    found = (ends[-1] - ends[60 * slots - 1]) / (60 * slots)
    expected = replica_seconds(model, in_flight=slots, new=input, out=output, client_waits=True)
    assert found == pytest.approx(expected, rel=0.02)


def test_how_far_an_answer_has_come_is_known_at_any_moment() -> None:
    model = IterationTime(base_s=1.0, prefill_s=0, decode_s=0, context_s=0, prefill_budget=100)
    batch = Batch(model)
    batch.add(0.0, "a", 50, 11)  # the first token with the prompt, at 1 s; then one a second
    assert batch.generated(0.5) == []
    batch.advance()
    assert batch.generated(1.0) == [("a", 1)]
    assert batch.generated(4.5) == [("a", 4)]
    batch.add(4.5, "b", 50, 1)  # joins at 5 s, answered at 6 s
    assert batch.ends_at == 5.0
    assert batch.advance() == ([], [])
    assert batch.advance() == (["b"], ["b"])
    assert batch.ends_at == 11.0
    assert batch.advance() == ([], ["a"])
    assert batch.ends_at is None
