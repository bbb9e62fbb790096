"""What a capacity search asks for, and what it says in the end."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from headrace.bench.capacity.answer import Answer
from headrace.bench.capacity.protocol import Observed, Probe
from headrace.bench.capacity.search import Search
from headrace.bench.slo import Criterion

Server = Callable[[Probe, int], Observed]


def logistic(capacity: float, target: float = 0.9, slope: float = 10.0) -> Server:
    """Independent requests whose attainment falls as a logistic curve of the logarithm of the rate."""

    def serve(probe: Probe, n: int) -> Observed:
        random = np.random.default_rng(probe.seed)
        rate = probe.rate or min(float(probe.users or 1), 2 * capacity)
        scheduled = np.cumsum(random.exponential(1 / rate, n))
        good = random.random(n) < 1 / (1 + (1 - target) / target * (rate / capacity) ** slope)
        end = scheduled + 0.5
        return Observed(
            good=(good,),
            scheduled_s=scheduled,
            end_s=end,
            rejected=0,
            elapsed_s=float(end[-1]),
            input_tokens=64.0,
            output_tokens=32.0,
            work=None,
            finished=True,
        )

    return serve


def run(search: Search, server: Server) -> Answer:
    while not isinstance(probe := search.next(), Answer):
        search.tell(probe, server(probe, probe.max_requests))
    return probe


def search_of(target: float = 0.9, budget_s: float = 4000.0, **bounds: float) -> Search:
    criteria = (Criterion(attainment=target, ttft_s=1.0),)
    return Search(criteria, seed=1, budget_s=budget_s, **bounds)  # type: ignore[arg-type]


def test_a_capacity_is_found_within_its_interval_and_its_lower_side_is_confirmed() -> None:
    answer = run(search_of(), logistic(10.0))
    assert answer.verdict == "PASS" and answer.limit == "server" and answer.precise
    assert answer.interval is not None and answer.interval[0] < 10 < answer.interval[1]
    assert answer.confirmed is not None and 9 < answer.confirmed < 10
    tokens = answer.tokens(answer.confirmed)
    assert tokens.both == pytest.approx(96 * answer.confirmed) and tokens.reference is None


def test_a_search_is_taken_up_where_it_was_left() -> None:
    server, whole = logistic(10.0), search_of()
    answer = run(whole, server)
    resumed = search_of()
    resumed.retell(whole.told[:9])
    assert run(resumed, server) == answer


def test_results_of_another_search_are_refused() -> None:
    other = search_of(target=0.99)
    run(other, logistic(10.0, target=0.99))
    with pytest.raises(ValueError, match="another SLO, seed, width or highest rate"):
        search_of().retell(other.told)


def test_an_slo_that_one_stream_misses_is_impossible() -> None:
    answer = run(search_of(), logistic(0.3, slope=3))
    assert (answer.verdict, answer.limit, answer.capacity) == ("FAIL", "latency", None)


def test_a_server_that_answers_nothing_ends_the_search_when_half_of_its_time_is_gone() -> None:
    budget_s = 1000.0
    search = search_of(budget_s=budget_s)
    probe = search.next()
    assert isinstance(probe, Probe)
    nothing = np.empty(0)
    silent = replace(
        logistic(10.0)(probe, 8),
        good=(nothing.astype(bool),),
        scheduled_s=nothing,
        end_s=nothing,
        elapsed_s=0.49 * budget_s,
        finished=False,
    )
    assert not search.enough(probe, silent), "the first answer may be a slow one"
    silent = replace(silent, elapsed_s=0.5 * budget_s)
    assert search.enough(probe, silent)
    search.tell(probe, silent)
    answer = search.next()
    assert isinstance(answer, Answer) and (answer.verdict, answer.limit) == ("UNRESOLVED", "budget")
    assert answer.reason.startswith("the budget ended before one answer was complete")
    search.extend(4 * budget_s)
    again = search.next()
    assert isinstance(again, Probe) and again.phase == "floor" and again.seed != probe.seed


def test_a_probe_ends_early_when_it_is_decided_and_not_before_its_least() -> None:
    search, server = search_of(), logistic(10.0)
    while not (isinstance(probe := search.next(), Probe) and probe.rate is not None):
        search.tell(probe, server(probe, probe.max_requests))  # type: ignore[arg-type]
    hopeless = replace(server(replace(probe, rate=1000.0), probe.max_requests), elapsed_s=probe.min_s, finished=False)
    assert search.enough(probe, hopeless)
    few = probe.min_requests - 1
    assert not search.enough(
        probe,
        replace(
            hopeless, good=(hopeless.good[0][:few],), scheduled_s=hopeless.scheduled_s[:few], end_s=hopeless.end_s[:few]
        ),
    )


def test_a_server_that_never_fails_is_confirmed_at_the_bound_of_the_client() -> None:
    answer = run(search_of(most_rate=30.0, most_users=16), logistic(1e6))
    assert (answer.verdict, answer.limit) == ("PASS", "bound")
    assert answer.confirmed is not None and answer.confirmed > 20
    assert "no rate up to 30 requests/s failed" in answer.reason


def test_an_invalid_probe_is_repeated_once_and_then_the_client_is_the_limit() -> None:
    server = logistic(10.0)
    search = search_of()
    probes = []
    while not isinstance(probe := search.next(), Answer):
        probes.append(probe)
        observed = server(probe, probe.max_requests)
        late = probe.rate is not None and probe.rate > 9.0
        search.tell(probe, replace(observed, invalid=("event loop late by 40 ms",)) if late else observed)
    assert (probe.verdict, probe.limit) == ("UNRESOLVED", "client")
    assert "event loop late by 40 ms" in probe.reason
    assert replace(probes[-1], seed=0) == replace(probes[-2], seed=0)
    assert probes[-1].seed != probes[-2].seed


def test_requests_refused_by_the_range_are_its_limit_and_no_failure_of_capacity() -> None:
    server = logistic(100.0)

    def limited(probe: Probe, n: int) -> Observed:
        observed = server(probe, n)
        return replace(observed, rejected=n // 5) if (probe.rate or 0) > 7.0 else observed

    answer = run(search_of(most_users=4), limited)
    assert (answer.verdict, answer.limit) == ("PASS", "range")
    assert answer.confirmed is not None and 5.5 < answer.confirmed <= 7.0
    assert "429" in answer.reason


def test_a_backlog_that_grows_is_a_fail_although_every_request_is_good() -> None:
    def overloaded(probe: Probe, n: int) -> Observed:
        observed = logistic(1e6)(probe, n)
        if probe.rate is None:
            return observed
        # One server that takes 0.2 s for each, whose limits are never missed in so short a time.
        turn = np.arange(n) * 0.2
        end = np.maximum.accumulate(observed.scheduled_s - turn) + turn + 0.2
        return replace(observed, end_s=end)

    answer = run(search_of(most_users=8), overloaded)
    assert answer.interval is not None and answer.interval[0] < 5.0 < answer.interval[1]
    assert answer.capacity == pytest.approx(5.0, rel=0.1)


def test_a_short_budget_still_ends_in_a_verdict_when_samples_are_few() -> None:
    answer = run(search_of(budget_s=900.0), logistic(1.5))
    assert answer.verdict == "PASS" and answer.confirmed is not None and answer.confirmed < 1.5
    assert answer.seconds < 1000
    assert answer.interval is not None and answer.interval[0] < 1.5 < answer.interval[1]


def test_a_budget_that_ends_too_early_is_unresolved_with_the_interval_so_far() -> None:
    answer = run(search_of(target=0.99, budget_s=300.0), logistic(3.0, target=0.99))
    assert (answer.verdict, answer.limit, answer.confirmed) == ("UNRESOLVED", "budget", None)
    assert answer.interval is not None and answer.interval[0] < 3.0 < answer.interval[1]
    assert "budget ended" in answer.reason and math.isfinite(answer.interval[1])


@pytest.mark.parametrize("attainment", [0.0, 1.0, 1.5])
def test_an_attainment_that_is_no_share_is_refused(attainment: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        search_of(target=attainment)
