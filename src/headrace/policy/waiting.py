"""What the queue must know of a request that waits in it."""

from __future__ import annotations

from typing import Literal

import msgspec

Band = Literal["priority", "default", "flex"]


class Waiting(msgspec.Struct, eq=False):
    """A request in the queue."""

    rid: str
    key: str
    band: Band
    work: float
    """Reference tokens, estimated."""
    arrived: float
    """Seconds."""
    weight: float = 1.0
    """The key's share of its band."""
