"""From samples of replica seconds to a profile, with its errors."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean

import msgspec

from headrace.bench.disturbance import DISTURBED
from headrace.bench.errors import BenchError
from headrace.bench.replicas import Replica
from headrace.bench.shapes import FULL_MENU, QUICK_MENU, REFERENCE, Menu, Shape
from headrace.bench.station import Turn
from headrace.engines.base import ModelSettings
from headrace.profiles.chunk import chunk_of, interval
from headrace.profiles.fit import Fit, MeasuredShape, fit_weights
from headrace.profiles.hardware import this_machine
from headrace.profiles.profile import Profile, ShapeResult


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a profile may take, in seconds from its start, replicas' start included."""

    quick: bool
    budget_s: float
    """What is begun is chosen so that it ends by then."""
    limit_s: float
    """Where the machine is so slow that one round takes longer than the budget, the round is finished; up to here."""
    menu: Menu


QUICK = Effort(quick=True, budget_s=55.0, limit_s=240.0, menu=QUICK_MENU)
FULL = Effort(quick=False, budget_s=540.0, limit_s=1800.0, menu=FULL_MENU)


class OperatingPoint(msgspec.Struct, frozen=True):
    """Reference requests with ``slots`` in flight."""

    slots: int
    tokens_per_s: float
    """Of one replica; reference tokens, which on this workload are input + output."""
    latency_s: float
    """Of one request: slots * replica seconds (Little's law)."""

    @property
    def merit(self) -> float:
        return self.tokens_per_s / self.latency_s


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A profile, and what else its measurement told."""

    profile: Profile
    held_out: ShapeResult
    """A shape that the weights were not fitted to."""
    held_out_error: float
    """Predicted over measured seconds of it, less 1."""
    operating_points: tuple[OperatingPoint, ...]
    """Tried on the way to the number of slots; empty where it was given."""
    others: float | None
    """Part of the cores' time that others used meanwhile."""
    disturbed: bool
    """So much that the figures may be wrong: measure again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """All that was seen."""

    model: ModelSettings
    effort: Effort
    slots: int
    """Requests that were kept in flight on each replica."""
    turns: Sequence[Turn]
    replicas: Sequence[Replica]
    operating_points: tuple[OperatingPoint, ...]
    memory_bytes: int | None
    others: float | None
    duration_s: float


def evaluate(seen: Measurement) -> Measured:
    """The profile. Raises BenchError where what was seen promises nothing."""
    model, menu = seen.model, seen.effort.menu
    seconds = {shape: [turn.seconds for turn in seen.turns if turn.shape == shape] for shape in menu.all}
    rates = interval([REFERENCE.tokens / each for each in seconds[REFERENCE]])
    fit = _fitted(menu.fitted, seconds)
    shapes = tuple(_shape_result(shape, seen.turns, fit) for shape in menu.fitted)
    held_out = _shape_result(menu.held_out, seen.turns, fit)
    try:
        chunk = chunk_of(rates.low)
    except ValueError as error:
        raise BenchError(f"no chunk can be promised: {error}") from None
    starts = [replica.start_s for replica in seen.replicas if replica.start_s is not None]
    disturbed = seen.others is not None and seen.others > DISTURBED
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
        slots=seen.slots,
        weights=fit.weights,
        fit_error=fit.error,
        held_out=held_out,
        shapes=shapes,
        replicas_loaded=len(seen.replicas),
        start_s=max(starts, default=None),
        memory_bytes=seen.memory_bytes,
        hardware=this_machine() if model.engine != "openai" else None,
        measured_at=now.isoformat(timespec="seconds"),
        duration_s=round(seen.duration_s, 1),
        method=_method(seen, len(seconds[REFERENCE])),
        simulated=model.engine == "simulated",
    )
    return Measured(
        profile=profile,
        held_out=held_out,
        held_out_error=held_out.predicted_s / held_out.seconds - 1,
        operating_points=seen.operating_points,
        others=seen.others,
        disturbed=disturbed,
    )


def _fitted(shapes: Sequence[Shape], seconds: dict[Shape, list[float]]) -> Fit:
    measured = [MeasuredShape(shape.input_tokens, shape.output_tokens, fmean(seconds[shape])) for shape in shapes]
    try:
        return fit_weights(measured)
    except ValueError as error:
        raise BenchError(f"no work weights can be fitted: {error}") from None


def _shape_result(shape: Shape, turns: Sequence[Turn], fit: Fit) -> ShapeResult:
    mine = [turn for turn in turns if turn.shape == shape]
    return ShapeResult(
        input_tokens=shape.input_tokens,
        output_tokens=shape.output_tokens,
        seconds=fmean(turn.seconds for turn in mine),
        predicted_s=fit.seconds(shape.input_tokens, 0, shape.output_tokens),
        requests=sum(turn.requests for turn in mine),
    )


def _method(seen: Measurement, samples: int) -> str:
    words = (
        f"{'quick: ' if seen.effort.quick else ''}closed loop, {seen.slots} in flight on each of {len(seen.replicas)} "
        "loaded replicas, distinct token-id prompts, shapes in random order; chunk from "
        f"{samples} samples of reference requests"
    )
    if seen.others is not None:
        words += f"; others used {seen.others:.0%} of the cores"
    return words
