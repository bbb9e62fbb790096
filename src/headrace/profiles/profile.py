"""A profile: what was measured of one replica of a model on one kind of hardware."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from headrace.policy.work import Weights


class IterationTime(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of one engine iteration: ``base_s + prefill_s * p + decode_s * d + context_s * c + attention_s * a``.

    p: prompt tokens processed in it; d: sequences decoding; c: tokens of context read, summed over all sequences in the
    iteration; a: pairs of a prompt token of the iteration and a token before it. That iteration time is affine in the
    first three is what continuous-batching engines report; the last is attention in prefill, which an engine bound by
    computation pays for each token and not for each iteration.
    """

    base_s: float
    prefill_s: float
    decode_s: float
    context_s: float
    prefill_budget: int = 512
    """Most prompt tokens in one iteration."""
    attention_s: float = 0.0

    def seconds(
        self, prefill_tokens: int, decode_sequences: int, context_tokens: float, attention_pairs: float = 0.0
    ) -> float:
        return (
            self.base_s
            + self.prefill_s * prefill_tokens
            + self.decode_s * decode_sequences
            + self.context_s * context_tokens
            + self.attention_s * attention_pairs
        )


class Hardware(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured; a profile from elsewhere is foreign."""

    cpu: str
    cores: int
    memory_bytes: int
    machine: str
    """Architecture, such as x86_64."""


class ShapeResult(msgspec.Struct, frozen=True, kw_only=True):
    """Replica seconds of one request of a shape in a closed loop at the operating point."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    seconds: float
    """Measured."""
    predicted_s: float
    """By the fitted weights."""
    requests: int
    """Requests measured."""


Range = tuple[float, float]
"""Lower and upper end of a 95% interval."""


class Intervals(msgspec.Struct, frozen=True, kw_only=True):
    """95% intervals, from the means of blocks that were measured apart in time. None: there is nothing to tell by."""

    weights: tuple[Weights, Weights] | None = None
    """Each weight's lower and upper end. Weights move together: a request's work is known better than they are."""
    iteration: tuple[IterationTime, IterationTime] | None = None
    start_s: Range | None = None
    memory_bytes: Range | None = None
    slots: tuple[int, int] | None = None
    """The numbers of slots that may as well be the best one."""


class OperatingPoint(msgspec.Struct, frozen=True):
    """Reference requests with ``slots`` in flight."""

    slots: int
    tokens_per_s: float
    """Of one replica; reference tokens, which on this workload are input + output."""
    latency_s: float
    """Of one request: slots * replica seconds (Little's law)."""
    tokens_per_s_range: Range | None = None
    ttft_s: float | None = None
    """Mean."""
    tpot_s: float | None = None
    meets_target: bool | None = None
    """The latency target that was given; None where none was."""

    @property
    def merit(self) -> float:
        """Throughput / latency."""
        return self.tokens_per_s / self.latency_s


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One file in ``profiles/``. Immutable; a new measurement is a new profile with another id."""

    id: str
    model: str
    model_version: str
    model_sha256: str | None
    engine: str
    engine_version: str | None
    status: Literal["provisional", "quick", "measured", "doubtful"]
    """Doubtful is never in a file: a profile with ``problems`` is sold as such."""
    chunk: int
    """Reference tokens/s of one replica with all replicas of the machine loaded: lower end of the 95% interval, rounded
    down to two significant digits."""
    chunk_mean: float
    chunk_low: float
    chunk_high: float
    slots: int
    """k: requests in flight on a replica at the operating point."""
    weights: Weights
    fit_error: float
    """Largest relative error of the fitted replica seconds over the measured shapes."""
    shapes: tuple[ShapeResult, ...]
    held_out: ShapeResult | None = None
    """A measured shape that the weights were not fitted to: how well they predict what they did not see."""
    replicas_loaded: int
    """Replicas that ran at the same time when the chunk was measured."""
    start_s: float | None
    """Start of a replica process to ready."""
    memory_bytes: int | None
    """Resident memory of one replica under load."""
    hardware: Hardware | None
    measured_at: str | None
    """ISO 8601, UTC; None for a shipped profile."""
    duration_s: float
    method: str
    """In words."""
    simulated: bool = False
    """The engine was the simulated one: the figures are nobody's model."""
    iteration: IterationTime | None = None
    """How long the engine's iterations take; None where it was not measured."""
    iteration_error: float | None = None
    """Largest relative error of the iteration-time model on the shapes that nothing was fitted to."""
    held_out_shapes: tuple[ShapeResult, ...] = ()
    """All shapes that the weights were not fitted to; ``held_out`` is the one that they predict worst."""
    cached_tokens: Literal["measured", "assumed"] | None = None
    """Where ``weights.w_c`` comes from. Assumed: the engine keeps or tells no cached tokens, so each weighs as much
    as a new one without its attention, which is never too little."""
    operating_points: tuple[OperatingPoint, ...] = ()
    """Tried on the way to the number of slots; empty where it was given."""
    starts_s: tuple[float, ...] = ()
    """Each start of a replica that was measured; the first one may have read the weights from disk."""
    intervals: Intervals | None = None
    cut_short: tuple[str, ...] = ()
    """What there was no time for, in words."""
    pace: dict[str, Any] | None = None
    """Settings of the model that change what a replica can do, as they were; None: not recorded."""
    problems: tuple[str, ...] = ()
    """Why the measurement is not valid, in words. Empty: it is."""
