"""What is recorded of a request: one row of a structured array, and the arrival of each of its events.

All times are seconds on the run's clock, whose zero is the planned start of the run (``time.monotonic_ns`` underneath,
so that processes agree).
NaN where something did not happen. An answer that is no stream is one event at its end, and has no ``first_s``: when
its first token was there is not known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.bench.workload.spec import MOST_TURNS

FIRST_FOLLOW_UP = 1 << 31
"""Numbers from here on are those of the later turns of sessions, which are on no schedule."""


def follow_up(session: int, turn: int) -> int:
    """The number of this turn of a session, from 1 on."""
    return FIRST_FOLLOW_UP + session * MOST_TURNS + turn


class Outcome(IntEnum):
    """What became of a request."""

    OK = 0
    """A complete answer."""
    REJECTED = 1
    """429: a limit, and no failure of the server."""
    UNAVAILABLE = 2
    """503."""
    FAILED = 3
    """Another status, a broken stream, a lost connection, an answer that is no answer."""
    TIMED_OUT = 4
    UNFINISHED = 5
    """Cut off by the end of the run."""


class TokensFrom(IntEnum):
    """How it is known which of its events carried how many tokens."""

    EVENTS = 0
    """One for each event that shows text: the server told no more."""
    USAGE = 1
    """Usage came with the events; each carries what it rose by."""
    LISTS = 2
    """Events list their tokens (``logprobs``, ``token_ids``)."""
    AGREED = 3
    """One for each event that shows text, and usage says the same."""
    SPREAD = 4
    """Usage says another number: it is spread evenly over the events, which is a guess."""


REQUEST = np.dtype(
    [
        ("number", "u4"),
        ("process", "u2"),
        ("outcome", "u1"),
        ("measured", "?"),  # scheduled inside the amount that was asked for; the load that is kept on after it is not
        ("status", "u2"),  # 0: none came
        ("retries", "u1"),
        ("counted", "?"),  # the server told its usage
        ("new_connection", "?"),  # made for it: the time to connect is in its latency; not so if it was open before
        ("scheduled_s", "f8"),  # due; in a closed loop, when its user was free
        ("sent_s", "f8"),  # its first byte was handed to the kernel (or to a connection still being made)
        ("first_byte_s", "f8"),  # of the body
        ("first_s", "f8"),  # first event that carries a token
        ("last_s", "f8"),  # last event that carries a token
        ("end_s", "f8"),  # end of the answer, or of the attempt
        ("asked_input", "i4"),  # tokens; -1 where not known before the server counts
        ("asked_output", "i4"),  # forced length; -1 where the model decides
        ("input_tokens", "i4"),  # server usage, cached ones included; asked_input where it told none
        ("cached_tokens", "i4"),
        ("output_tokens", "i4"),  # server usage; token-bearing events where it told none
        ("events", "i4"),  # events that carry a token
        ("first_event", "i8"),  # index of its first event in the arrays of events
        ("error", "i4"),  # index into the table of errors; -1 for none; with OK, what is remarkable about the answer
        ("tokens_from", "u1"),
    ]
)


class ProcessReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one process of the client says about itself."""

    process: int
    wall_s: float
    cpu_s: float
    """User and system."""
    loop_lag_p50_s: float
    loop_lag_p99_s: float
    """How late a timer of the event loop came, sampled about every 10 ms."""
    loop_lag_max_s: float
    crashed: str | None = None


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """Of a run that was interrupted: what was measured from one start of the client on."""

    began: float
    """Unix time, in seconds."""
    start_s: float
    """On the run's clock, which stands still while no client runs."""
    schedule_s: float
    """Where on the schedule it begins: later than that, nothing counts of the segment before it."""
    told: bool
    """Its processes said at the end how they had fared; those of a client that was killed did not."""


@dataclass(frozen=True, slots=True)
class Records:
    """A run, or the part of it that has been written."""

    requests: NDArray[np.void]
    """Of dtype ``REQUEST``. Of a whole run in the order of their numbers; of a part, in the order in which they were
    written (about that of their ends), so that what one look shows is where it was when the next one comes."""
    event_s: NDArray[np.float64]
    """Arrival of every token-bearing event; request ``r`` has ``[first_event, first_event + events)``."""
    event_tokens: NDArray[np.uint16]
    """Tokens in it: told by the server or resolved after the stream, else the even split of usage over events."""
    errors: tuple[str, ...]
    """Distinct, in the client's or server's own words; never a prompt, never a key."""
    processes: tuple[ProcessReport, ...] = ()
    planned_s: tuple[float, ...] | None = field(default=None, repr=False)
    """Due times of the measured part of an open loop."""
    stolen_share: float = 0.0
    """Of the machine's CPU time during the run, taken by the hypervisor (/proc/stat)."""
    segments: tuple[Segment, ...] = ()
    """Of a run that was interrupted and gone on with; empty: it has one."""
