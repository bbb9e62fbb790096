"""Engines with hidden parameters, and how far a profile of one is from its truth."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.bench.profiling.outcome import Measured
from headrace.bench.profiling.shapes import REFERENCE, Shape
from headrace.profiles.profile import IterationTime
from headrace.profiles.simulate import replica_seconds, true_chunk

BUDGETS = (128, 256, 384, 512, 1024, 2048)
MOST_SLOTS = (1, 1, 2, 3, 4, 8, 16)
REQUESTS = (
    Shape(1024, 128),
    Shape(128, 64),
    Shape(768, 160),
    Shape(1536, 192),
    Shape(300, 300),
    Shape(900, 40),
    Shape(200, 100),
    Shape(2048, 96),
    Shape(512, 256),
    Shape(1500, 500),
    Shape(1200, 100, cached_tokens=1000),
    Shape(2000, 200, cached_tokens=1500),
)
"""None of them is fitted to; input is at most 24 times output."""

STEEP = (Shape(2048, 64), Shape(1024, 16))
"""With several in flight, such requests alone would keep a replica busy with prompts and leave it nothing to decode
beside them: in a loop of nothing else they take longer than in any mix, and five smooth terms do not say both."""


def drawn(draw: random.Random) -> tuple[IterationTime, int]:
    """An engine and the most slots to try. Each parameter is spread over two to three decades, from engines whose
    iterations cost the same whatever is in them to those that pay for every token."""
    speed = 10 ** draw.uniform(-1, 0.5)
    return (
        IterationTime(
            base_s=speed * 10 ** draw.uniform(-4, -1.5),
            prefill_s=speed * 10 ** draw.uniform(-5, -3),
            decode_s=speed * 10 ** draw.uniform(-4.5, -2),
            context_s=speed * 10 ** draw.uniform(-9, -6),
            attention_s=draw.choice([0.0, speed * 10 ** draw.uniform(-10, -7)]),
            prefill_budget=draw.choice(BUDGETS),
        ),
        draw.choice(MOST_SLOTS),
    )


@dataclass(frozen=True, slots=True)
class Errors:
    """Of a profile, relative to the truth."""

    chunk: float
    """Of the mean that the chunk is rounded down from."""
    merit: float
    """By how much throughput / latency at the number of slots found falls short of the best number's."""
    work: float
    """Of the work weights, on the request that they are worst for."""
    worst: Shape
    """That request."""
    steep: float
    """Of the work weights, on the worse of ``STEEP``."""
    iteration: float
    """Of the iteration-time model, on the request that it is worst for."""
    chunk_in_interval: bool


def errors_of(
    measured: Measured, truth: IterationTime, most_slots: int, requests: Sequence[Shape] = REQUESTS
) -> Errors:
    """How far off a profile is that tried up to ``most_slots``."""
    profile = measured.profile
    slots = profile.slots

    def seconds(model: IterationTime, shape: Shape) -> float:
        return replica_seconds(
            model,
            in_flight=slots,
            new=shape.new_tokens,
            out=shape.output_tokens,
            cached=shape.cached_tokens,
            client_waits=True,
        )

    unit_s = seconds(truth, REFERENCE) / REFERENCE.tokens

    def work_error(shape: Shape) -> float:
        work = profile.weights.work(shape.new_tokens, shape.cached_tokens, shape.output_tokens)
        return work * unit_s / seconds(truth, shape) - 1

    work = {shape: work_error(shape) for shape in requests}
    worst = max(requests, key=lambda shape: abs(work[shape]))
    merit = {number: true_chunk(truth, number) ** 2 / number for number in range(1, most_slots + 1)}
    chunk = REFERENCE.tokens / seconds(truth, REFERENCE)
    assert profile.iteration is not None
    model = profile.iteration
    return Errors(
        chunk=profile.chunk_mean / chunk - 1,
        merit=1 - merit[slots] / max(merit.values()),
        work=work[worst],
        worst=worst,
        steep=max(map(work_error, STEEP), key=abs),
        iteration=max((seconds(model, shape) / seconds(truth, shape) - 1 for shape in requests), key=abs),
        chunk_in_interval=profile.chunk_low <= chunk <= profile.chunk_high,
    )
