"""What a decision log consists of: one JSON object a line, no secret, no text of any request.

A segment begins with ``Began``. In it each served entity has a number, given by a ``Watched`` that holds what was known
before the first record on it; what follows are the inputs in the order in which they were seen, and each decision. So
a segment replays by itself, and nothing of the one before it is needed. Times ``now`` are in seconds, monotonic.
"""

from __future__ import annotations

import zlib

import msgspec

from headrace.policy.observing import Bought, Chunks, Memory
from headrace.policy.scaling import Decision, Knobs, State

FORMAT = 1


class _Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="record"):
    pass


class Began(_Record, frozen=True, tag="began"):
    """Where a segment begins."""

    format: int
    version: str
    """Of the program."""
    at_ms: int
    """Unix time of ``now``."""
    now: float
    why: str
    """``start`` of a controller, which knows nothing yet; ``rotation`` to another file; ``gap`` after records that the
    disk did not take."""
    law: int = 1
    """``policy.scaling.LAW``, or a law from before they had numbers."""


class Watched(_Record, frozen=True, tag="watched"):
    """From here on ``of`` is this served entity."""

    of: int
    entity: str
    """Id."""
    memory: Memory
    state: State


class Terms(_Record, frozen=True, tag="terms"):
    """By these the decisions are made that follow."""

    of: int
    endpoint: str
    """Name, as is the next."""
    name: str
    bought: Bought
    knobs: Knobs


class Reported(_Record, frozen=True, tag="report"):
    """A gateway reported; the fields as in ``policy.observing.Report``."""

    of: int
    now: float
    gateway: str
    arrivals: int = 0
    offered_work: float = 0.0
    queued: int = 0
    queued_work: float = 0.0
    oldest_wait_s: float = 0.0
    in_flight: int = 0


class Decided(_Record, frozen=True, tag="decision"):
    """A look at the entity and what was decided."""

    of: int
    now: float
    has: Chunks
    connected: tuple[str, ...]
    """Gateways."""
    metrics_age_s: float | None
    chunks: int
    reason: str
    digest: str
    """Of all that the law was given: see ``digest``."""


Record = Began | Watched | Terms | Reported | Decided

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Record).decode


def digest(decision: Decision) -> str:
    """Of observation, knobs and state, to the last bit of every number: words round what they tell."""
    return f"{zlib.crc32(encode(decision.inputs)):08x}"
