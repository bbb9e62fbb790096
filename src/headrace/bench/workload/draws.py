"""Random numbers by counter: request i has its own, whoever asks for it and in whatever order."""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BLOCK = 4096
"""Numbers of requests that are drawn for at once."""


class Stream(IntEnum):
    """What random numbers are for. Each has its own of a seed, so that more of one leaves the others as they are."""

    ARRIVALS = 0
    LENGTHS = 1
    PLACES = 2
    ORDER = 3
    TOKENS = 4
    THINKING = 5


def generator(seed: int, stream: Stream, block: int = 0) -> np.random.Generator:
    """Independent of those of any other seed, stream and block (numpy's SeedSequence sees to it)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream, block))))


@lru_cache(maxsize=4)
def permutation(seed: int, turn: int, size: int) -> NDArray[np.int64]:
    """The order of a dataset of ``size`` requests in its ``turn``-th round."""
    return generator(seed, Stream.ORDER, turn).permutation(size)
