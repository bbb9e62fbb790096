"""A profile: what was measured of one replica of a model on one kind of hardware."""

from __future__ import annotations

from typing import Literal

import msgspec

from headrace.policy.work import Weights


class IterationTime(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of one engine iteration: ``base_s + prefill_s * p + decode_s * d + context_s * c``.

    p: prompt tokens processed in it; d: sequences decoding; c: tokens of context read, summed over all sequences in the
    iteration. Form after the report of continuous-batching engines that iteration time is affine in these three.
    """

    base_s: float
    prefill_s: float
    decode_s: float
    context_s: float
    prefill_budget: int = 512
    """Most prompt tokens in one iteration."""

    def seconds(self, prefill_tokens: int, decode_sequences: int, context_tokens: float) -> float:
        return (
            self.base_s
            + self.prefill_s * prefill_tokens
            + self.decode_s * decode_sequences
            + self.context_s * context_tokens
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


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One file in ``profiles/``. Immutable; a new measurement is a new profile with another id."""

    id: str
    model: str
    model_version: str
    model_sha256: str | None
    engine: str
    engine_version: str | None
    status: Literal["provisional", "quick", "measured"]
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
