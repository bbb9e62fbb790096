"""Lengths of requests in tokens, drawn by number: of distributions, or the pairs of a dataset."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from headrace.bench.errors import BenchError
from headrace.bench.workload.draws import BLOCK, Stream, generator, permutation
from headrace.bench.workload.spec import Lengths, LogNormal, Normal, Uniform

LEAST_SHARE = 1e-3
"""Of a distribution that must lie inside its limits: with less, the limits say more about the lengths than it does."""

Tokens = NDArray[np.int64]


def check(lengths: Lengths, what: str) -> None:
    """Raises BenchError where these are no lengths; ``what`` names them."""
    if not 1 <= lengths.low <= lengths.high:
        raise BenchError(
            f"{what} lengths lie between {lengths.low} and {lengths.high} tokens; expected 1 or more, the lower first"
        )
    if isinstance(lengths, Uniform):
        return
    centre, spread = (lengths.mean, lengths.sd) if isinstance(lengths, Normal) else (lengths.median, lengths.sigma)
    if not (math.isfinite(centre) and centre > 0 and math.isfinite(spread) and spread >= 0):
        raise BenchError(
            f"{what} lengths have a centre of {centre:g} tokens and a spread of {spread:g}; expected a centre above 0 "
            "and a spread of 0 or more"
        )
    below, above = _limits(lengths)
    if above - below < LEAST_SHARE:
        raise BenchError(
            f"{what} lengths lie between {lengths.low} and {lengths.high} tokens, where less than {LEAST_SHARE:.1%} of "
            f"their distribution is (centre {centre:g}); expected limits around it"
        )


def quantile(lengths: Lengths, share: NDArray[np.float64]) -> Tokens:
    """Tokens at these shares (0 to below 1) of the distribution. A share that grows never makes a length shorter."""
    if isinstance(lengths, Uniform):
        return lengths.low + np.floor(share * (lengths.high - lengths.low + 1)).astype(np.int64)
    from scipy.special import ndtri  # noqa: PLC0415 - 0.2 s in every process, for these lengths alone

    below, above = _limits(lengths)
    score = ndtri(below + share * (above - below))
    if isinstance(lengths, Normal):
        drawn = lengths.mean + (lengths.sd * score if lengths.sd else 0.0 * share)
    else:
        drawn = lengths.median * np.exp(lengths.sigma * score if lengths.sigma else 0.0 * share)
    return np.clip(np.rint(drawn), lengths.low, lengths.high).astype(np.int64)


def _limits(lengths: Normal | LogNormal) -> tuple[float, float]:
    """Shares of the distribution below the limits. What rounds to a limit is inside, hence the halves."""
    from scipy.special import ndtr  # noqa: PLC0415 - as above

    low, high = lengths.low - 0.5, lengths.high + 0.5
    if isinstance(lengths, Normal):
        centre, spread = lengths.mean, lengths.sd
    else:
        low, high, centre, spread = math.log(low), math.log(high), math.log(lengths.median), lengths.sigma
    if spread == 0:
        return float(centre < low), float(centre < high)
    return float(ndtr((low - centre) / spread)), float(ndtr((high - centre) / spread))


class DrawnPairs:
    """Input and output lengths drawn independently."""

    size: int | None = None

    def __init__(self, input_lengths: Lengths, output_lengths: Lengths, seed: int) -> None:
        check(input_lengths, "input")
        check(output_lengths, "output")
        self._input = input_lengths
        self._output = output_lengths
        self._seed = seed
        self._block = lru_cache(maxsize=2)(self._draw)

    def pair(self, number: int) -> tuple[int, int]:
        block, place = divmod(number, BLOCK)
        inputs, outputs = self._block(block)
        return inputs[place], outputs[place]

    def sample(self) -> NDArray[np.float64]:
        """Of requests 0 to 4095: rows of input and output tokens."""
        return np.array(self._block(0), dtype=np.float64).T

    def _draw(self, block: int) -> tuple[list[int], list[int]]:
        shares = generator(self._seed, Stream.LENGTHS, block).random((2, BLOCK))
        return quantile(self._input, shares[0]).tolist(), quantile(self._output, shares[1]).tolist()


class ListedPairs:
    """Pairs of a dataset in its order, or in a seeded one that is another each time round."""

    def __init__(self, inputs: Tokens, outputs: Tokens, seed: int, shuffle: bool) -> None:
        self.size: int | None = inputs.size
        self._inputs = inputs
        self._outputs = outputs
        self._order = Order(inputs.size, seed, shuffle)

    def pair(self, number: int) -> tuple[int, int]:
        row = self._order.row(number)
        return int(self._inputs[row]), int(self._outputs[row])

    def sample(self) -> NDArray[np.float64]:
        """The whole dataset: rows of input and output tokens."""
        return np.stack([self._inputs, self._outputs], axis=1).astype(np.float64)


class Order:
    """Which row of a dataset of ``size`` a request is."""

    def __init__(self, size: int, seed: int, shuffle: bool) -> None:
        self._size = size
        self._seed = seed
        self._shuffle = shuffle

    def row(self, number: int) -> int:
        turn, place = divmod(number, self._size)
        return int(permutation(self._seed, turn, self._size)[place]) if self._shuffle else place
