"""The steady window, on runs whose warm-up is known."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from made_run import changed, failing, poisson, run, spec

from headrace.bench.client.records import Outcome, Records
from headrace.bench.results import window
from headrace.bench.workload.spec import ClosedLoop


def test_truncation_is_whites_formula() -> None:
    batches = np.random.default_rng(1).normal(size=60)
    batches[:7] += 8.0
    errors = [float(((batches[d:] - batches[d:].mean()) ** 2).sum() / (60 - d) ** 2) for d in range(55)]
    assert window.truncation(batches) == int(np.argmin(errors)) == 7


def test_equal_batches_are_kept_whole() -> None:
    assert window.truncation(np.full(100, 1e9 / 3)) == 0


def test_a_known_warm_up_is_cut_off() -> None:
    scheduled = poisson(20.0, 200.0)
    slow_start = np.where(scheduled < 40.0, 3.0, 0.5)  # six times as many in flight over the first fifth
    found = window.steady(run(scheduled, ttft_s=slow_start), spec(duration_s=200.0))
    assert found.start_s == pytest.approx(43.0, abs=4.0)
    assert found.load_end_s == pytest.approx(200.0, abs=0.2)
    assert "cut off as warm-up" in found.words


def test_a_steady_run_is_kept_but_for_its_ramp() -> None:
    found = window.steady(run(poisson(20.0, 200.0), ttft_s=0.5), spec(duration_s=200.0))
    assert found.start_s is not None and found.start_s <= 10.0


def test_a_growing_backlog_is_no_steady_state() -> None:
    scheduled = np.arange(0.0, 200.0, 0.1)
    found = window.steady(run(scheduled, ttft_s=1.0 + scheduled * 0.5), spec(duration_s=200.0))
    assert found.start_s is None
    assert "no steady state" in found.words and "requests in flight" in found.words


def test_a_backlog_that_grows_in_steps_is_a_drift() -> None:
    steps = np.repeat([4.0, 5.0, 6.0, 8.0, 9.0], 20) + np.random.default_rng(1).normal(0, 0.2, 100)
    assert window.drift(steps) == pytest.approx(6.3 / 6.4, rel=0.05)
    scheduled = np.arange(0.0, 200.0, 0.1)
    levels = np.array([1.0, 2.0, 3.0, 3.0, 6.0])[(scheduled // 40).astype(int)]
    found = window.steady(run(scheduled, ttft_s=levels), spec(duration_s=200.0))
    assert found.start_s is None


def test_chance_is_no_drift() -> None:
    generator = np.random.default_rng(2)
    assert sum(window.drift(10 + generator.normal(0, 5, 100)) is not None for _ in range(500)) <= 5
    assert window.drift(np.zeros(100)) is None
    assert window.drift(np.full(100, 3.0)) is None


@pytest.mark.parametrize(("of_capacity", "steady_share"), [(0.5, (0.95, 1.0)), (0.8, (0.85, 1.0)), (1.2, (0.0, 0.1))])
def test_queues_below_capacity_are_steady_and_above_it_are_not(
    of_capacity: float, steady_share: tuple[float, float]
) -> None:
    found = [window.steady(queue(of_capacity * 16, seed), spec(duration_s=120.0)) for seed in range(40)]
    assert steady_share[0] <= np.mean([w.start_s is not None for w in found]) <= steady_share[1]


def queue(rate: float, seed: int) -> Records:
    """Sixteen slots that take a second on average: TTFT is what a request waits for one."""
    generator = np.random.default_rng(seed)
    due = np.cumsum(generator.exponential(1 / rate, int(rate * 140)))
    service = generator.gamma(4.0, 0.25, len(due))
    free, waits = [0.0] * 16, np.empty(len(due))
    for number, (at, takes) in enumerate(zip(due, service, strict=True)):
        start = max(heapq.heappop(free), at)
        waits[number] = start - at
        heapq.heappush(free, start + takes)
    return changed(run(due, ttft_s=waits, tpot_s=service / 10), measured=due <= 120.0)


def test_a_closed_loop_is_watched_by_its_tokens() -> None:
    starts = np.concatenate([np.arange(30.0 if user % 2 else 0.0, 200.0, 1.0) + user / 20 for user in range(20)])
    found = window.steady(run(np.sort(starts), planned=False), spec(ClosedLoop(users=20), duration_s=200.0))
    assert found.signal == "output tokens/s"
    assert found.start_s == pytest.approx(30.0, abs=4.0)


def test_few_requests_have_no_window() -> None:
    found = window.steady(run(np.arange(49.0)), spec(duration_s=49.0))
    assert found.start_s is None and "fewer than 50" in found.words


def test_the_load_ends_with_its_last_due_request_where_requests_decide() -> None:
    assert window.load_end_s(run(np.arange(50.0), ttft_s=20.0), spec(requests=50, duration_s=300.0)) == 49.0


@pytest.mark.parametrize("cut_s", [50.0, 299.0])
def test_the_load_of_a_run_that_was_cut_off_or_ran_out_ends_with_its_last_due_request(cut_s: float) -> None:
    cut = failing(run(np.arange(cut_s), ttft_s=20.0), [-1], Outcome.UNFINISHED)
    assert window.load_end_s(cut, spec(duration_s=300.0)) == pytest.approx(cut_s, abs=1.0)


def test_a_run_without_requests_has_no_length() -> None:
    assert window.load_end_s(run(np.empty(0)), spec(duration_s=300.0)) == 0.0
