"""The belief about the capacity, on a grid of the logarithm of the rate.

Attainment is taken to fall with the rate, and its logit to be about linear in log rate near the capacity, with one
unknown slope below and another above (a queue declines slowly and then collapses). Each probe may lie off that line by
a factor of about two in slope, or be nowhere near it: a probe far from the capacity says on which side it is and little
more, since the shape of the curve out there is nobody's to assume. What does not fit even so widens everything
(``overdispersion``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from headrace.bench.capacity.evidence import Evidence, Told, drifts, evidence
from headrace.bench.capacity.scout import Saturation

Array = NDArray[np.float64]

SLOPES = 2.0 ** np.concatenate(([-6.0, -4.0, -2.0, -1.0], np.arange(0, 9.1, 0.5)))
"""Fall of the logit of attainment per unit of log rate: from flat, where the capacity cannot be told, to a cliff."""
SLOPE_SD = 0.4
"""Of the logarithm of the factor by which the slope towards one probe may differ."""
ASTRAY = 0.1
"""Prior probability that a probe is not near the line at all, and tells only on which side of the capacity it is."""
STEP = 0.1
DEPTHS = np.arange(math.log(1e-4), math.log(1e3), STEP)
"""Logarithms of the distance from the target in logit: slope times distance in log rate."""
ANY_DEPTH = (math.log(0.02) < DEPTHS) & (math.log(20.0) > DEPTHS)
"""Where a probe that is astray may be."""
BLUR = np.exp(-0.5 * (np.arange(-12, 13) * STEP / SLOPE_SD) ** 2)
COARSE = 100
FINE = 120
NEGLIGIBLE = 1e-4
"""Mass on either side that the fine part of the grid may leave to the coarse part."""
BACKLOG_FIRST = 0.1
"""Prior probability that the backlog grows at a rate where all limits are met, while no saturation was seen."""
SATURATED = 0.9
"""Probability that an open loop can bring no more than the closed loop did when more users brought no more."""
PRIOR_WEIGHT = 3.0
"""Probes' worth of belief that the model fits."""


@dataclass(frozen=True)
class Curve:
    """Belief about one criterion: log weights over capacity and slope on either side, capacity first."""

    target: float
    width: Array
    """Of each grid point's cell."""
    below: Array
    above: Array

    @cached_property
    def mass(self) -> Array:
        """Probability of each cell."""
        log_density = _log_sum(self.below) + _log_sum(self.above)
        mass = np.exp(log_density - log_density.max()) * self.width
        return np.asarray(mass / mass.sum())

    @cached_property
    def slopes(self) -> tuple[Array, Array]:
        """Probability of each slope below and above the capacity, given the cell."""
        sides = (np.exp(side - side.max(axis=1, keepdims=True)) for side in (self.below, self.above))
        below, above = (side / side.sum(axis=1, keepdims=True) for side in sides)
        return below, above


@dataclass(frozen=True)
class Posterior:
    grid: Array
    """Of log capacity."""
    width: Array
    """Of each grid point's cell."""
    curves: tuple[Curve, ...]
    stable: Array
    """Probability that the backlog does not yet grow at each grid point."""
    overdispersion: float
    """By how much more the probes scatter about the model than their counts explain; at least 1."""

    @cached_property
    def cdf(self) -> Array:
        """Of the capacity where all criteria hold, at the upper ends of cells."""
        above = self.stable.copy()
        for curve in self.curves:
            above *= 1 - np.cumsum(curve.mass)
        return 1 - np.clip(above, 0.0, 1.0)

    def quantile(self, share: float) -> float:
        """Of the capacity, in requests/s."""
        edges = self.grid + self.width / 2
        return math.exp(
            float(
                np.interp(share, np.concatenate(([0.0], self.cdf)), np.concatenate(([edges[0] - self.width[0]], edges)))
            )
        )

    def attainment(self, rate: float, criterion: int) -> float:
        """Expected at ``rate``."""
        curve, x = self.curves[criterion], math.log(rate)
        # Most cells are out of the question.
        some = curve.mass > 1e-6
        slope = np.where((self.grid[some] >= x)[:, None], curve.slopes[0][some], curve.slopes[1][some])
        logit = _logit(curve.target) + SLOPES * (self.grid[some] - x)[:, None]
        return float(curve.mass[some] @ (slope * expit(logit)).sum(axis=1) / curve.mass[some].sum())


def posterior(
    told: Sequence[Told],
    targets: Sequence[float],
    lowest: float,
    highest: float,
    saturation: Saturation | None = None,
) -> Posterior:
    """Of ``usable`` probes; the capacity is somewhere in ``[lowest, highest]`` requests/s, a priori at any of its
    logarithms alike, but not above ``saturation``."""
    data = [evidence(told, criterion, target) for criterion, target in enumerate(targets)]
    coarse = np.linspace(math.log(lowest), math.log(highest), COARSE)
    first = _on_grid(coarse, data, targets, told, 1.0, saturation)
    cdf = first.cdf
    low = max(int(np.searchsorted(cdf, NEGLIGIBLE)) - 1, 0)
    high = min(int(np.searchsorted(cdf, 1 - NEGLIGIBLE)) + 1, COARSE - 1)
    grid = np.concatenate((coarse[:low], np.linspace(coarse[low], coarse[high], FINE), coarse[high + 1 :]))
    found = _on_grid(grid, data, targets, told, 1.0, saturation)
    excess = max(_overdispersion(found, each, criterion) for criterion, each in enumerate(data))
    return _on_grid(grid, data, targets, told, excess, saturation) if excess > 1 else found


def _on_grid(
    grid: Array,
    data: Sequence[Evidence],
    targets: Sequence[float],
    told: Sequence[Told],
    excess: float,
    saturation: Saturation | None,
) -> Posterior:
    curves = tuple(_curve(grid, each, target, excess) for each, target in zip(data, targets, strict=True))
    return Posterior(grid, np.gradient(grid), curves, _stable(grid, data[0].rate, *drifts(told), saturation), excess)


def _curve(grid: Array, data: Evidence, target: float, excess: float) -> Curve:
    if not len(data.rate):
        nothing = np.zeros((len(grid), len(SLOPES)))
        return Curve(target, np.gradient(grid), nothing, nothing)
    below = np.zeros((len(grid), len(SLOPES)))
    above = np.zeros_like(below)
    slopes = np.log(SLOPES)
    for rate, good, bad in zip(np.log(data.rate), data.good / excess, data.bad / excess, strict=True):
        under = int(np.searchsorted(grid, rate))
        depth = np.log(np.maximum(np.abs(grid - rate), 1e-12))[:, None] + slopes
        place = np.clip(((depth - DEPTHS[0]) / STEP + 0.5).astype(np.intp), 0, len(DEPTHS) - 1)
        above[:under] += _by_depth(good, bad, target, -1)[place[:under]]
        below[under:] += _by_depth(good, bad, target, 1)[place[under:]]
    return Curve(target, np.gradient(grid), below, above)


def _by_depth(good: float, bad: float, target: float, side: int) -> Array:
    """Log likelihood of a probe below (1) or above (-1) the capacity, at each of ``DEPTHS``, the factor on its slope
    integrated out."""
    logit = _logit(target) + side * np.exp(DEPTHS)
    # good log p + bad log(1 - p), with log(1 - p) = log p - logit.
    log_likelihood = (good + bad) * (np.minimum(logit, 0.0) - np.log1p(np.exp(-np.abs(logit)))) - bad * logit
    best = log_likelihood.max()
    likelihood = np.exp(log_likelihood - best)
    near = np.convolve(np.pad(likelihood, len(BLUR) // 2, mode="edge"), BLUR / BLUR.sum(), mode="valid")
    return np.asarray(best + np.log((1 - ASTRAY) * near + ASTRAY * likelihood[ANY_DEPTH].mean() + 1e-300))


def _stable(grid: Array, rate: Array, share: Array, error: Array, saturation: Saturation | None) -> Array:
    """A server that does ``c`` requests/s leaves 1 - c / rate of the arrivals in the backlog, and none below ``c``.

    In most services limits are missed before the backlog grows, and ``c`` is seen in a closed loop only.
    """
    expected = np.maximum(1 - np.exp(grid[None, :] - np.log(rate)[:, None]), 0.0)
    against = (((share[:, None] - expected) / error[:, None]) ** 2).sum(axis=0) / 2
    never = ((share / error) ** 2).sum() / 2
    best = min(float(against.min()), float(never))
    width = np.gradient(grid)
    first, prior = BACKLOG_FIRST, BACKLOG_FIRST * width / width.sum()
    if saturation is not None:
        near = np.exp(-0.5 * ((grid - math.log(saturation.rate)) / saturation.error) ** 2) * width
        prior = (1 - SATURATED) * prior + SATURATED * near / near.sum()
        first = float(prior.sum())
    mass = np.exp(best - against) * prior
    above = np.cumsum(mass[::-1])[::-1] - mass + (1 - first) * math.exp(best - float(never))
    return np.asarray(above / (above[0] + mass[0]))


def _overdispersion(found: Posterior, data: Evidence, criterion: int) -> float:
    """Squared residuals of the counts about the expected attainment, per probe, with a prior that they fit."""
    target = found.curves[criterion].target
    squares, probes = 0.0, 0
    for rate, good, bad in zip(data.rate, data.good, data.bad, strict=True):
        share = found.attainment(float(rate), criterion)
        n = good + bad
        # Only where the line is meant to hold: near the target in attainment.
        if n * (1 - target) < 1 or not target - 3 * (1 - target) < share < 1 - (1 - target) / 5:
            continue
        off = 0.4 * (_logit(share) - _logit(target)) * share * (1 - share)
        squares += (good / n - share) ** 2 / (share * (1 - share) / n + off**2)
        probes += 1
    return max((squares + PRIOR_WEIGHT) / (max(probes - 2, 0) + PRIOR_WEIGHT), 1.0)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _log_sum(log_weights: Array) -> Array:
    best = log_weights.max(axis=1)
    return np.asarray(best + np.log(np.exp(log_weights - best[:, None]).sum(axis=1)))
