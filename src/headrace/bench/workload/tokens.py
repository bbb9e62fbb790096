"""Counting the tokens of a text, where something at hand can."""

from __future__ import annotations

from typing import Protocol


class Tokens(Protocol):
    """A tokenizer, as far as a load needs one."""

    origin: str
    """What counts, in words."""

    def count(self, text: str) -> int:
        """Input tokens of a prompt, with what the model puts before it."""
        ...
