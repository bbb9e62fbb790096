"""What the queue must know of a request that waits in it."""

from __future__ import annotations

from typing import Literal

Band = Literal["priority", "default", "flex"]


class Waiting:
    """A request in the queue."""

    __slots__ = ("arrived", "band", "key", "rid", "weight", "work")

    def __init__(self, rid: str, key: str, band: Band, work: float, arrived: float, weight: float = 1.0) -> None:
        self.rid = rid
        self.key = key
        self.band: Band = band
        self.work = work
        """Reference tokens, estimated."""
        self.arrived = arrived
        """Seconds."""
        self.weight = weight
        """The key's share of its band."""
