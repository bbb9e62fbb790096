"""How long prose comes out: learned from a tokenizer, or from what the server counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from headrace.bench.errors import BenchError
from headrace.bench.workload.datasets.recognise import recognise
from headrace.bench.workload.datasets.sharegpt import read_sharegpt
from headrace.bench.workload.draws import Stream, generator
from headrace.bench.workload.envelope import Envelope, Request
from headrace.bench.workload.given import json_body
from headrace.bench.workload.made import WordPrompts
from headrace.bench.workload.spec import Dataset, DatasetFormat, LoadSpec, Prose
from headrace.bench.workload.tokens import Tokens
from headrace.bench.workload.words import OPENER, WORDS, prose, readable

_GROUP = 64
"""Words that are looked at in one count."""

_PROOFS = (7, 61, 200, 333, 500)
"""Words of the prompts that a fit is tried on."""

_STICKS = (32, 32, 160, 160)
"""Words of the prompts that a server counts: few, because they must fit the smallest context; two of each, because
words may differ."""

_SAMPLE = 8
"""Texts of a dataset that a server counts."""


class Yardstick(NamedTuple):
    """A request of a known size, to be sent for the sake of its usage. It asks for one token."""

    request: Request
    unit: Literal["words", "bytes"]
    size: int


def fitted(spec: LoadSpec, tokens: Tokens) -> LoadSpec:
    """With words that are one token each to this tokenizer. As it is where no prose is made. Raises BenchError where
    the tokenizer cannot count."""
    if not makes_prose(spec):
        return spec
    fixed = tokens.count(OPENER)
    left_out = tuple(_dear(WORDS, tokens, fixed))
    if not readable(left_out):
        left_out = ()
    words, sequence = prose(sum(_PROOFS), generator(0, Stream.TOKENS), left_out)
    texts = np.split(sequence, np.cumsum(_PROOFS)[:-1])
    counts = [tokens.count(_text([words[place] for place in text])) - fixed for text in texts]
    exact = counts == list(_PROOFS)
    chat = spec.content.api == "chat"
    return _with(
        spec,
        Prose(
            origin=tokens.origin,
            counts="guess" if chat else "exact" if exact else "close",
            fixed=fixed,
            per_word=1.0 if exact else sum(counts) / sum(_PROOFS),
            left_out=left_out,
        ),
    )


def yardsticks(spec: LoadSpec) -> tuple[Yardstick, ...]:
    """What to send to learn how long prose or answers are by the server's own usage; none where that is known."""
    known = spec.content.prose
    if makes_prose(spec) and (known is None or known.counts == "guess"):
        prompts = WordPrompts(spec, Envelope(spec.model, spec.content))
        # Numbers from the far end: no request of the run has such a head.
        texts = [prompts.stock.headed((1 << 32) - 1 - place, size, place) for place, size in enumerate(_STICKS)]
        return tuple(
            Yardstick(Request(prompts.path, prompts.body(text, 1), None, 1), "words", size)
            for size, text in zip(_STICKS, texts, strict=True)
        )
    if _format(spec) == "sharegpt" and spec.content.tokenizer is None and (not known or not known.bytes_per_token):
        return tuple(islice(_sampled(spec), _SAMPLE))
    return ()


def calibrated(spec: LoadSpec, counted: Sequence[tuple[Yardstick, int]]) -> LoadSpec:
    """With what the server counted (input tokens of its usage, cached ones included). Raises BenchError where its
    counts cannot be those of the prompts."""
    if not counted:
        raise BenchError("the server counted no tokens; expected usage with every answer")
    sizes = np.array([stick.size for stick, _ in counted], dtype=np.float64)
    tokens = np.array([count for _, count in counted], dtype=np.float64)
    origin = f"the server's usage of {len(counted)} requests"
    before = spec.content.prose or Prose(origin=origin, counts="guess")
    if counted[0][0].unit == "bytes":
        if tokens.sum() <= 0:
            raise BenchError(f"the server counted 0 tokens in {sizes.sum():,.0f} bytes of text; expected more")
        return _with(spec, msgspec.structs.replace(before, bytes_per_token=float(sizes.sum() / tokens.sum())))
    if np.ptp(sizes) == 0:
        raise BenchError(
            "only prompts of one length were counted; expected two, to tell words from what is around them"
        )
    per_word, fixed = (float(figure) for figure in np.polyfit(sizes, tokens, 1))
    whole_per_word, whole_fixed = round(per_word), round(fixed)
    exact = bool(np.array_equal(whole_fixed + whole_per_word * sizes, tokens))
    if exact:
        per_word, fixed = whole_per_word, whole_fixed
    if per_word < 0.1:
        raise BenchError(
            f"the server counted {', '.join(f'{count:,.0f}' for count in tokens)} tokens in prompts of "
            f"{', '.join(f'{size:.0f}' for size in sizes)} words; expected more tokens for more words"
        )
    return _with(
        spec,
        msgspec.structs.replace(
            before, origin=origin, counts="exact" if exact else "close", fixed=fixed, per_word=per_word
        ),
    )


def makes_prose(spec: LoadSpec) -> bool:
    """Prompts are prose of our own, and neither token ids nor a dataset's texts."""
    prose_asked = spec.content.prompt == "text" or spec.content.api == "chat"
    return prose_asked and _format(spec) in (None, "azure", "burstgpt", "lengths", "mooncake")


def counts_texts(spec: LoadSpec) -> bool:
    """A tokenizer is of use: there are texts, and not token ids alone."""
    return makes_prose(spec) or _format(spec) in ("chat", "sharegpt", "prompts")


def _format(spec: LoadSpec) -> DatasetFormat | None:
    match spec.source:
        case Dataset(path=path, format=said):
            return said or recognise(path)
    return None


def _dear(words: Sequence[str], tokens: Tokens, fixed: int) -> Iterator[str]:
    """Words that are not one token, found by halving groups that are dearer than their number."""
    for first in range(0, len(words), _GROUP):
        yield from _dear_of(words[first : first + _GROUP], tokens, fixed)


def _dear_of(group: Sequence[str], tokens: Tokens, fixed: int) -> Iterator[str]:
    if tokens.count(_text(group)) - fixed == len(group):
        return
    if len(group) == 1:
        yield group[0]
        return
    half = len(group) // 2
    yield from _dear_of(group[:half], tokens, fixed)
    yield from _dear_of(group[half:], tokens, fixed)


def _sampled(spec: LoadSpec) -> Iterator[Yardstick]:
    assert isinstance(spec.source, Dataset)
    envelope = Envelope(spec.model, spec.content)
    for text in read_sharegpt(spec.source.path):
        if text is not None:
            body = envelope.given(text.fields, 1)
            size = sum(len(message["content"].encode(errors="replace")) for message in body["messages"])
            yield Yardstick(Request(envelope.chat_path, json_body(body), None, 1), "bytes", size)


def _text(words: Sequence[str]) -> str:
    return " ".join((OPENER, *words))


def _with(spec: LoadSpec, known: Prose) -> LoadSpec:
    content: Any = msgspec.structs.replace(spec.content, prose=known)
    return msgspec.structs.replace(spec, content=content)
