"""A small endpoint to simulate, and its clients."""

from __future__ import annotations

import random
from typing import Any

from headrace.policy.scaling import Knobs
from headrace.policy.terms import Terms
from headrace.policy.work import RAW_TOKENS
from headrace.profiles.profile import IterationTime
from headrace.profiles.simulate import true_chunk

MODEL = IterationTime(base_s=0.02, prefill_s=1e-4, decode_s=1e-3, context_s=1e-7, prefill_budget=1024)
SLOTS = 8
CHUNK = true_chunk(MODEL, SLOTS)
"""Reference tokens/s: 8 at a time, each of 2048/256."""
KNOBS = Knobs()


def terms(**more: Any) -> Terms:
    given: dict[str, Any] = {
        "chunk": CHUNK,
        "min_chunks": 1,
        "max_chunks": 8,
        "weights": RAW_TOKENS,
        "context": 8192,
        "slots": SLOTS,
        "default_max_tokens": 512,
    }
    return Terms(**{**given, **more})


def poisson(chunks: float, seconds: float, *, seed: int = 1, start_s: float = 0.0) -> list[tuple[float, int, int]]:
    """Reference requests that come at random, so many chunks of them."""
    draw = random.Random(seed)
    rate = chunks * CHUNK / 2304
    found: list[tuple[float, int, int]] = []
    now = start_s
    while (now := now + draw.expovariate(rate)) < start_s + seconds:
        found.append((now, 2048, 256))
    return found
