"""How many tokens each event of an answer carried: as told, or as well as can be guessed."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from headrace.bench.client.answer import Answer
from headrace.bench.client.records import TokensFrom

_MOST = 65535
"""Tokens of an event that a record can hold."""


def tokens_of(answer: Answer) -> tuple[list[int], TokensFrom]:
    """One number for each of ``answer.times``."""
    events = len(answer.times)
    told = None if answer.usage is None else answer.usage.output_tokens
    if not events:
        return [], TokensFrom.EVENTS
    if len(answer.deltas) > 1 and sum(answer.deltas.values()) == told:
        return _clipped(answer.deltas.get(place, 0) for place in range(events)), TokensFrom.USAGE
    if len(answer.listed) == events:
        return _clipped(answer.listed.values()), TokensFrom.LISTS
    if told is None:
        return [1] * events, TokensFrom.EVENTS
    if told == events:
        return [1] * events, TokensFrom.AGREED
    # Rounded so that the sum comes out; what is more in some events than in others is spread too.
    edges = [told * place // events for place in range(events + 1)]
    return _clipped(after - before for before, after in pairwise(edges)), TokensFrom.SPREAD


def _clipped(counts: Iterable[int]) -> list[int]:
    return [min(count, _MOST) for count in counts]
