"""One request on its way."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.bench.client.answer import Answer
from headrace.bench.client.head import Head

NEVER = float("nan")


@dataclass(slots=True, eq=False)
class Flight:
    """Prepared before it is due, filled in by the connection that carries it. Times are of ``time.monotonic``."""

    number: int
    payload: bytes = field(repr=False)
    """Head and body as they go on the line."""
    asked_stream: bool
    asked_input: int
    """Tokens; -1 where not known."""
    asked_output: int
    """At most; -1 where the model decides."""
    scheduled: float = NEVER
    measured: bool = True
    sent: float = NEVER
    first_byte: float = NEVER
    end: float = NEVER
    head: Head | None = None
    answer: Answer | None = None
    fault: str | None = None
    """Why there is no complete answer."""
    timed_out: bool = False
    cut_off: bool = False
    """By the end of the run."""
    new_connection: bool = False
    connected: bool = True
    """False: no connection could be made."""
    text_wanted: bool = False
    """What the answer says, and not only when."""
    resent: bool = False
    """Because the connection that was kept for it had been closed while it was idle."""
    retries: int = 0

    def begin(self) -> None:
        """Forget an attempt before the next one."""
        self.sent = self.first_byte = self.end = NEVER
        self.head = self.answer = self.fault = None
        self.timed_out = False
        self.connected = True
