"""What a client told of its requests, matched with what the server recorded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from truth import Truth


@dataclass(frozen=True)
class Told:
    """What a client says of its requests, those that it takes for successful; matched with the server's record."""

    request: NDArray[np.int64]
    """Place in the server's record."""
    ttft_s: NDArray[np.float64]
    tokens: NDArray[np.int64]
    """Of the answer."""
    planned_ns: NDArray[np.int64] | None = None
    """When they were due, by CLOCK_MONOTONIC; None where the client keeps that to itself."""

    @property
    def count(self) -> int:
        return len(self.request)


def by_answer_id(ids: list[str]) -> NDArray[np.int64]:
    """Places in the server's record, of ids that it gave to its answers."""
    return np.array([int(each.rpartition("-")[2]) for each in ids], np.int64)


def by_request_id(ids: list[str], truth: Truth) -> NDArray[np.int64]:
    """Places in the server's record, of ids that clients gave to their requests. Raises KeyError."""
    places = {each: place for place, each in enumerate(truth.request_ids.tolist())}
    return np.array([places[each] for each in ids], np.int64)


def by_body(crcs: list[int], truth: Truth) -> NDArray[np.int64]:
    """Places in the server's record, of bodies that were each sent once. Raises KeyError."""
    places = {each: place for place, each in enumerate(truth.body_crc.tolist())}
    return np.array([places[each] for each in crcs], np.int64)
