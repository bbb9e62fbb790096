"""What goes into an endpoint core, and what comes out: terms and requests, decisions and observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headrace.policy.queueing import Band
from headrace.policy.work import Weights, largest_work

BURST_SECONDS = 5.0
"""Seconds of the rate that may be admitted at once: requests come in clumps; a second would refuse what a range can
do, a minute would let a neighbour wait that long."""

Reason = Literal["queue_full", "rate", "reject", "deadline", "no_replica", "cold_start", "rate_limit"]
Outcome = Literal["ok", "client_gone", "engine_failed", "engine_error", "timeout", "refused"]
"""How a dispatched request ended. ``refused``: by the engine for a fault of the request (400), or it was never sent."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What an endpoint was sold with, and how it treats what it cannot serve at once."""

    chunk: float
    """Reference tokens/s of one replica."""
    min_chunks: int
    max_chunks: int
    weights: Weights
    context: int
    """Tokens of input and output together, per request."""
    slots: int
    """Requests in flight per replica."""
    default_max_tokens: int
    overload: Literal["queue", "reject", "spill"] = "queue"
    """What happens to a request that cannot be served at once. ``spill``: its driver asks ``fits`` of this entity and
    of the others; one that none can take waits here as under ``queue``."""
    queue_deadline_s: float = 30.0
    cold_start_deadline_s: float = 290.0
    max_queue: int = 1000

    @property
    def rate(self) -> float:
        """The maximum of the range, reference tokens/s."""
        return self.max_chunks * self.chunk

    @property
    def burst(self) -> float:
        """Reference tokens that may be admitted at once. The largest request must fit, or it would never be."""
        return max(BURST_SECONDS * self.rate, largest_work(self.weights, self.context))


class Ask:
    """One request as admission sees it. (What is made for every request has an ``__init__`` of its own: compiled, it
    costs a tenth of what a dataclass's does.)"""

    __slots__ = (
        "band",
        "input_tokens",
        "key",
        "max_output",
        "predicted_output",
        "prefix",
        "retry",
        "rid",
        "weight",
    )

    def __init__(
        self,
        rid: str,
        key: str,
        band: Band,
        input_tokens: int,
        max_output: int,
        predicted_output: int,
        retry: bool = False,
        prefix: int | None = None,
        weight: float = 1.0,
    ) -> None:
        self.rid = rid
        self.key = key
        """Id of the key that it came with."""
        self.band: Band = band
        self.input_tokens = input_tokens
        """Estimated."""
        self.max_output = max_output
        """Tokens that it may produce at most."""
        self.predicted_output = predicted_output
        """Tokens, from ``EndpointCore.predict_output``."""
        self.retry = retry
        """The client says that it asks again for what was refused before: demand that was counted already."""
        self.prefix = prefix
        """Hash of the prompt's head, which names the replica that may have it cached; None: any replica is as good."""
        self.weight = weight
        """The key's share of its band relative to the other keys that wait there; positive."""


@dataclass(init=False, slots=True)
class Dispatch:
    """Send the request to this replica now."""

    rid: str
    replica: str
    work: float
    """Reference tokens reserved for it."""
    queued_s: float

    def __init__(self, rid: str, replica: str, work: float, queued_s: float) -> None:
        self.rid = rid
        self.replica = replica
        self.work = work
        self.queued_s = queued_s


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer the request with an error now."""

    rid: str
    status: Literal[429, 503]
    reason: Reason
    message: str
    """What was asked, what was free, when to come back."""
    retry_after_s: float
    """Until it would be admitted if nothing else arrived."""
    work: float
    """Reference tokens, estimated."""
    queued_s: float


@dataclass(frozen=True, slots=True)
class ReplicaObservation:
    """Fields as in ``gateway.snapshot.ReplicaTick``."""

    id: str
    in_flight: int
    outstanding_work: float
    dispatched: int
    failures: int


@dataclass(frozen=True, slots=True)
class Observation:
    """Counters since the core was made, and gauges of this moment. Fields as in ``gateway.snapshot.EntityTick``."""

    arrivals: int
    offered_work: float
    """Grows by arrivals; a settlement corrects it, also downwards."""
    dispatched: int
    """Requests, each once even where it was sent to a second replica."""
    dispatched_work: float
    served_work: float
    input_tokens: int
    output_tokens: int
    completed: int
    """Answered in full, an engine's 400 included."""
    rejected: int
    rejected_work: float
    abandoned: int
    failed: int
    queued: int
    queued_work: float
    oldest_wait_s: float
    in_flight: int
    in_flight_work: float
    limiter_debt: float
    """Reference tokens by which admitted work is ahead of the rate; the room left is the burst less this."""
    replicas: tuple[ReplicaObservation, ...]
