"""What an endpoint looks like from outside: everything a person or the page asks for, in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from headrace.controller.controller import Controller
from headrace.controller.endpoint import Config, Endpoint, Entity
from headrace.controller.gateways import Gauges
from headrace.controller.lifecycle import Phase
from headrace.controller.options import told
from headrace.controller.view_entities import EntityInfo, RatesInfo, State, entity_info, rates_info, start_s
from headrace.controller.view_replicas import FailureInfo, ReplicaInfo, last_failure, replica_info
from headrace.controller.words import LOG_FOLLOWS, about, utc


class EndpointInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of chunks, gauges and rates are of all its served entities together."""

    id: str
    name: str
    state: State
    problems: tuple[str, ...]
    config_update: str
    update_message: str
    config_version: int
    pending_version: int | None
    simulated: bool
    """Some of it."""
    measuring: bool
    profile_status: str
    """Of its first served entity, as are the next three; each entity has its own."""
    chunk: int
    min_chunks: int
    max_chunks: int
    options: dict[str, Any]
    """As the create body has them in ``headrace``."""
    created_ms: int
    start_s: float | None
    """What a start of what it is to serve takes, of several models the slowest; None where nothing is known of it."""
    entities: tuple[EntityInfo, ...]
    chunks_wanted: int
    chunks_pending: int
    chunks_ready: int
    chunks_loading: int
    chunks_draining: int
    chunks_in_use: int
    chunks_billed: int
    """What drains of entities that were replaced included."""
    replicas: tuple[ReplicaInfo, ...]
    replicas_ended: tuple[ReplicaInfo, ...]
    """The last that stopped or failed since the controller's start, newest last."""
    gauges: Gauges
    rates: RatesInfo
    last_failure: FailureInfo | None


def endpoint_info(controller: Controller, endpoint: Endpoint) -> EndpointInfo:
    config = endpoint.current
    entities = tuple(entity_info(controller, endpoint, entity) for entity in config.entities)
    chunks = controller.chunks(endpoint)
    return EndpointInfo(
        id=endpoint.id,
        name=endpoint.name,
        state=_overall(entities),
        problems=_problems(controller, endpoint),
        config_update=endpoint.update,
        update_message=endpoint.update_message,
        config_version=config.version,
        pending_version=endpoint.pending.version if endpoint.pending else None,
        simulated=any(entity.simulated for entity in entities),
        measuring=endpoint.name in controller.measuring,
        profile_status=entities[0].profile_status,
        chunk=entities[0].chunk,
        min_chunks=entities[0].min_chunks,
        max_chunks=entities[0].max_chunks,
        options=told(endpoint.options),
        created_ms=endpoint.created_ms,
        start_s=max(filter(None, (start_s(controller, one.model) for one in endpoint.target.entities)), default=None),
        entities=entities,
        chunks_wanted=sum(entity.chunks_wanted for entity in entities),
        chunks_pending=sum(entity.chunks_pending for entity in entities),
        chunks_ready=chunks.ready,
        chunks_loading=chunks.loading,
        chunks_draining=chunks.draining,
        chunks_in_use=chunks.ready + chunks.draining,
        chunks_billed=sum(point.billed_chunks for point in controller.timeline.newest(endpoint.id).values()),
        replicas=tuple(replica_info(controller, endpoint, replica) for replica in controller.roster.of(endpoint.id)),
        replicas_ended=tuple(
            replica_info(controller, endpoint, replica) for replica in controller.roster.ended(endpoint.id)
        ),
        gauges=controller.gateways.gauges(endpoint.id),
        rates=rates_info(controller, endpoint.id),
        last_failure=last_failure(controller, endpoint),
    )


def _overall(entities: Sequence[EntityInfo]) -> State:
    """By those that requests are routed to; the others count where less than their minimum is ready."""
    routed = {entity.state for entity in entities if entity.traffic}
    if routed == {"asleep"}:
        return "asleep"
    if not routed & {"ready", "degraded", "asleep"}:
        worst: tuple[State, ...] = ("failed", "pending", "starting")
        return next(state for state in worst if state in routed)
    return "ready" if all(entity.state in ("ready", "asleep") for entity in entities) else "degraded"


def _problems(controller: Controller, endpoint: Endpoint) -> tuple[str, ...]:
    problems = []
    if endpoint.update == "UPDATE_FAILED":
        problems.append(f"the last config update failed: {endpoint.update_message.partition(LOG_FOLLOWS)[0]}")
    for entity in endpoint.entities.values():
        config = endpoint.target if endpoint.target.entity(entity.id) else endpoint.current
        problems += [about(config, entity, problem) for problem in _of_entity(controller, endpoint, config, entity)]
    problems += [
        f"replica {replica.id}: {replica.message}"
        for replica in controller.roster.of(endpoint.id)
        if replica.phase is Phase.LOADING and replica.message
    ]
    return tuple(problems)


def _of_entity(controller: Controller, endpoint: Endpoint, config: Config, entity: Entity) -> list[str]:
    watch, problems = controller.reconciler.watches.of(entity.id), []
    if reasons := controller.offers.outdated(entity):
        name = controller.offers.spec(entity.model)
        problems.append(
            f"the profile of {name} by which it is sold may not hold here: {'; '.join(reasons)}; "
            f"measure it with `headrace profile {name}`, then update the endpoint"
        )
    if failures := watch.backoff.failures:
        row = f"{failures} replicas in a row failed, the last" if failures > 1 else "a replica failed"
        since = watch.backoff.ready_ms
        again = "" if since is None else f"; ready again since {utc(since)}"
        problems.append(f"{row}: {watch.backoff.message}{again}")
    if config is endpoint.target and watch.granted < watch.wanted:
        problems.append(watch.lack)
    return problems
