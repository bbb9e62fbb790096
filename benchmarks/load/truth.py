"""What the simulated server knows of a measurement."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray


class Counts(msgspec.Struct):
    """Since the measurement began."""

    arrived: int = 0
    """Requests for a stream."""
    finished: int = 0
    events: int = 0
    writes: int = 0
    cpu_s: float = 0.0
    """Of the server since its start."""
    looked: int = 0
    """At so many streams it was looked, before their next event went out ..."""
    unread: int = 0
    """... whether their client still had the last one to read."""


@dataclass(frozen=True)
class Truth:
    """What the server recorded; one place of each array is a request, in the order of their arrivals."""

    arrival_ns: NDArray[np.int64]
    """The whole request was there; CLOCK_MONOTONIC."""
    body_crc: NDArray[np.uint64]
    """CRC-32 of its body."""
    request_ids: NDArray[np.str_]
    """As the client named it, or empty."""
    tokens: NDArray[np.uint64]
    """Handed over."""
    write_request: NDArray[np.uint64]
    """Of each write with events: which request's."""
    write_ns: NDArray[np.int64]
    """When it was handed to the kernel."""
    write_events: NDArray[np.uint64]

    @classmethod
    def load(cls, file: Path) -> Truth:
        with np.load(file) as arrays:
            return cls(**arrays)

    @cached_property
    def first_ns(self) -> NDArray[np.int64]:
        """When the first event of each request was handed over; 0 where none was."""
        found = np.zeros(len(self.arrival_ns), np.int64)
        found[self.write_request[::-1]] = self.write_ns[::-1]  # of several, the earliest is put there last
        return found

    @property
    def served_s(self) -> NDArray[np.float64]:
        """The server's own part of each request's time to first token; NaN where no event was sent."""
        served = (self.first_ns - self.arrival_ns) / 1e9
        served[self.first_ns == 0] = np.nan
        return served
