"""What a capacity search and whoever carries it out tell each other. Values only: the search runs against a live server
or on a virtual clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Phase = Literal["floor", "scout", "bracket", "refine", "confirm"]


@dataclass(frozen=True, slots=True)
class Probe:
    """Load to be put on next. Exactly one of ``rate`` (open loop, requests/s) and ``users`` (closed loop)."""

    phase: Phase
    seed: int
    """Arrivals and requests; a confirmation has one of its own."""
    min_requests: int
    max_requests: int
    """Measured ones. Between the two, ``Search.enough`` decides."""
    rate: float | None = None
    users: int | None = None
    min_s: float = 0.0
    """It lasts at least this long."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a search may take, from its ``since``-th probe on."""

    since: int
    seconds: float
    """In all, not from there on."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen so far, or in the end, of a probe. Arrays are in the order of arrival, over requests whose fate is
    known and all that are due before them."""

    good: tuple[NDArray[np.bool_], ...]
    """One array for each criterion of the SLO. A failed, timed-out or never-sent request is not good; a 429 is not in
    here."""
    scheduled_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    """Of the same requests."""
    rejected: int
    """429s: the limit of a contract, and not a failure of capacity."""
    elapsed_s: float
    """Since the probe began; what the budget pays."""
    input_tokens: float
    """Mean of a request that was answered."""
    output_tokens: float
    work: float | None
    """Mean reference tokens of a request; None where the weights are not known."""
    finished: bool
    """All measured requests are in."""
    invalid: tuple[str, ...] = ()
    """Validity gates that failed, in words: the probe says nothing about the server."""
