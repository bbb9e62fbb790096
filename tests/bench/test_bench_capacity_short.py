"""Short budgets: what is confirmed is no more than the server does, and a search that ran out goes on with more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.bench.capacity import scout
from headrace.bench.capacity.answer import Answer
from headrace.bench.capacity.protocol import Observed, Probe
from headrace.bench.capacity.search import Search
from headrace.bench.capacity.stability import pace, pooled
from headrace.bench.capacity.virtual import Batcher, Server, Station, carry_out, observe
from headrace.bench.slo import Criterion
from headrace.bench.workload.spec import Amount, ClosedLoop, LoadSpec, Synthetic, Uniform
from headrace.cli.capacity_state import SearchState
from headrace.cli.errors import CommandError

CRITERIA = (Criterion(attainment=0.9, e2e_s=1.0),)
LOOSE = Station(8, 500.0)
"""Whose limit is never missed in a probe: only its backlog shows that it does 8 requests/s."""


def search_of(budget_s: float, seed: int = 1) -> Search:
    return Search(CRITERIA, seed=seed, budget_s=budget_s)


@pytest.mark.parametrize("requests", [300, 600, 1200])
@pytest.mark.parametrize(
    ("server", "capacity"),
    [
        (Station(8, 1.6), 6.597),
        (Station(8, 20.0), 7.964),
        (LOOSE, 8.0),
        (Batcher(wait_s=20.0, pace_s=1e9), 6.071),
        (Batcher(slots=32, base_s=1.0, more_s=0.05, wait_s=30.0, pace_s=1e9), 12.30),
    ],
    ids=["tight", "loose", "looser", "batching", "slow batching"],
)
def test_no_rate_above_the_capacity_is_confirmed_in_a_short_time(
    server: Server, capacity: float, requests: int
) -> None:
    """Capacities are of long runs: ``long_run_capacity``."""
    for seed in range(12):
        answer = carry_out(search_of(requests / capacity, seed), server)
        assert answer.confirmed is None or answer.confirmed < 1.05 * capacity


def test_a_server_that_the_closed_loop_saturated_is_confirmed_near_its_throughput() -> None:
    confirmed = [carry_out(search_of(300.0, seed), LOOSE).confirmed for seed in range(8)]
    held = [rate for rate in confirmed if rate is not None]
    assert len(held) >= 6 and all(6.5 < rate < 8.0 for rate in held)


def test_no_rate_is_confirmed_that_is_far_beyond_what_was_tried() -> None:
    search = search_of(150.0)
    tried = 0.0
    while not isinstance(probe := search.next(), Answer):
        if probe.rate is not None and tried:
            assert probe.rate <= 3 * tried
        tried = max(tried, probe.rate or 0.0)
        search.tell(probe, observe(Station(8, 1e9), probe))


def closed(users: int, n: int, rate: float) -> Observed:
    """Of a saturated server."""
    scheduled = np.maximum(np.arange(n) - users + 1, 0) / rate
    ended = (np.arange(n) + 1) / rate
    return observed(scheduled, ended)


def observed(scheduled: NDArray[np.float64], end_s: NDArray[np.float64]) -> Observed:
    return Observed((np.ones(len(end_s), dtype=bool),), scheduled, end_s, 0, float(end_s[-1]), 8.0, 8.0, None, True)


def test_the_pace_of_a_closed_loop_is_that_of_all_its_users_at_work() -> None:
    probe = Probe("scout", 1, 64, 64, users=16)
    rate, error = pace(probe, closed(16, 64, 5.0))
    assert rate == pytest.approx(5.0) and error < 0.01


def test_a_closed_loop_that_latency_ended_shows_no_saturation() -> None:
    search = search_of(2000.0)
    while not isinstance(probe := search.next(), Answer) and probe.users is not None:
        assert scout.saturation(search.told) is None
        search.tell(probe, observe(LOOSE, probe))
    found = scout.saturation(search.told)
    assert found is not None and found.rate == pytest.approx(8.0, rel=0.02)

    tight = search_of(2000.0)
    while not isinstance(probe := tight.next(), Answer) and probe.users is not None:
        tight.tell(probe, observe(Batcher(pace_s=0.85), probe))
    assert scout.saturation(tight.told) is None


def test_drifts_together_are_known_better_than_each() -> None:
    share, error = pooled(np.array([0.1, 0.3]), np.array([0.1, 0.1]))
    assert share == pytest.approx(0.2) and error == pytest.approx(0.1 / 2**0.5)


def test_a_search_whose_budget_ended_says_what_would_do_and_goes_on_with_more() -> None:
    first = search_of(40.0)
    short = carry_out(first, LOOSE)
    assert (short.verdict, short.limit) == ("UNRESOLVED", "budget")
    assert "Go on with a budget of at least 3 min, or ask for a looser limit" in short.reason

    more = search_of(600.0)
    more.retell(first.told, first.budgets)
    assert more.told == first.told
    answer = carry_out(more, LOOSE)
    assert answer.verdict == "PASS" and answer.seconds > 40.0
    first.extend(600.0)
    assert carry_out(first, LOOSE) == answer

    again = search_of(600.0)
    again.retell(more.told, more.budgets)
    assert again.next() == answer
    with pytest.raises(ValueError, match=r"has a budget of 600 s already, not 50 s: name as much or more"):
        search_of(50.0).retell(more.told, more.budgets)


def test_a_state_file_is_gone_on_with_under_a_larger_budget(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    fixed = Uniform(8, 8)
    load = LoadSpec(
        model="m",
        source=Synthetic(input=fixed, output=fixed),
        arrivals=ClosedLoop(users=1),
        amount=Amount(requests=1),
    )

    def state() -> SearchState:
        return SearchState(path, "m at x", load, None)

    for budget_s in (40.0, 90.0, 600.0):
        search, kept = search_of(budget_s), state()
        kept.take_up(search)
        before = len(search.told)
        answer = carry_out(search, LOOSE)
        assert len(search.told) > before
        kept.keep(search.told)
    assert answer.verdict == "PASS"
    done = search_of(600.0)
    state().take_up(done)
    assert done.next() == answer
    with pytest.raises(CommandError, match="has a budget of 600 s already, not 300 s"):
        state().take_up(search_of(300.0))
