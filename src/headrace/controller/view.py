"""What an endpoint looks like from outside: everything a person or the page asks for, in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec

from headrace.controller.controller import Controller
from headrace.controller.endpoint import Config, Endpoint, Entity
from headrace.controller.gateways import Gauges
from headrace.controller.lifecycle import Phase, Replica
from headrace.controller.options import told
from headrace.controller.scaler import knobs_of
from headrace.controller.words import LOG_FOLLOWS, about, counted, utc
from headrace.engines.base import ModelSettings
from headrace.ledger.bills import decimal
from headrace.policy.outlook import Outlook, Standing
from headrace.policy.scaling import Knobs, windows
from headrace.policy.work import Weights
from headrace.profiles import files, starts

RATES_OVER_S = 10
"""Tokens/s "now" are means over so many seconds."""

State = Literal["ready", "starting", "asleep", "degraded", "failed"]
"""``asleep``: at zero, as its range allows. ``degraded``: it serves, with less than its minimum; of an endpoint, not
all that it should serve with serves so."""


class ReplicaInfo(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    entity: str
    """Name of the served entity."""
    state: str
    """``pending``, ``loading``, ``ready``, ``draining``, ``stopped`` or ``failed``."""
    pid: int | None
    cpus: tuple[int, ...]
    slots: int
    in_flight: int
    config_version: int
    created_ms: int
    ready_ms: int | None
    draining_ms: int | None
    drain_cause: str | None
    load_s: float | None
    ended_ms: int | None
    exit_code: int | None
    message: str


class FailureInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The last failure of a replica."""

    entity: str
    """Name."""
    at_ms: int
    in_a_row: int
    message: str
    log_tail: str
    next_start_ms: int


class RatesInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Per second, means over the last ``over_s`` seconds."""

    over_s: int
    input_tokens_s: float
    output_tokens_s: float
    total_tokens_s: float
    """Input + output."""
    reference_tokens_s: float
    """Served."""
    offered_reference_tokens_s: float


class EntityInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A served entity by the config that is sold now. Chunk and range are in reference tokens/s."""

    id: str
    name: str
    traffic: int
    """Percentage of the endpoint's requests."""
    state: State
    model: str
    model_version: str
    engine: str
    simulated: bool
    context: int
    slots: int
    default_max_tokens: int
    chunk: int
    min_chunks: int
    max_chunks: int
    min_tokens_s: int
    max_tokens_s: int
    scale_to_zero: bool
    weights: Weights
    profile_id: str
    profile_status: str
    """``provisional``, ``quick``, ``measured`` or ``doubtful``."""
    price_per_chunk_hour: str
    currency: str
    start_s: float | None
    """What a start takes: the median of those seen here, else what the profile measured."""
    chunks_wanted: int
    """By the last scaling decision."""
    chunks_pending: int
    """Of them, those that the machine has no room for beside the other served entities."""
    chunks_ready: int
    chunks_loading: int
    chunks_draining: int
    chunks_in_use: int
    """Ready or draining."""
    chunks_billed: int
    scaling_reason: str
    """Of the last decision."""
    scaling_standing: Standing | None
    """What follows if nothing changes; None before the first decision."""
    scaling_until_ms: int | None
    """Until then at least, where a time is known."""
    knobs: Knobs
    """By which it scales, the defaults filled in."""
    gauges: Gauges
    rates: RatesInfo


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
    entities = tuple(_entity(controller, endpoint, entity) for entity in config.entities)
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
        replicas=tuple(_replica(controller, endpoint, replica) for replica in controller.roster.of(endpoint.id)),
        replicas_ended=tuple(
            _replica(controller, endpoint, replica) for replica in controller.roster.ended(endpoint.id)
        ),
        gauges=controller.gateways.gauges(endpoint.id),
        rates=_rates(controller, endpoint.id),
        last_failure=_last_failure(controller, endpoint),
    )


def _entity(controller: Controller, endpoint: Endpoint, entity: Entity) -> EntityInfo:
    watch = controller.reconciler.watches.of(entity.id)
    outlook = watch.scaler.outlook
    chunks = controller.chunks(endpoint, entity)
    newest = controller.timeline.newest(endpoint.id).get(entity.id)
    failing = controller.reconciler.watches.failing(endpoint, entity)
    return EntityInfo(
        id=entity.id,
        name=entity.name,
        traffic=entity.traffic,
        state=_state(endpoint, entity, chunks.ready, failing=failing),
        model=entity.model.name,
        model_version=entity.model.version,
        engine=entity.model.engine,
        simulated=entity.model.engine == "simulated",
        context=entity.model.context,
        slots=entity.model.slots,
        default_max_tokens=entity.model.default_max_tokens,
        chunk=entity.chunk,
        min_chunks=entity.min_chunks,
        max_chunks=entity.max_chunks,
        min_tokens_s=entity.min_chunks * entity.chunk,
        max_tokens_s=entity.max_chunks * entity.chunk,
        scale_to_zero=entity.scale_to_zero,
        weights=entity.weights,
        profile_id=entity.profile_id,
        profile_status=entity.profile_status,
        price_per_chunk_hour=decimal(entity.price_micro),
        currency=entity.currency,
        start_s=start_s(controller, entity.model),
        chunks_wanted=watch.wanted,
        chunks_pending=watch.missing,
        chunks_ready=chunks.ready,
        chunks_loading=chunks.loading,
        chunks_draining=chunks.draining,
        chunks_in_use=chunks.ready + chunks.draining,
        chunks_billed=newest.billed_chunks if newest else 0,
        scaling_reason=watch.reason,
        scaling_standing=outlook.standing if outlook is not None else None,
        scaling_until_ms=_until_ms(controller, outlook),
        knobs=_knobs(controller, endpoint, entity),
        gauges=controller.gateways.gauges(entity.id),
        rates=_rates(controller, entity.id),
    )


def _knobs(controller: Controller, endpoint: Endpoint, entity: Entity) -> Knobs:
    knobs = knobs_of(controller.config.scaling, endpoint.options)
    fast_s, slow_s = windows(knobs, float(entity.chunk), entity.model.slots)
    return replace(knobs, fast_window_s=fast_s, slow_window_s=slow_s)


def _until_ms(controller: Controller, outlook: Outlook | None) -> int | None:
    """On the wall clock."""
    if outlook is None or outlook.until is None:
        return None
    clock = controller.clock
    return clock.now_ms() + max(0, round((outlook.until - clock.now()) * 1000))


def _state(endpoint: Endpoint, entity: Entity, ready: int, *, failing: bool) -> State:
    if ready == 0 and (failing or (endpoint.active is None and endpoint.update == "UPDATE_FAILED")):
        return "failed"
    if endpoint.active is None:
        return "starting"
    if ready == 0:
        return "asleep" if entity.min_chunks == 0 else "starting"
    return "ready" if ready >= entity.min_chunks else "degraded"


def _overall(entities: Sequence[EntityInfo]) -> State:
    """By those that requests are routed to; the others count where less than their minimum is ready."""
    routed = {entity.state for entity in entities if entity.traffic}
    if routed == {"asleep"}:
        return "asleep"
    if not routed & {"ready", "degraded", "asleep"}:
        return "failed" if "failed" in routed else "starting"
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
        ranges = " or ".join(("its range", *(f"that of {rival}" for rival in watch.rivals)))
        problems.append(
            f"it should have {counted(watch.wanted, 'chunk')}, and there is room for {watch.granted}: "
            f"make {ranges} smaller, or use a machine with more cores"
        )
    return problems


def _last_failure(controller: Controller, endpoint: Endpoint) -> FailureInfo | None:
    failures = [
        FailureInfo(
            entity=entity.name,
            at_ms=backoff.at_ms,
            in_a_row=backoff.failures,
            message=backoff.message,
            log_tail=backoff.tail,
            next_start_ms=backoff.not_before_ms,
        )
        for entity in endpoint.entities.values()
        if (backoff := controller.reconciler.watches.of(entity.id).backoff).failures
    ]
    return max(failures, key=lambda failure: failure.at_ms, default=None)


def _replica(controller: Controller, endpoint: Endpoint, replica: Replica) -> ReplicaInfo:
    started_for = (endpoint.id, replica.config_version, replica.entity_id)
    entity = endpoint.entities.get(replica.entity_id) or controller.store.entity(*started_for)
    return ReplicaInfo(
        id=replica.id,
        entity=entity.name if entity is not None else "",
        state=replica.phase.value,
        pid=replica.pid,
        cpus=replica.cpus,
        slots=replica.model.slots,
        in_flight=controller.gateways.in_flight(replica.id),
        config_version=replica.config_version,
        created_ms=replica.created_ms,
        ready_ms=replica.ready_ms,
        draining_ms=replica.draining_ms,
        drain_cause=replica.drain_cause,
        load_s=replica.load_s,
        ended_ms=replica.ended_ms,
        exit_code=replica.exit_code,
        message=replica.message,
    )


def start_s(controller: Controller, model: ModelSettings) -> float | None:
    """Seconds that the next start of a replica is likely to take; None where nothing is known of it."""
    seen = starts.load(controller.data.profiles, model)
    try:
        return starts.start_s(seen, None if seen else files.find(model, controller.data.profiles))
    except files.ProfileError:
        return None


def _rates(controller: Controller, of: str) -> RatesInfo:
    mean = controller.series.mean(of, RATES_OVER_S)
    return RatesInfo(
        over_s=RATES_OVER_S,
        input_tokens_s=mean.input_tokens_s if mean else 0.0,
        output_tokens_s=mean.output_tokens_s if mean else 0.0,
        total_tokens_s=mean.total_tokens_s if mean else 0.0,
        reference_tokens_s=mean.reference_tokens_s if mean else 0.0,
        offered_reference_tokens_s=mean.offered_reference_tokens_s if mean else 0.0,
    )
