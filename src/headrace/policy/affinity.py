"""Which replica requests with the same head prefer, so that its prompt cache serves them.

Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): every replica
draws a score for a prefix, and the highest wins. A replica that goes takes only its own prefixes with it, one that
comes takes only those that it wins, and every gateway finds the same. Prefixes are first put into ``CLASSES``, so that
a replica's scores are drawn once per class and not once per request.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Generic, Protocol, TypeVar

CLASSES = 4096
"""Many more than replicas, so that each gets about the same number; few enough to remember."""


class Named(Protocol):
    @property
    def id(self) -> str: ...


R = TypeVar("R", bound=Named)


class Rendezvous(Generic[R]):
    """The preferences of prefixes among ``members``, of whom there is at least one."""

    __slots__ = ("_members", "_winners")

    def __init__(self, members: Sequence[R]) -> None:
        self._members = members
        self._winners: dict[int, R] = {}

    def preferred(self, prefix: int) -> R:
        """The member that requests with this hash of their head prefer."""
        number = prefix % CLASSES
        winner = self._winners.get(number)
        if winner is None:
            winner = self._winners[number] = max(
                self._members, key=lambda member: (_score(number, member.id), member.id)
            )
        return winner


def _score(number: int, member: str) -> bytes:
    # Not a CRC: it is linear, so that the order of the members' scores would be nearly the same for all classes.
    return blake2b(f"{number} {member}".encode(), digest_size=8).digest()
