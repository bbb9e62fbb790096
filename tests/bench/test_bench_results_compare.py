"""Two runs compared: what is alike is called so, what differs is found, and common requests sharpen the eye."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from made_run import HEALTHY, changed, failing, poisson, run, spec

from headrace.bench import slo
from headrace.bench.client.records import Outcome, Records
from headrace.bench.errors import BenchError
from headrace.bench.results.compare import Comparison, Difference, compare, pairable
from headrace.bench.results.summary import Summary, summarize
from headrace.bench.workload.spec import LoadSpec, Poisson

SECONDS = 100.0
OBJECTIVE = slo.parse("ttft_p90=200ms")


def asked(seed: int = 0) -> LoadSpec:
    return msgspec.structs.replace(spec(Poisson(20.0), duration_s=SECONDS), seed=seed)


def answered(seed: int, server: int, slower: float = 1.0) -> Records:
    """The seed decides the requests, whose latencies differ widely; the server adds 5% of noise."""
    due = poisson(20.0, SECONDS, seed=seed)
    of_requests, of_server = np.random.default_rng(seed), np.random.default_rng(server + 10_000)
    ttft = of_requests.lognormal(np.log(0.1), 0.5, len(due)) * of_server.lognormal(0, 0.05, len(due)) * slower
    pace = of_requests.lognormal(np.log(0.01), 0.5, len(due)) * of_server.lognormal(0, 0.05, len(due))
    return run(due, ttft_s=ttft, tpot_s=pace)


def summarized(records: Records, seed: int) -> tuple[Summary, Records]:
    return summarize(records, spec=asked(seed), slo=OBJECTIVE), records


def compared(seeds: tuple[int, int], server: int = 0, slower: float = 1.0) -> Comparison:
    a, b = seeds
    return compare(
        summarized(answered(a, server), a),
        summarized(answered(b, server + 1, slower), b),
    )


def named(comparison: Comparison, name: str) -> Difference:
    return next(difference for difference in comparison.differences if difference.name == name)


def test_runs_of_one_seed_are_paired_and_others_not() -> None:
    assert compared((1, 1)).paired
    assert not compared((1, 2)).paired


@pytest.mark.parametrize(
    ("changes", "paired"),
    [({"model": "other"}, True), ({"seed": 5}, False), ({"arrivals": Poisson(21.0)}, False)],
)
def test_what_may_differ_between_paired_runs(changes: dict[str, object], paired: bool) -> None:
    assert pairable(asked(), msgspec.structs.replace(asked(), **changes)) is paired


def test_what_defeats_a_cache_does_not_part_a_pair() -> None:
    salted = msgspec.structs.replace(asked().content, salt=7, path="/serving-endpoints/x/invocations")
    assert pairable(asked(), msgspec.structs.replace(asked(), content=salted))


@pytest.mark.parametrize("apart", [0, 1000])
def test_equal_servers_are_rarely_told_apart(apart: int) -> None:
    found = [compared((seed, seed + apart), server=2 * seed) for seed in range(25)]
    assert sum(comparison.verdict != "no difference seen" for comparison in found) <= 4
    excluded = [not d.low <= 0 <= d.high for comparison in found for d in comparison.differences]
    assert np.mean(excluded) < 0.1  # 95% intervals


def test_a_few_percent_are_found_between_paired_runs_and_hidden_by_chance_between_others() -> None:
    paired, unpaired = compared((1, 1), slower=1.04), compared((1, 2), slower=1.04)
    p50 = named(paired, "TTFT p50")
    assert paired.verdict == p50.verdict == "worse"
    assert p50.low < 0.004 < p50.high
    assert abs(p50.difference) > p50.detectable
    assert named(unpaired, "TTFT p50").detectable > 2 * p50.detectable


def test_better_is_faster_for_latency_and_more_for_attainment() -> None:
    faster, slower = compared((1, 1), slower=0.5), compared((1, 1), slower=2.0)
    attained = "attained: 90% of requests with TTFT at most 200 ms"
    for comparison, verdict in ((faster, "better"), (slower, "worse")):
        assert comparison.verdict == verdict
        assert named(comparison, "TTFT p50").verdict == verdict
        assert named(comparison, "TTFT p99").verdict == verdict
        assert named(comparison, attained).verdict == verdict
        assert named(comparison, "TPOT p50").verdict == "no difference seen"


def test_one_worse_figure_makes_the_whole_worse() -> None:
    a = answered(1, 0)
    mixed = failing(answered(1, 1, slower=0.5), np.arange(len(a.requests)) % 4 == 0, Outcome.FAILED)
    found = compare(summarized(a, 1), summarized(mixed, 1))
    assert {"better", "worse"} <= {difference.verdict for difference in found.differences}
    assert found.verdict == "worse"


def test_lost_answers_lower_the_output() -> None:
    a = answered(1, 0)
    b = failing(answered(1, 1), np.arange(len(a.requests)) % 5 == 0, Outcome.TIMED_OUT)
    output = named(compare(summarized(a, 1), summarized(b, 1)), "output tokens/s")
    assert output.verdict == "worse"
    assert output.b / output.a == pytest.approx(0.8, abs=0.02)


def test_the_interval_that_is_shown_is_the_one_that_decided() -> None:
    for seed in range(12):
        for d in compared((seed, seed + 50), server=seed, slower=1.1).differences:
            outside = not d.low <= 0 <= d.high
            assert outside == (d.verdict != "no difference seen")


def test_what_the_runs_differ_in_is_named() -> None:
    records = answered(1, 0)
    given = msgspec.structs.replace(asked(1), arrivals=Poisson(21.0))
    a = summarize(records, spec=asked(1), slo=OBJECTIVE, target="m at http://a", server={"engine": "llamacpp"})
    b = summarize(records, spec=given, slo=OBJECTIVE, target="m at http://b", server={"engine": "simulated"})
    found = compare((a, records), (b, records))
    assert {(each.name, each.a, each.b) for each in found.differs} == {
        ("target", "m at http://a", "m at http://b"),
        ("server.engine", "llamacpp", "simulated"),
        ("arrivals.rate", "20.0", "21.0"),
    }
    assert compare((a, records), (a, records)).differs == ()


def test_a_salt_makes_no_difference() -> None:
    records = answered(1, 0)
    salted = msgspec.structs.replace(asked(1), content=msgspec.structs.replace(asked(1).content, salt=7))
    a, b = (summarize(records, spec=given, slo=OBJECTIVE) for given in (asked(1), salted))
    assert compare((a, records), (b, records)).differs == ()


def test_only_requests_that_both_sent_are_paired() -> None:
    whole, part = answered(1, 0), answered(1, 1)
    cut = replace(part, requests=part.requests[part.requests["number"] < 1500])
    found = compare(summarized(whole, 1), summarized(cut, 1))
    assert found.paired and found.requests[0] == found.requests[1] <= 1500


def test_a_p99_that_is_not_known_is_not_compared() -> None:
    records = run(np.arange(0, 100, 0.4), ttft_s=0.1)
    short = summarize(records, spec=asked()), records
    assert {d.name for d in compare(short, short).differences} & {"TTFT p99", "TPOT p99"} == set()


def test_runs_without_a_bad_request_are_not_known_to_the_last_percent() -> None:
    records = run(np.arange(0, 100, 0.1), ttft_s=0.1)
    both = summarize(records, spec=asked(), slo=OBJECTIVE), records
    attained = next(d for d in compare(both, both).differences if d.name.startswith("attained"))
    assert (attained.low, attained.high) == pytest.approx((-0.003, 0.003), rel=0.05)
    assert attained.detectable == pytest.approx(0.003, rel=0.05)


def test_a_comparison_with_an_invalid_run_is_not_valid() -> None:
    sound, crashed = answered(1, 0), answered(1, 1)
    crashed = replace(crashed, processes=(msgspec.structs.replace(HEALTHY, crashed="signal 9"),))
    assert compare(summarized(sound, 1), summarized(sound, 1)).valid
    assert not compare(summarized(sound, 1), summarized(crashed, 1)).valid


def test_too_few_requests_are_refused() -> None:
    records = run(np.arange(39.0))
    few = summarize(records, spec=asked()), records
    with pytest.raises(BenchError, match="39 requests in common are too few"):
        compare(few, few)


def test_the_same_seed_of_the_bootstrap_gives_the_same_comparison() -> None:
    records = changed(answered(1, 0), retries=0)
    pair = summarized(records, 1), summarized(answered(1, 1), 1)
    assert compare(*pair) == compare(*pair)
