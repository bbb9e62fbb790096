"""Passive health: a replica that failed is left alone for a while, then tried with one request at a time.

The block doubles with every failure in a row, from ``FIRST_BLOCK_S`` to ``LONGEST_BLOCK_S``. After it the replica is
on trial: one request goes to it, and nothing more until that one is answered (the replica is trusted again), fails (the
next block), or ends without either (another is tried). What fails during a block failed for the same cause, and what
is answered during a block was sent before it: neither counts.
"""

from __future__ import annotations

from math import inf

FIRST_BLOCK_S = 0.5
LONGEST_BLOCK_S = 15.0
"""A restart takes a second, and a broken replica must not eat the queue."""


class Health:
    """Of one replica, as one gateway sees it. Times are in seconds."""

    __slots__ = ("_block_s", "_trial", "blocked_until")

    def __init__(self) -> None:
        self.blocked_until = 0.0
        """Nothing is sent to it before; infinity while a request is on trial, of which nobody knows the end."""
        self._block_s = 0.0
        """The last block, since which nothing was answered; 0 while it is trusted."""
        self._trial: str | None = None
        """The request that it is tried with."""

    def failed(self, now: float, at_least_s: float = 0.0) -> None:
        """A request found it unreachable, silent or broken; ``at_least_s`` bounds the block from below, also beyond
        ``LONGEST_BLOCK_S``."""
        if self._trial is None and now < self.blocked_until:
            return
        self._trial = None
        self._block_s = max(at_least_s, min(LONGEST_BLOCK_S, max(FIRST_BLOCK_S, 2 * self._block_s)))
        self.blocked_until = now + self._block_s

    def answered(self, now: float) -> bool:
        """A request got its first byte. True where that ends a trial, so that more may be sent."""
        if not self._block_s or (self._trial is None and now < self.blocked_until):
            return False
        self._trial = None
        self._block_s = self.blocked_until = 0.0
        return True

    def sent(self, rid: str) -> None:
        """A request goes to it."""
        if self._block_s:
            self._trial = rid
            self.blocked_until = inf

    def ended(self, rid: str) -> None:
        """A request is over; where it was the one on trial and said nothing of the replica, another may be tried."""
        if self._trial == rid:
            self._trial = None
            self.blocked_until = 0.0
