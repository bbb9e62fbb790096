"""From the blocks to a profile, with its errors."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import fmean

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.bench.errors import BenchError
from headrace.bench.profiling.course import Course
from headrace.bench.profiling.effort import Effort
from headrace.bench.profiling.evidence import Blocks, middle, over_time
from headrace.bench.profiling.iteration import IterationEvidence, fit_blocks, predicted_s
from headrace.bench.profiling.replicas import Replica
from headrace.bench.profiling.shapes import REFERENCE, Case, Shape
from headrace.bench.profiling.validity import disturbances, error, inaccuracies
from headrace.engines.base import ModelSettings
from headrace.policy.work import Weights
from headrace.profiles.chunk import chunk_of, interval
from headrace.profiles.fit import Fit, MeasuredShape, fit_weights
from headrace.profiles.hardware import this_machine
from headrace.profiles.iteration import refit
from headrace.profiles.profile import Intervals, IterationTime, Profile, Range, ShapeResult


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A profile, and what else its measurement told."""

    profile: Profile
    held_out_error: float
    """Of the work weights, on the shape that they predict worst: predicted over measured seconds, less 1."""
    others: float | None
    """Part of the cores' time that others used meanwhile."""
    blocks: int
    disturbed_blocks: int
    """They count for nothing where undisturbed ones of the case are there."""
    disturbed: bool
    """By others, and so much that the figures may be wrong: measure again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """All that was seen."""

    model: ModelSettings
    effort: Effort
    course: Course
    replicas: Sequence[Replica]
    starts_s: Sequence[float]
    memory_bytes: Sequence[int]
    """By replica, the most that was seen."""
    others: float | None
    duration_s: float


def evaluate(seen: Measurement) -> Measured:
    """The profile. Raises BenchError where what was seen promises nothing."""
    model, course = seen.model, seen.course
    blocks = Blocks(course.turns)
    reference = over_time(blocks.of(Case(REFERENCE, course.slots)))
    rates = interval([REFERENCE.tokens / seconds for seconds in reference])
    try:
        chunk = chunk_of(rates.low)
    except ValueError as reason:
        raise BenchError(f"no chunk can be promised: {reason}") from None
    cases = _weight_cases(course)
    fit = _fitted(blocks, cases)
    iteration = fit_blocks(blocks, course)
    held_out = tuple(_result(blocks, Case(shape, course.slots), fit) for shape in course.menu.held_out)
    worst = max(held_out, key=error)
    disturbed = disturbances(course, blocks)
    now = datetime.now(UTC)
    profile = Profile(
        id=f"{model.name}-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}",
        model=model.name,
        model_version=model.version,
        model_sha256=model.sha256,
        engine=model.engine,
        engine_version=seen.replicas[0].engine_version,
        status="quick" if seen.effort.quick else "measured",
        chunk=chunk,
        chunk_mean=rates.mean,
        chunk_low=rates.low,
        chunk_high=rates.high,
        slots=course.slots,
        weights=_with_cached(fit.weights, course),
        fit_error=fit.error,
        held_out=worst,
        shapes=tuple(_result(blocks, case, fit) for case in cases),
        replicas_loaded=len(seen.replicas),
        start_s=max(seen.starts_s, default=None),
        memory_bytes=max(seen.memory_bytes, default=None),
        hardware=this_machine() if model.engine != "openai" else None,
        measured_at=now.isoformat(timespec="seconds"),
        duration_s=round(seen.duration_s, 1),
        method=_method(seen, blocks),
        simulated=model.engine == "simulated",
        iteration=iteration.model,
        iteration_error=max(
            abs(predicted_s(iteration.model, blocks.of(case)) / blocks.mean_s(case) - 1)
            for case in (Case(shape, course.slots) for shape in course.menu.held_out)
        ),
        held_out_shapes=held_out,
        cached_tokens="measured" if course.menu.cached else "assumed",
        operating_points=course.operating_points,
        starts_s=tuple(seen.starts_s),
        intervals=_intervals(seen, blocks, cases, iteration),
        cut_short=course.cut_short,
        pace=model.pace,
        problems=disturbed + inaccuracies(rates, held_out),
    )
    return Measured(
        profile=profile,
        held_out_error=worst.predicted_s / worst.seconds - 1,
        others=seen.others,
        blocks=len(course.turns),
        disturbed_blocks=sum(turn.disturbed for turn in course.turns),
        disturbed=bool(disturbed),
    )


def _weight_cases(course: Course) -> list[Case]:
    shapes = (*course.menu.fitted, *((course.menu.cached,) if course.menu.cached else ()))
    return [Case(shape, course.slots) for shape in shapes]


def _fitted(blocks: Blocks, cases: Sequence[Case], factors: Sequence[float] | None = None) -> Fit:
    """``factors``: by which the measured seconds are multiplied."""
    measured = [
        MeasuredShape(
            case.shape.input_tokens,
            case.shape.output_tokens,
            blocks.mean_s(case) * (1.0 if factors is None else factors[number]),
            _cached(blocks, case),
        )
        for number, case in enumerate(cases)
    ]
    try:
        return fit_weights(measured)
    except ValueError as reason:
        raise BenchError(f"no work weights can be fitted: {reason}") from None


def _cached(blocks: Blocks, case: Case) -> int:
    """What the engine told, which keeps whole blocks of tokens."""
    return round(fmean(turn.cached_tokens for turn in blocks.of(case)))


def _with_cached(weights: Weights, course: Course) -> Weights:
    """Not measured, a cached token weighs as much as a new one, so that the work is never less than it takes."""
    return weights if course.menu.cached else replace(weights, w_c=weights.w_in)


def _result(blocks: Blocks, case: Case, fit: Fit) -> ShapeResult:
    shape: Shape = case.shape
    cached = _cached(blocks, case)
    return ShapeResult(
        input_tokens=shape.input_tokens,
        output_tokens=shape.output_tokens,
        cached_tokens=cached,
        seconds=blocks.mean_s(case),
        predicted_s=fit.seconds(shape.input_tokens - cached, cached, shape.output_tokens),
        requests=sum(turn.block.measured for turn in blocks.of(case)),
    )


def _intervals(seen: Measurement, blocks: Blocks, cases: Sequence[Case], iteration: IterationEvidence) -> Intervals:
    course = seen.course
    weights: tuple[Weights, Weights] | None = None
    times: tuple[IterationTime, IterationTime] | None = None
    if blocks.noise is not None:
        drawn = [_fitted(blocks, cases, row).weights for row in blocks.draws(cases, seed=0)]
        low, high = middle(np.array([[w.w_in, w.w_out, w.w_pp, w.w_dd, w.w_c] for w in drawn]))
        weights = (_with_cached(Weights(*map(float, low)), course), _with_cached(Weights(*map(float, high)), course))
        seconds = np.array(iteration.seconds)
        models = [refit(iteration.fit, seconds * row) for row in blocks.draws(iteration.cases, seed=1)]
        low, high = middle(np.array([[m.base_s, m.prefill_s, m.decode_s, m.context_s, m.attention_s] for m in models]))
        times = (_times(low, iteration.model), _times(high, iteration.model))
    return Intervals(
        weights=weights,
        iteration=times,
        start_s=_range(seen.starts_s),
        memory_bytes=_range(seen.memory_bytes),
        slots=course.slots_as_good,
    )


def _times(values: NDArray[np.float64], model: IterationTime) -> IterationTime:
    base_s, prefill_s, decode_s, context_s, attention_s = map(float, values)
    return IterationTime(
        base_s=base_s,
        prefill_s=prefill_s,
        decode_s=decode_s,
        context_s=context_s,
        attention_s=attention_s,
        prefill_budget=model.prefill_budget,
    )


def _range(samples: Sequence[float]) -> Range | None:
    if len(samples) < 2:
        return None
    known = interval(samples)
    return max(0.0, known.low), known.high


def _method(seen: Measurement, blocks: Blocks) -> str:
    course = seen.course
    reference = blocks.of(Case(REFERENCE, course.slots))
    words = (
        f"{'quick: ' if seen.effort.quick else ''}closed loop, {course.slots} in flight on each of "
        f"{len(seen.replicas)} loaded replicas, distinct token-id prompts, cases in random order; chunk from "
        f"{len(reference)} blocks of reference requests"
    )
    if not course.menu.cached:
        words += "; the engine keeps or tells no cached tokens, so their weight is assumed"
    if seen.others is not None:
        words += f"; others used {seen.others:.0%} of the cores"
    return words
