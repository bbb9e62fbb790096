"""What an endpoint is sold with: frozen values that the store keeps and everything else reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Literal

import msgspec

from headrace.config import ScalingConfig
from headrace.engines.base import ModelSettings
from headrace.policy.work import Weights

UpdateState = Literal["NOT_UPDATING", "IN_PROGRESS", "UPDATE_FAILED"]
LimitKey = Literal["endpoint", "user", "service_principal"]


class RateLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much may be asked of an endpoint in any minute. At least one of ``calls`` and ``tokens`` is there."""

    key: LimitKey
    """Who shares it: all callers together, or each user or service principal by itself."""
    principal: str | None = None
    """Name of the one user or service principal that it holds for; None: each of that kind."""
    calls: int | None = None
    """Requests; 0 closes the endpoint to those it holds for, as does ``tokens`` 0."""
    tokens: int | None = None
    """Raw input + output tokens."""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What Headrace adds to an endpoint: the ``headrace`` object of a create body."""

    overload: Literal["queue", "reject", "spill"] = "queue"
    fallback: bool = False
    """A request that one served entity answers with 429 or 5xx is tried on the next one."""
    queue_deadline_s: float = 30.0
    cold_start_deadline_s: float = 290.0
    max_queue: int = 1000
    scaling: ScalingConfig = ScalingConfig()
    """What is None here is the server's default."""
    rate_limits: tuple[RateLimit, ...] = ()
    """Whom each holds for, and which replaces which: see ``policy.rate_limits``."""
    autoscaling: bool = True
    """Off: chunks stay at the minimum of the range."""
    model_units: bool = False
    """Its sizes were asked for in model units, and are told so."""


class Entity(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A served entity as one config version froze it."""

    id: str
    name: str
    """Unique among those of its config."""
    model: ModelSettings
    traffic: int
    """Percentage of the endpoint's requests that are routed here; with 0 it serves what spills or falls back."""
    min_chunks: int
    max_chunks: int
    scale_to_zero: bool
    chunk: int
    """Reference tokens/s of one replica."""
    weights: Weights
    price_micro: int
    """Micro-units of money for a chunk-hour."""
    currency: str
    profile_id: str
    profile_status: str
    created_ms: int

    @cached_property
    def runs_as(self) -> str:
        """Names what its replicas run. Configs that agree in it share replicas: a new range restarts nothing."""
        runs = msgspec.structs.replace(self.model, units_per_chunk=None)  # what it is sold in is no matter to a process
        return hashlib.sha256(msgspec.json.encode((self.id, runs))).hexdigest()[:16]


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A config version: the terms between two updates. Never changed once it is written."""

    version: int
    created_ms: int
    entities: tuple[Entity, ...]
    """One or more, in the order in which requests spill and fall back."""

    def entity(self, entity_id: str) -> Entity | None:
        return next((entity for entity in self.entities if entity.id == entity_id), None)


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A named address. At least one of ``active`` and ``pending`` is there."""

    id: str
    name: str
    created_ms: int
    updated_ms: int
    creator: str
    description: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    options: Options = Options()
    active: Config | None = None
    """What is served and sold now; None until the first config could serve."""
    pending: Config | None = None
    """What replaces it as soon as it can serve."""
    update: UpdateState = "NOT_UPDATING"
    update_message: str = ""

    @property
    def target(self) -> Config:
        """What the endpoint is to become."""
        config = self.pending or self.active
        assert config is not None
        return config

    @property
    def current(self) -> Config:
        """What requests are served by and what is sold; until the first config is active, that one."""
        config = self.active or self.pending
        assert config is not None
        return config

    @cached_property
    def entities(self) -> Mapping[str, Entity]:
        """By id: all that are served or are to be, each by its newest terms."""
        configs = (self.active, self.pending)
        return {entity.id: entity for config in configs if config is not None for entity in config.entities}
