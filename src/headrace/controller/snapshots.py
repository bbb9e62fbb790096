"""What the gateways are told, made from what the store and the roster hold."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from headrace.controller.access import Access
from headrace.controller.endpoint import Config, Endpoint, Entity, RateLimit
from headrace.controller.keys import Key
from headrace.controller.lifecycle import Phase, Replica
from headrace.engines.base import EngineTraits, ModelSettings
from headrace.gateway.snapshot import (
    EndpointView,
    EntityView,
    KeyView,
    RateLimitView,
    ReplicaView,
    Snapshot,
    Traits,
    WorkWeights,
)

TraitsOf = Callable[[ModelSettings], EngineTraits]


def build(
    endpoints: Sequence[Endpoint],
    replicas: Sequence[Replica],
    access: Access,
    traits_of: TraitsOf,
    *,
    failing: Collection[str],
    version: int,
    restored: bool,
) -> Snapshot:
    """An endpoint whose first config cannot serve yet is there too: requests wait for it as for a cold start.

    ``failing``: ids of endpoints that send requests to a served entity whose replicas fail.
    """
    return Snapshot(
        version=version,
        restored=restored,
        endpoints=tuple(_endpoint(endpoint, access, failing=endpoint.id in failing) for endpoint in endpoints),
        replicas=tuple(
            _replica(replica, traits_of(replica.model))
            for replica in sorted(replicas, key=lambda r: r.id)
            if replica.url is not None and replica.phase in (Phase.READY, Phase.DRAINING)
        ),
        keys=tuple(_key(key) for key in access.credentials()),
    )


def _endpoint(endpoint: Endpoint, access: Access, *, failing: bool) -> EndpointView:
    options, config = endpoint.options, endpoint.current
    cold_start_s = options.cold_start_deadline_s
    if failing:
        # There is no cold start to wait for: a request learns of it as soon as of any other lack of a slot.
        cold_start_s = min(cold_start_s, options.queue_deadline_s)
    return EndpointView(
        id=endpoint.id,
        name=endpoint.name,
        entities=tuple(_entity(config, entity) for entity in config.entities),
        overload=options.overload,
        fallback=options.fallback,
        queue_deadline_s=options.queue_deadline_s,
        cold_start_deadline_s=cold_start_s,
        max_queue=options.max_queue,
        queriers=access.queriers(endpoint),
        rate_limits=tuple(_rate_limit(limit) for limit in access.rate_limits(endpoint)),
    )


def _entity(config: Config, entity: Entity) -> EntityView:
    weights = entity.weights
    return EntityView(
        id=entity.id,
        name=entity.name,
        model=entity.model.name,
        config_version=config.version,
        chunk=float(entity.chunk),
        min_chunks=entity.min_chunks,
        max_chunks=entity.max_chunks,
        weights=WorkWeights(weights.w_in, weights.w_out, weights.w_pp, weights.w_dd, weights.w_c),
        context=entity.model.context,
        slots=entity.model.slots,
        default_max_tokens=entity.model.default_max_tokens,
        traffic=entity.traffic,
    )


def _replica(replica: Replica, traits: EngineTraits) -> ReplicaView:
    assert replica.url is not None
    return ReplicaView(
        id=replica.id,
        entity=replica.entity_id,
        url=replica.url,
        secret=replica.secret,
        slots=replica.model.slots,
        draining=replica.phase is Phase.DRAINING,
        traits=Traits(traits.stream_upstream, traits.reuse_after_stream, traits.upstream_model),
    )


def _rate_limit(limit: RateLimit) -> RateLimitView:
    return RateLimitView(key=limit.key, principal=limit.principal, calls=limit.calls, tokens=limit.tokens)


def _key(key: Key) -> KeyView:
    return KeyView(
        id=key.id,
        digest=key.digest,
        role=key.role,
        tiers=key.tiers,
        weight=key.weight,
        principal=key.principal,
        principal_kind=key.principal_kind,
        expires_ms=key.expires_ms,
    )
