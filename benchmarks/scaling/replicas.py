"""Replicas to simulate: iteration-time models fitted to what was measured on real ones.

``llama_70b_h100`` and ``llama_70b_a100``: Llama-2-70B, bfloat16, tensor-parallel over four GPUs, from the table of
prompt and token times that Patel et al. published with "Splitwise: Efficient Generative LLM Inference Using Phase
Splitting" (ISCA 2024; github.com/Mutinifni/splitwise-sim, MIT). ``fit.py`` makes the figures from it. ``smollm2``: the
profile that Headrace ships of its own embedded engine, one thread.

The chunk, the number of slots and the work weights follow from the model, as a profile of such an engine would find
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log10

from headrace.policy.work import (
    RAW_TOKENS,
    REFERENCE_INPUT_TOKENS,
    REFERENCE_OUTPUT_TOKENS,
    REFERENCE_WORK,
    Weights,
)
from headrace.profiles.fit import MeasuredShape, fit_weights
from headrace.profiles.profile import IterationTime
from headrace.profiles.simulate import replica_seconds, true_chunk

SHAPES = ((2048, 256), (1536, 64), (512, 64), (128, 256), (256, 32), (3072, 192))
"""Of a full profile."""
LONG_SHAPES = ((8192, 512), (32768, 512), (65536, 512))
"""Beside them, where contexts are long."""


@dataclass(frozen=True)
class Engine:
    """One replica."""

    name: str
    model: IterationTime
    slots: int
    """Of those tried, the number with the largest throughput / latency of reference requests."""
    chunk: float
    """Reference tokens/s, two significant digits."""
    weights: Weights


def engine(name: str, model: IterationTime, slots: int, *, long: bool = False) -> Engine:
    chunk = chunk_of(model, slots)
    step = 10.0 ** (floor(log10(chunk)) - 1)
    shapes = [
        MeasuredShape(new, out, _seconds(model, slots, new, out))
        for new, out in (*SHAPES, *(LONG_SHAPES if long else ()))
    ]
    return Engine(name, model, slots, floor(chunk / step) * step, fit_weights(shapes).weights)


def llama_70b_h100(*, long: bool = False) -> Engine:
    """40 measured points; the model misses them by 3.1% in the median, 13% at the 90th percentile."""
    model = IterationTime(
        base_s=0.02848,
        prefill_s=7.153e-05,
        decode_s=2.376e-04,
        context_s=1.63e-07,
        attention_s=1.114e-08,
        prefill_budget=2048,
    )
    return engine("Llama-2-70B, 4 H100", model, slots=23, long=long)


def llama_70b_a100() -> Engine:
    """As above: 3.8%, 13%."""
    model = IterationTime(
        base_s=0.04262,
        prefill_s=1.775e-04,
        decode_s=1.297e-04,
        context_s=5.05e-07,
        attention_s=2.262e-08,
        prefill_budget=2048,
    )
    return engine("Llama-2-70B, 4 A100", model, slots=15)


def smollm2() -> Engine:
    """The five times of the shipped profile are met to 0.01%; the chunk is the profile's own."""
    model = IterationTime(
        base_s=0.0067, prefill_s=0.005389, decode_s=0.0, context_s=6.577e-06, attention_s=1.3987e-06, prefill_budget=512
    )
    return engine("SmolLM2-135M, one core", model, slots=1)


def plain() -> Engine:
    """A made-up replica, whose reference tokens are tokens: that of the tests of the simulator."""
    model = IterationTime(base_s=0.02, prefill_s=1e-4, decode_s=1e-3, context_s=1e-7, prefill_budget=1024)
    return Engine("made up", model, 8, true_chunk(model, 8), RAW_TOKENS)


def chunk_of(model: IterationTime, slots: int) -> float:
    """Reference tokens/s, not rounded."""
    return REFERENCE_WORK / _seconds(model, slots, REFERENCE_INPUT_TOKENS, REFERENCE_OUTPUT_TOKENS)


def best_slots(model: IterationTime, most: int) -> int:
    """Throughput / latency of k reference requests is k / latency^2, and latency is k * replica seconds."""

    def merit(slots: int) -> float:
        return 1 / (slots * _seconds(model, slots, REFERENCE_INPUT_TOKENS, REFERENCE_OUTPUT_TOKENS) ** 2)

    return max(range(1, most + 1), key=merit)


def _seconds(model: IterationTime, slots: int, new: int, out: int) -> float:
    """Of a replica, for a request in a closed loop of clients that wait for their answers."""
    return replica_seconds(model, in_flight=slots, new=new, out=out, client_waits=True)
