"""Requests by number: from a specification to bodies that are ready to be sent."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.bench.errors import BenchError
from headrace.bench.workload.datasets.chats import read_chats
from headrace.bench.workload.datasets.mooncake import read_mooncake
from headrace.bench.workload.datasets.prompts import read_prompts
from headrace.bench.workload.datasets.recognise import recognise
from headrace.bench.workload.datasets.rows import Shapes
from headrace.bench.workload.datasets.sharegpt import read_sharegpt
from headrace.bench.workload.datasets.tables import read_table
from headrace.bench.workload.envelope import Request
from headrace.bench.workload.fit import counts_texts, fitted
from headrace.bench.workload.given import Given
from headrace.bench.workload.lengths import DrawnPairs, ListedPairs
from headrace.bench.workload.made import Made
from headrace.bench.workload.sessions import SessionWorkload
from headrace.bench.workload.spec import Dataset, Lengths, LoadSpec, LogNormal, Replay, Synthetic, Uniform
from headrace.bench.workload.tokens import TokenizerFile, Tokens


class Workload(Protocol):
    """The requests of a run. ``request`` is pure in the seed and the number, and costs microseconds."""

    trace_s: NDArray[np.float64] | None
    """Arrival times of a trace, from 0 on."""
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
    """Reads the dataset, if there is one. ``tokens`` is the model's tokenizer, where one is at hand; None: that
    which the specification names, if it names one. What has been fitted or calibrated already stays.

    Raises BenchError for a specification or a dataset that is none.
    """
    if spec.seed < 0:
        raise BenchError(f"the seed is {spec.seed}; expected 0 or more")
    if tokens is None and spec.content.tokenizer is not None and counts_texts(spec):
        tokens = TokenizerFile(spec.content.tokenizer)
    if tokens is not None and spec.content.prose is None:
        spec = fitted(spec, tokens)
    if spec.sessions is not None and isinstance(spec.source, Synthetic):
        raise BenchError("sessions are made of a dataset of chats; name one")
    match spec.source:
        case Synthetic(input=input_lengths, output=output_lengths):
            pairs = DrawnPairs(input_lengths, output_lengths, spec.seed)
            said = f"input {_words(input_lengths)}, output {_words(output_lengths)} tokens"
            return Made(spec, pairs, said)
        case Dataset() if spec.sessions is not None:
            return SessionWorkload(spec)
        case Dataset() as dataset:
            # A server would be asked for every row.
            return _open_dataset(spec, dataset, tokens if tokens is not None and tokens.local else None)


def _open_dataset(spec: LoadSpec, dataset: Dataset, tokens: Tokens | None) -> Workload:
    path = dataset.path
    match dataset.format or recognise(path):
        case "azure" | "burstgpt" | "lengths":
            return _made(spec, dataset, read_table(path, dataset.output_tokens))
        case "mooncake":
            return _made(spec, dataset, read_mooncake(path))
        case "sharegpt":
            texts = read_sharegpt(path)
        case "chat":
            texts = read_chats(path)
        case "prompts":
            texts = read_prompts(path)
    return Given(spec, dataset, texts, tokens)


def _made(spec: LoadSpec, dataset: Dataset, shapes: Shapes) -> Made:
    # Requests of a trace that is replayed belong to their times.
    shuffle = dataset.shuffle and not isinstance(spec.arrivals, Replay)
    pairs = ListedPairs(shapes.inputs, shapes.outputs, spec.seed, shuffle)
    said = f"lengths of {shapes.inputs.size:,} requests of {dataset.path}, {'shuffled' if shuffle else 'in order'}"
    return Made(spec, pairs, said, trace_s=shapes.time_s, blocks=shapes.blocks, findings=shapes.findings)


def too_long(workload: Workload, context: int) -> str | None:
    """Which requests do not fit a context of so many tokens, in words; None where all do (or nothing is known)."""
    total = np.nansum(workload.lengths, axis=1)
    over = int(np.count_nonzero(total > context))
    if not over:
        return None
    return (
        f"{over:,} of {total.size:,} requests ({over / total.size:.1%}) are longer than the {context:,} tokens that "
        f"the server has room for (the longest {int(total.max()):,}); it will refuse them or cut them off"
    )


def _words(lengths: Lengths) -> str:
    match lengths:
        case Uniform(low, high):
            return str(low) if low == high else f"uniform from {low} to {high}"
        case LogNormal(median, sigma, low, high):
            return f"log-normal (median {median:g}, sigma {sigma:g}, {low} to {high})"
        case _:
            return f"normal (mean {lengths.mean:g}, sd {lengths.sd:g}, {lengths.low} to {lengths.high})"
