"""What can go wrong with a measurement."""

from __future__ import annotations


class BenchError(Exception):
    """Nothing could be measured; the message says what was wrong, what was expected and what to do."""
