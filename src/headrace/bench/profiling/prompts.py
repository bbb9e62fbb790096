"""Token-id prompts of an exact length. The same seed sends the same prompts."""

from __future__ import annotations

import random

from headrace.bench.profiling.shapes import Shape

VOCABULARY = range(1000, 20000)
"""Token ids that are plain text in every vocabulary met so far: above the special and byte tokens, below the end."""

HEAD_TOKENS = 4
"""Tokens that spell the number of a request at the first place where it may differ from others: no two requests share
more than they are asked to, but for a few tokens after many thousands of requests, so no cache can help unasked."""

SPARE_TOKENS = 4096
"""Prompts begin at so many places of one random text."""


class Prompts:
    """Distinct random token ids; requests of a shape with cached tokens share their head and nothing else."""

    def __init__(self, seed: int = 0, vocabulary: range = VOCABULARY) -> None:
        self._seed = seed
        self._vocabulary = vocabulary
        self._random = random.Random(seed)
        self._text: list[int] = []

    def tokens(self, shape: Shape, number: int) -> list[int]:
        """The prompt of request ``number``, which no other request of the measurement has."""
        missing = shape.input_tokens + SPARE_TOKENS - len(self._text)
        self._text += self._random.choices(self._vocabulary, k=max(0, missing))
        start = number * 97 % SPARE_TOKENS
        own = self._text[start : start + shape.new_tokens]
        # A shared head begins with a token that spells no number.
        shared, digits = self._text[: shape.cached_tokens], self._vocabulary[1:]
        shared[:1] = [self._vocabulary[0]] if shared else []
        rest = number
        for place in range(min(HEAD_TOKENS, len(own))):
            rest, digit = divmod(rest, len(digits))
            own[place] = digits[(digit + self._seed) % len(digits)]
        return shared + own
