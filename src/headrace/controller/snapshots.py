"""What the gateways are told, made from what the store and the roster hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

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
View = TypeVar("View")


class Views:
    """Makes snapshots. Between two of them little has changed: only of that the views are made anew."""

    def __init__(self, access: Access, traits_of: TraitsOf) -> None:
        self._access = access
        self._traits_of = traits_of
        self._endpoints: _Kept[EndpointView] = _Kept()
        self._replicas: _Kept[ReplicaView] = _Kept()
        self._keys: _Kept[KeyView] = _Kept()

    def snapshot(
        self,
        endpoints: Sequence[Endpoint],
        replicas: Sequence[Replica],
        *,
        failing: frozenset[str],
        shut_out: frozenset[str],
        version: int,
        restored: bool,
    ) -> Snapshot:
        """An endpoint whose first config cannot serve yet is there too: requests wait for it as for a cold start.

        ``failing``: ids of served entities whose replicas fail; ``shut_out``: of those that there is no room for.
        """
        access = self._access
        return Snapshot(
            version=version,
            restored=restored,
            endpoints=self._endpoints.of(
                _endpoint,
                (
                    (
                        one.id,
                        (
                            one,
                            access.queriers(one),
                            access.rate_limits(one),
                            failing & one.entities.keys(),
                            shut_out & one.entities.keys(),
                        ),
                    )
                    for one in endpoints
                ),
            ),
            replicas=self._replicas.of(
                self._replica,
                (
                    (one.id, (one.id, one.entity_id, one.model, one.url, one.secret, one.phase is Phase.DRAINING))
                    for one in sorted(replicas, key=lambda replica: replica.id)
                    if one.url is not None and one.phase in (Phase.READY, Phase.DRAINING)
                ),
            ),
            # By digest: the tokens of one service principal share an id.
            keys=self._keys.of(_key, ((key.digest, (key,)) for key in access.credentials())),
        )

    def _replica(
        self, replica_id: str, entity_id: str, model: ModelSettings, url: str, secret: str, draining: bool
    ) -> ReplicaView:
        traits = self._traits_of(model)
        return ReplicaView(
            id=replica_id,
            entity=entity_id,
            url=url,
            secret=secret,
            slots=model.slots,
            draining=draining,
            traits=Traits(traits.stream_upstream, traits.reuse_after_stream, traits.upstream_model),
        )


class _Kept(Generic[View]):
    """Views, each with what it was made of."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[tuple[Any, ...], View]] = {}

    def of(self, make: Callable[..., View], given: Iterable[tuple[str, tuple[Any, ...]]]) -> tuple[View, ...]:
        """Of what is given now, by a name that is its own; all others are forgotten."""
        made = {}
        for name, parts in given:
            known = self._made.get(name)
            made[name] = known if known is not None and known[0] == parts else (parts, make(*parts))
        self._made = made
        return tuple(view for _, view in made.values())


def _endpoint(
    endpoint: Endpoint,
    queriers: tuple[str, ...] | None,
    limits: tuple[RateLimit, ...],
    failing: frozenset[str],
    shut_out: frozenset[str],
) -> EndpointView:
    options, config = endpoint.options, endpoint.current
    cold_start_s = options.cold_start_deadline_s
    if any(entity.traffic and entity.id in failing for entity in config.entities):
        # There is no cold start to wait for: a request learns of it as soon as of any other lack of a slot.
        cold_start_s = min(cold_start_s, options.queue_deadline_s)
    return EndpointView(
        id=endpoint.id,
        name=endpoint.name,
        entities=tuple(
            _entity(config, entity, failing=entity.id in failing, shut_out=entity.id in shut_out)
            for entity in config.entities
        ),
        overload=options.overload,
        fallback=options.fallback,
        queue_deadline_s=options.queue_deadline_s,
        cold_start_deadline_s=cold_start_s,
        max_queue=options.max_queue,
        queriers=queriers,
        rate_limits=tuple(_rate_limit(limit) for limit in limits),
    )


def _entity(config: Config, entity: Entity, *, failing: bool, shut_out: bool) -> EntityView:
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
        failing=failing,
        shut_out=shut_out,
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
