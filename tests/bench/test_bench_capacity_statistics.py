"""Figures that capacity verdicts rest on, against known values and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from headrace.bench.capacity.statistics import (
    design_effect,
    requests_to_show,
    sequential_verdict,
    share_bounds,
    share_verdict,
)


@pytest.mark.parametrize(
    ("target", "alpha", "bad", "n"),
    [(0.99, 0.05, 0, 299), (0.99, 0.05, 5, 1049), (0.99, 0.01, 0, 459), (0.95, 0.05, 1, 93), (0.90, 0.05, 10, 167)],
)
def test_the_fewest_requests_that_pass_are_those_of_mlperf(target: float, alpha: float, bad: int, n: int) -> None:
    assert share_verdict(n - bad, n, target, alpha) == "PASS"
    assert share_verdict(n - 1 - bad, n - 1, target, alpha) == "UNRESOLVED"


def test_bounds_are_those_of_clopper_and_pearson() -> None:
    lower, upper = share_bounds(9, 10, 0.025)
    assert (lower, upper) == (pytest.approx(0.55498, abs=1e-5), pytest.approx(0.99747, abs=1e-5))
    assert share_bounds(10, 10, 0.05)[1] == 1.0 and share_bounds(0, 10, 0.05)[0] == 0.0


def test_a_sequential_test_asked_after_every_request_is_seldom_wrong() -> None:
    random, wrong, lengths = np.random.default_rng(1), 0, []
    for _ in range(400):
        good = np.cumsum(random.random(5000) < 0.85)
        for n in range(1, 5001):
            if (said := sequential_verdict(float(good[n - 1]), n, 0.9, 0.05)) != "UNRESOLVED":
                wrong += said == "PASS"
                lengths.append(n)
                break
    # Wald: at most 5%; 3 standard errors of 400 trials above that.
    assert wrong <= 400 * 0.05 + 3 * math.sqrt(400 * 0.05 * 0.95)
    assert np.mean(lengths) < 120


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_the_design_effect_of_a_chain_is_seen_and_not_understated(memory: float) -> None:
    random, true = np.random.default_rng(1), (1 + memory) / (1 - memory)
    seen = []
    for _ in range(60):
        renewed = random.random(4000) >= memory
        fates = random.random(4000) < 0.9
        seen.append(design_effect(fates[np.maximum.accumulate(np.where(renewed, np.arange(4000), 0))]))
    assert 0.95 * true < np.mean(seen) < 2 * true


def test_a_sample_too_small_or_all_alike_shows_no_correlation() -> None:
    assert design_effect(np.array([True, False] * 9)) == 1.0
    assert design_effect(np.ones(100, dtype=bool)) == 1.0


def test_the_requests_planned_for_show_a_share_with_the_wished_probability() -> None:
    n = math.ceil(requests_to_show(0.94, 0.9, 0.05, 0.8))
    good = np.random.default_rng(1).binomial(n, 0.94, 2000)
    passed = np.mean([share_verdict(float(each), n, 0.9, 0.05) == "PASS" for each in good])
    assert 0.72 < passed < 0.9
    assert requests_to_show(0.9, 0.9, 0.05, 0.8) == math.inf
