"""What travels between a controller and a gateway: snapshots down; ticks and acknowledgements up.

One msgspec JSON document per line over a Unix socket that the controller listens on. The gateway owns this format: it
is what the gateway accepts. A snapshot is whole (never a difference) and versioned; the highest version wins.
"""

from __future__ import annotations

import msgspec


class Traits(msgspec.Struct, frozen=True):
    """What the gateway must know of an engine's HTTP server. The defaults are those of a well-behaved one."""

    stream_upstream: bool = False
    """Requests must always be streamed with progress events, or the engine cannot cancel them in prefill."""
    reuse_after_stream: bool = True
    """The connection may carry another request after a streamed answer."""
    upstream_model: str | None = None
    """The model name that the engine expects, where it is not the endpoint's name."""


class WorkWeights(msgspec.Struct, frozen=True):
    """``policy.work.Weights`` on the wire; reference tokens."""

    w_in: float
    w_out: float
    w_pp: float
    w_dd: float
    w_c: float


class ReplicaView(msgspec.Struct, frozen=True):
    """One replica that requests may be sent to, or (``draining``) whose requests in flight are still to finish."""

    id: str
    entity: str
    """Id of the served entity that it belongs to."""
    url: str
    """Base URL without a trailing slash, such as ``http://127.0.0.1:41234``."""
    secret: str
    """Bearer token that the replica asks for; empty for none."""
    slots: int
    draining: bool
    traits: Traits = Traits()


class EntityView(msgspec.Struct, frozen=True):
    """A served entity with the terms that its config version froze."""

    id: str
    name: str
    model: str
    config_version: int
    chunk: float
    """Reference tokens/s of one replica."""
    min_chunks: int
    max_chunks: int
    weights: WorkWeights
    context: int
    """Tokens of context per slot: input and output together."""
    slots: int
    """Requests in flight per replica."""
    default_max_tokens: int
    traffic: int = 100
    """Percentage of the endpoint's requests that are routed here; those of all its entities add up to 100."""
    failing: bool = False
    """Its replicas fail to start again and again, or do not answer."""
    shut_out: bool = False
    """It should have replicas, and the machine has room for none of them."""


class RateLimitView(msgspec.Struct, frozen=True):
    """How much may be asked of an endpoint in any minute; see ``policy.rate_limits``."""

    key: str
    """Whom it holds for: ``endpoint`` (all together), ``user`` or ``service_principal``."""
    principal: str | None = None
    """As in ``KeyView``: the one that it holds for; None: each of that kind."""
    calls: int | None = None
    """Requests; 0: none at all, as with ``tokens``."""
    tokens: int | None = None
    """Raw, input and output."""


class EndpointView(msgspec.Struct, frozen=True):
    """A named address and how it treats what it cannot serve at once."""

    id: str
    name: str
    entities: tuple[EntityView, ...]
    """In the order of the config: the next one is where a request goes that spills or falls back."""
    overload: str = "queue"
    """``queue``, ``reject`` or ``spill``."""
    fallback: bool = False
    """A request that one entity answers with 429 or 5xx is tried on the next one."""
    queue_deadline_s: float = 30.0
    cold_start_deadline_s: float = 290.0
    max_queue: int = 1000
    """Requests that may wait."""
    queriers: tuple[str, ...] | None = None
    """Who may query it, as ``user:NAME`` or ``service_principal:ID``; None: every key. Admin keys always may."""
    rate_limits: tuple[RateLimitView, ...] = ()


class KeyView(msgspec.Struct, frozen=True):
    """A key or an access token by its digest; the text itself is never stored or sent."""

    id: str
    """In journals and logs, and for fairness: all tokens of a service principal have its client id."""
    digest: str
    """Hex SHA-256 of the whole text."""
    role: str
    """``admin`` or ``query``."""
    tiers: tuple[str, ...] = ("default", "flex")
    """Service tiers (bands of the queue) that the key may use."""
    weight: float = 1.0
    """Its share of a band, relative to the other keys that wait there."""
    principal: str = ""
    """Whose key it is: the name of a user, or the client id of a service principal."""
    principal_kind: str = "user"
    """Or ``service_principal``."""
    expires_ms: int | None = None
    """Unix time from which on it is refused; None for never."""


class Snapshot(msgspec.Struct, frozen=True, tag="snapshot"):
    """All that a gateway needs in order to serve."""

    version: int
    restored: bool
    """Every endpoint has reached its state since the server's start: its minimum is ready, or it has failed."""
    endpoints: tuple[EndpointView, ...] = ()
    replicas: tuple[ReplicaView, ...] = ()
    keys: tuple[KeyView, ...] = ()


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First line of a gateway on a new connection."""

    gateway: str
    """The gateway's id for this life of its process; also the name of its journal."""
    pid: int


class Ack(msgspec.Struct, frozen=True, tag="ack"):
    """The gateway decides by this version from now on."""

    version: int


class ReplicaTick(msgspec.Struct, frozen=True):
    """What one gateway has on one replica."""

    id: str
    in_flight: int
    outstanding_work: float
    """Reference tokens dispatched and not settled."""
    dispatched: int
    """Requests since the gateway's start."""
    failures: int
    """Connect errors, first-byte time-outs and 5xx since the gateway's start."""


class EntityTick(msgspec.Struct, frozen=True):
    """Counters of one served entity since the gateway's start and gauges of this moment."""

    endpoint: str
    """Endpoint id."""
    entity: str
    """Id of the served entity."""
    arrivals: int
    offered_work: float
    """Reference tokens: each request once at arrival by its estimate; its settlement corrects it, also downwards."""
    dispatched: int
    served_work: float
    """Reference tokens of settled requests by their exact usage."""
    input_tokens: int
    output_tokens: int
    """Output tokens of settled requests, plus those streamed so far by requests in flight."""
    completed: int
    rejected: int
    """Answered 429 or 503 without being dispatched."""
    abandoned: int
    """Left by the client before the answer was complete."""
    failed: int
    """502, 504, or an engine lost in mid-stream."""
    queued: int
    """Gauge: requests waiting."""
    queued_work: float
    """Gauge: reference tokens waiting."""
    oldest_wait_s: float
    """Gauge."""
    in_flight: int
    """Gauge."""
    in_flight_work: float
    """Gauge: reference tokens dispatched and not settled."""
    limiter_debt: float
    """Gauge: reference tokens by which admitted work is ahead of the rate; the burst less this is left."""
    dispatched_work: float = 0.0
    """Reference tokens, estimated, as the next."""
    rejected_work: float = 0.0


class HistogramTick(msgspec.Struct, frozen=True):
    """Values by the bounds below: ``counts[i]`` of those at most ``bounds[i]`` and above the bound before; the last of
    those above all bounds."""

    counts: tuple[int, ...]
    sum: float


# Those that OpenTelemetry's semantic conventions for generative AI recommend for a model server (of 2026; their status
# is "development") and engines use too, with more at both ends: a request may wait minutes for a cold start, and fast
# engines write a token in less than 10 ms. What is fixed can be added up over gateways and over time.
TTFT_BOUNDS_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 320.0),
)
TPOT_BOUNDS_S = (
    *(0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)
DURATION_BOUNDS_S = (
    *(0.001, 0.005),
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    *(163.84, 327.68),
)
"""Of E2E, of the wait in the queue, and of the time at a replica."""


class LatencyTick(msgspec.Struct, frozen=True):
    """How long complete answers of one kind took, in seconds; see ``gateway.latency.Latency``."""

    operation: str
    """``chat``, ``text_completion`` or ``embeddings``."""
    e2e: HistogramTick
    queue: HistogramTick
    service: HistogramTick
    ttft: HistogramTick
    tpot: HistogramTick


class AnswersTick(msgspec.Struct, frozen=True):
    """How the requests of one served entity have ended since the gateway's start."""

    endpoint: str
    """Endpoint id."""
    entity: str
    """Id of the served entity."""
    statuses: dict[int, int]
    """Requests by HTTP status; 499: the client left first."""
    latency: tuple[LatencyTick, ...]


class JournalTick(msgspec.Struct, frozen=True):
    """Whether what this gateway serves is recorded. Counters are since its start."""

    failure: str | None = None
    """Why the disk takes no records; None where it does."""
    kept: int = 0
    """Gauge: ends of requests that wait for the disk."""
    serves_unmetered: bool = False
    """While it fails, requests are served without a record; otherwise they are refused."""
    unmetered_requests: int = 0
    """Served without a record; the tokens are those of the ones that have ended."""
    unmetered_input_tokens: int = 0
    unmetered_output_tokens: int = 0


class Tick(msgspec.Struct, frozen=True, tag="tick"):
    """Sent at a fixed interval and at once when a request arrives at an endpoint with no ready replica."""

    gateway: str
    at_ms: int
    """Unix time."""
    version: int
    """Snapshot that the gateway decides by."""
    entities: tuple[EntityTick, ...] = ()
    replicas: tuple[ReplicaTick, ...] = ()
    journal: JournalTick = JournalTick()
    answers: tuple[AnswersTick, ...] = ()
    """Of the entities where something has ended since this was last sent on this connection; not in every tick."""


FromGateway = Hello | Ack | Tick
