"""Events on the shortest way from a server's connection to a client's: whole chunks, as they came, seen by nobody else.

Looking at an event costs little; calling through the objects of a request for each of them costs more than the system
calls that carry it. So a reader that has nothing to do with most events says so with a relay, and hears only of those
that contain its mark, are not whole, or end the answer.
"""

from __future__ import annotations

from collections.abc import Callable


class EventRelay:
    """Made by ``Exchange.relay``, for ``Transfer.relay``."""

    __slots__ = ("events", "mark", "ready", "write")

    def __init__(self, write: Callable[[bytes], None], mark: bytes) -> None:
        self.write = write
        self.mark = mark
        """An event with these bytes goes to the reader."""
        self.events = 0
        """Passed on and not yet counted by the reader, which sets this back."""
        self.ready = True
        """The reader is between two events."""
