"""What the end of a search says: no more than was seen, and what to do."""

from __future__ import annotations

from headrace.bench.capacity.answer import Answer
from headrace.bench.capacity.evidence import Told, usable
from headrace.bench.capacity.posterior import posterior
from headrace.bench.capacity.protocol import Probe
from headrace.bench.capacity.result import Counts, Result
from headrace.bench.capacity.wording import conclude

TARGETS = (0.9,)


def told(rate: float, good: int, n: int = 400) -> Told:
    probe = Probe("refine", seed=1, min_requests=1, max_requests=n, rate=rate)
    result = Result(
        counts=(Counts(good, n, 1.0),),
        requests=n,
        rejected=0,
        elapsed_s=n / rate,
        throughput=rate,
        throughput_error=0.05,
        drift=0.0,
        drift_error=0.01,
        input_tokens=8.0,
        output_tokens=4.0,
        work=None,
    )
    return probe, result


def answer(*probes: Told, confirmed: float | None = 2.0) -> Answer:
    belief = posterior(usable(probes), TARGETS, 0.1, 100.0)
    return conclude(probes, TARGETS, belief, limit="server", confirmed=confirmed, width=0.05)


def test_where_no_rate_failed_the_upper_end_is_called_an_expectation() -> None:
    found = answer(told(1.0, 400), told(2.0, 395), told(3.0, 360))
    assert "no rate that was tried missed the SLO" in found.reason and "lead to expect" in found.reason
    assert "; above" not in found.reason


def test_where_a_rate_failed_the_upper_end_is_said_to_miss_the_slo() -> None:
    found = answer(told(1.0, 400), told(2.0, 395), told(4.0, 100))
    assert found.reason.startswith("2 requests/s held in replicates of their own; above ")
    assert found.reason.endswith(" requests/s the SLO is missed")


def test_a_rate_that_failed_below_one_that_held_is_told_with_what_to_do() -> None:
    found = answer(told(1.0, 400), told(2.0, 300), told(3.0, 398))
    (words,) = [each for each in found.findings if each.startswith("attainment does not simply fall")]
    assert "2 requests/s missed the SLO and 3 held it" in words
    assert "search again without it; else put 2 requests/s on it for some minutes" in words
