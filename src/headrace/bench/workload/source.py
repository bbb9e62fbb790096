"""Requests by number: from a specification to bodies that are ready to be sent."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.bench.errors import BenchError
from headrace.bench.workload.envelope import Request
from headrace.bench.workload.lengths import DrawnPairs
from headrace.bench.workload.made import Made
from headrace.bench.workload.spec import Dataset, Lengths, LoadSpec, LogNormal, Synthetic, Uniform
from headrace.bench.workload.tokens import Tokens


class Workload(Protocol):
    """The requests of a run. ``request`` is pure in the seed and the number, and costs microseconds."""

    trace_s: NDArray[np.float64] | None
    """Arrival times of a trace."""
    size: int | None
    """Requests in the dataset, after which it comes round again; None where they are made without end."""
    lengths: NDArray[np.float64]
    """Rows of input and output tokens, of the dataset or a sample of what is made; NaN where only the server knows."""
    findings: tuple[str, ...]
    """What the user must know of the dataset, in words: rows that were left out, and why."""

    def request(self, number: int) -> Request: ...

    def describe(self) -> str:
        """What is sent, and how exact its lengths are, in words."""
        ...


def open_workload(spec: LoadSpec, tokens: Tokens | None = None) -> Workload:
    """Reads the dataset, if there is one. ``tokens`` counts texts of a dataset (None: they are counted by no one).

    Raises BenchError for a specification or a dataset that is none.
    """
    if spec.seed < 0:
        raise BenchError(f"the seed is {spec.seed}; expected 0 or more")
    match spec.source:
        case Synthetic(input=input_lengths, output=output_lengths):
            pairs = DrawnPairs(input_lengths, output_lengths, spec.seed)
            said = f"input {_words(input_lengths)}, output {_words(output_lengths)} tokens"
            return Made(spec, pairs, said)
        case Dataset(path=path):
            raise BenchError(f"{path}: datasets cannot be read yet")


def _words(lengths: Lengths) -> str:
    match lengths:
        case Uniform(low, high):
            return str(low) if low == high else f"uniform from {low} to {high}"
        case LogNormal(median, sigma, low, high):
            return f"log-normal (median {median:g}, sigma {sigma:g}, {low} to {high})"
        case _:
            return f"normal (mean {lengths.mean:g}, sd {lengths.sd:g}, {lengths.low} to {lengths.high})"
