"""Requests whose prompts are made here, to lengths."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.bench.workload.draws import BLOCK, Stream, generator
from headrace.bench.workload.envelope import Envelope, Request
from headrace.bench.workload.spec import Content, LoadSpec
from headrace.bench.workload.stock import BLOCK_TOKENS, Stock, fresh, id_stock, word_stock
from headrace.bench.workload.words import OPENER


class Pairs(Protocol):
    """Input and output lengths by request number."""

    size: int | None

    def pair(self, number: int) -> tuple[int, int]: ...

    def sample(self) -> NDArray[np.float64]: ...


class IdPrompts:
    """Prompts of token ids: exactly as long as is asked for."""

    def __init__(self, spec: LoadSpec, envelope: Envelope) -> None:
        self.stock = id_stock(spec.content, spec.seed)
        self.path = envelope.completions_path
        self.body = envelope.ids
        low, high = spec.content.vocabulary
        self.words = f"prompts of token ids from {low} to {high - 1}, of exactly that length"

    def pieces(self, tokens: int) -> tuple[int, int | None]:
        """Pieces for a prompt of so many tokens, and the tokens that they come to."""
        return tokens, tokens


class WordPrompts:
    """Prompts of prose: as long as is asked for, as far as the model's tokens are known."""

    def __init__(self, spec: LoadSpec, envelope: Envelope) -> None:
        known = spec.content.prose
        self.stock = word_stock(known.left_out if known else (), spec.content.salt, spec.seed)
        chat = spec.content.api == "chat"
        self.path = envelope.chat_path if chat else envelope.completions_path
        self._body = envelope.chat if chat else envelope.text
        self._counted = known is not None and known.counts != "guess"
        self._fixed, self._per_word = (known.fixed, known.per_word) if known else (0.0, 1.0)
        if known is None:
            self.words = "prompts of prose, one word for each token: what they really come to only the server can say"
        elif known.counts == "exact":
            self.words = f"prompts of prose, of exactly that length by {known.origin}"
        elif known.counts == "close":
            self.words = (
                f"prompts of prose, of about that length by {known.origin} "
                f"({known.fixed:g} tokens and {known.per_word:.3f} a word)"
            )
        else:
            self.words = f"prompts of prose, of that length by {known.origin}, to which the template of the chat comes"

    def body(self, prompt: bytes, output_tokens: int) -> bytes:
        return self._body(OPENER.encode() + prompt, output_tokens)

    def pieces(self, tokens: int) -> tuple[int, int | None]:
        words = max(0, round((tokens - self._fixed) / self._per_word))
        return words, round(self._fixed + self._per_word * words) if self._counted else None


class Made:
    """Requests to lengths: the prompt of each is cut from a stock, at a place of its own."""

    def __init__(
        self,
        spec: LoadSpec,
        pairs: Pairs,
        said: str,
        *,
        trace_s: NDArray[np.float64] | None = None,
        blocks: Sequence[Sequence[int]] | None = None,
        findings: tuple[str, ...] = (),
    ) -> None:
        """``said`` tells in words where the lengths are from. ``blocks`` are the prefix blocks of each row, which
        prompts are made of where reuse is asked for."""
        envelope = Envelope(spec.model, spec.content)
        prose = spec.content.prompt == "text" or spec.content.api == "chat"
        self._prompts = WordPrompts(spec, envelope) if prose else IdPrompts(spec, envelope)
        self._stock: Stock = self._prompts.stock
        self._content: Content = spec.content
        self._seed = spec.seed
        self._pairs = pairs
        self._blocks = blocks if spec.content.reuse else None
        self._places = lru_cache(maxsize=2)(_Places(spec.seed))
        self._said = said
        self.trace_s = trace_s
        self.size = pairs.size
        self.lengths = pairs.sample()
        self.findings = findings
        if blocks is not None and not spec.content.reuse:
            self.findings += (
                "the trace's prompts share beginnings, which are left out: ask for reuse to have a prefix cache help "
                "as it would have there",
            )

    def request(self, number: int) -> Request:
        input_tokens, output_tokens = self._pairs.pair(number)
        pieces, counted = self._prompts.pieces(input_tokens)
        block, place = divmod(number, BLOCK)
        where = self._places(block)[place]
        if self._blocks is not None:
            prompt = self._shared(number, pieces, where)
        elif self._content.reuse:
            prompt = self._stock.cut(pieces, where)
        else:
            prompt = self._stock.headed(number, pieces, where)
        return Request(self._prompts.path, self._prompts.body(prompt, output_tokens), counted, output_tokens)

    def describe(self) -> str:
        parts = [self._said, self._prompts.words]
        if self._blocks is not None:
            parts.append("with the prefix blocks that the trace's prompts share")
        elif not self._content.reuse:
            parts.append(fresh(self._content, self._seed))
        parts.append("output length forced" if self._content.force_length else "output length limited, not forced")
        return "; ".join(parts)

    def _shared(self, number: int, pieces: int, where: int) -> bytes:
        """A prompt of the trace's blocks; what they leave is the request's own."""
        assert self._blocks is not None
        turn, row = divmod(number, len(self._blocks))
        left = pieces
        parts = []
        for identity in self._blocks[row]:
            if left <= 0:
                break
            parts.append(self._stock.block(identity, turn, min(left, BLOCK_TOKENS)))
            left -= BLOCK_TOKENS
        if left > 0:
            parts.append(self._stock.headed(number, left, where))
        return b"".join(parts)


class _Places:
    """Where in the stock prompts are cut: a random number each, for a block of requests at a time."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, block: int) -> list[int]:
        drawn: list[int] = generator(self._seed, Stream.PLACES, block).integers(0, 1 << 32, BLOCK).tolist()
        return drawn
