"""A stock of encoded prompt pieces that bodies are cut from.

Making a prompt token by token costs milliseconds, so a long random sequence is encoded once, and a prompt is a slice of
it: one copy of bytes. What makes prompts distinct where caches look, their beginning, is a short head of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from headrace.bench.errors import BenchError
from headrace.bench.workload.draws import Stream, generator
from headrace.bench.workload.spec import Content
from headrace.bench.workload.words import prose

STOCK = 1 << 17
"""Pieces in a stock: longer than nearly all prompts, so that one is one slice; encoded in some 20 ms."""

BLOCK_TOKENS = 512
"""Of a prefix block in Mooncake's traces."""

_NUMBERS = 1 << 32
_RUNS = 1 << 64


class Stock:
    """Pieces, each a token as far as can be known, as they stand in a JSON body. What it cuts is pure in the seed, the
    salt and the arguments."""

    def __init__(self, alphabet: Sequence[bytes], sequence: NDArray[np.int64], seed: int, salt: int) -> None:
        """``sequence`` holds indices into ``alphabet``."""
        self._alphabet = alphabet
        pieces = [alphabet[index] for index in sequence.tolist()]
        self._bytes = b"".join(pieces)
        self._starts = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).tolist()
        self._size = len(pieces)
        run = int.from_bytes(blake2b(f"{seed}/{salt}".encode(), digest_size=8).digest())
        self._run = _spell(run, alphabet, _digits(_RUNS, len(alphabet)))
        self._joined_run = b"".join(self._run)
        self._turn = run % len(alphabet)
        self._digits = _digits(_NUMBERS, len(alphabet))
        self.head_size = self._digits + len(self._run)

    def cut(self, count: int, place: int) -> bytes:
        """``count`` pieces from somewhere; ``place`` is a random number, 0 or more."""
        spare = self._size - count
        if spare >= 0:
            first = place % (spare + 1)
            return self._bytes[self._starts[first] : self._starts[first + count]]
        rounds, rest = divmod(count, self._size)
        return self._bytes * rounds + self._bytes[: self._starts[rest]]

    def head(self, number: int) -> bytes:
        """Pieces that no other request of any run begins with: they spell the number, its fastest digit first (so that
        neighbours differ at once), and then seed and salt."""
        return b"".join(_spell(number, self._alphabet, self._digits, self._turn)) + self._joined_run

    def headed(self, number: int, count: int, place: int) -> bytes:
        """``count`` pieces that begin with the request's head, or as much of it as fits."""
        rest = count - self.head_size
        if rest >= 0:
            return self.head(number) + self.cut(rest, place)
        pieces = _spell(number, self._alphabet, self._digits, self._turn) + self._run
        return b"".join(pieces[:count])

    def block(self, identity: int, turn: int, count: int = BLOCK_TOKENS) -> bytes:
        """The first ``count`` pieces of a prefix block: always the same of an identity, and never those of another.

        ``turn`` counts how often the trace came round: its blocks are new each time, as they are in another run.
        """
        spelled = _spell(identity, self._alphabet, self._digits) + _spell(turn, self._alphabet, 1) + self._run
        rest = count - len(spelled)
        if rest < 0:
            return b"".join(spelled[:count])
        # Where it is cut must not depend on the count, else a part would not be the beginning of the whole.
        first = (identity * 0x9E3779B1) % (self._size - BLOCK_TOKENS)
        return b"".join(spelled) + self._bytes[self._starts[first] : self._starts[first + rest]]


def fresh(content: Content, seed: int) -> str:
    """What heads are good for, in words."""
    return (
        f"each with a beginning of its own, of seed {seed} and salt {content.salt}: no prefix cache can help that has "
        "not seen these before"
    )


def id_stock(content: Content, seed: int) -> Stock:
    """Of token ids, all of one width, each followed by a comma. Raises BenchError for a vocabulary that is none."""
    low, high = content.vocabulary
    if low < 0 or high - low < 2:
        raise BenchError(
            f"the vocabulary is {low} up to {high}; expected two token ids or more, such as 1000 up to 20000"
        )
    width = len(str(high - 1))
    alphabet = [b"%*d," % (width, token) for token in range(low, high)]
    sequence = generator(seed, Stream.TOKENS).integers(0, high - low, STOCK)
    return Stock(alphabet, sequence, seed, content.salt)


def word_stock(left_out: Collection[str], salt: int, seed: int) -> Stock:
    """Of words but those left out, each with a space before it."""
    words, sequence = prose(STOCK, generator(seed, Stream.TOKENS), frozenset(left_out))
    return Stock([b" " + word.encode() for word in words], sequence, seed, salt)


def _digits(values: int, base: int) -> int:
    """Digits that spell every number below ``values``."""
    digits = 1
    while base**digits < values:
        digits += 1
    return digits


def _spell(value: int, alphabet: Sequence[bytes], digits: int, turn: int = 0) -> list[bytes]:
    """The value in the base of the alphabet, lowest digit first, each digit ``turn`` places further on."""
    base = len(alphabet)
    pieces = []
    for _ in range(digits):
        value, digit = divmod(value, base)
        pieces.append(alphabet[(digit + turn) % base])
    return pieces
