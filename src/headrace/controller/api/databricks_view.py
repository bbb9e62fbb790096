"""From an endpoint to what the Databricks calls say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from headrace.controller.api import databricks_replies as replies
from headrace.controller.api.databricks_notes import notes
from headrace.controller.controller import Controller
from headrace.controller.endpoint import Config, Endpoint, Entity, Options, RateLimit
from headrace.controller.keys import Key
from headrace.controller.room import no_room
from headrace.controller.units import units
from headrace.controller.words import with_log
from headrace.ledger.bills import MICRO


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """How an endpoint does, as far as its replies tell."""

    ready: Mapping[str, int]
    """Chunks, by id of served entity."""
    messages: Mapping[str, str]
    """What keeps an entity from serving, by its id; where anything does."""
    asleep: frozenset[str]
    """Ids of entities at zero, as their range allows, of which nothing starts."""


def detailed(
    controller: Controller, key: Key, endpoint: Endpoint, *, of_call: Sequence[str] = ()
) -> replies.ServingEndpointDetailed:
    """As the caller may see it. ``of_call``: notes on what this call asked for, beside those on the endpoint."""
    entities = endpoint.entities.values()
    backoffs = {entity.id: controller.reconciler.watches.of(entity.id).backoff for entity in entities}
    chunks = {entity.id: controller.chunks(endpoint, entity) for entity in entities}
    without_room = {
        entity.id: why for entity in endpoint.target.entities if (why := no_room(controller, endpoint, entity))
    }
    now = Now(
        ready={entity_id: each.ready for entity_id, each in chunks.items()},
        asleep=frozenset(
            entity.id
            for entity in entities
            if not entity.min_chunks and not chunks[entity.id].ready and not chunks[entity.id].loading
        ),
        messages=without_room
        | {
            entity_id: with_log(backoff.message, backoff.tail)
            for entity_id, backoff in backoffs.items()
            if backoff.failures and backoff.ready_ms is None
        },
    )
    room_notes = [f"{endpoint.entities[entity_id].name}: {why}" for entity_id, why in without_room.items()]
    service_principal = controller.access.service_principals.get(endpoint.creator)
    level = controller.access.level(key, endpoint)
    assert level is not None  # nobody is shown what they may not see
    return replies.ServingEndpointDetailed(
        id=endpoint.id,
        name=endpoint.name,
        creator=endpoint.creator,
        creator_display_name=endpoint.creator if service_principal is None else service_principal.name,
        creator_kind="User" if service_principal is None else "ServicePrincipal",
        creation_timestamp=endpoint.created_ms,
        last_updated_timestamp=endpoint.updated_ms,
        description=endpoint.description,
        tags=tags(endpoint).tags,
        task="llm/v1/chat",
        permission_level=msgspec.convert(level.name, replies.PermissionLevel),
        route_optimized=False,
        ai_gateway=ai_gateway(endpoint.options),
        state=_state(endpoint, now),
        headrace=_headrace(endpoint, [*notes(controller, endpoint), *room_notes, *of_call]),
        **_configs(endpoint, now),
    )


def tags(endpoint: Endpoint) -> replies.TagsOutput:
    return replies.TagsOutput(tags=[replies.TagOutput(key=key, value=value) for key, value in endpoint.tags])


def ai_gateway(options: Options) -> replies.AiGatewayOutput:
    return replies.AiGatewayOutput(
        fallback_config=replies.Enabled(enabled=options.fallback),
        usage_tracking_config=replies.Enabled(enabled=True),
        rate_limits=rate_limits(options).rate_limits,
    )


def rate_limits(options: Options) -> replies.RateLimitsOutput:
    return replies.RateLimitsOutput(rate_limits=[_limit(limit) for limit in options.rate_limits])


def price(entity: Entity, chunks: int) -> float:
    """Of so many chunks for one hour, in units of money."""
    return chunks * entity.price_micro / MICRO


def size(endpoint: Endpoint, entity: Entity) -> dict[str, int]:
    """In the unit that the endpoint was made in."""
    if endpoint.options.model_units:
        return {"provisioned_model_units": units(entity)}
    return {
        "min_provisioned_throughput": entity.min_chunks * entity.chunk,
        "max_provisioned_throughput": entity.max_chunks * entity.chunk,
    }


def _limit(limit: RateLimit) -> replies.RateLimitOutput:
    told = {name: value for name, value in msgspec.to_builtins(limit).items() if value is not None}
    return replies.RateLimitOutput(**told, renewal_period="minute")


def _headrace(endpoint: Endpoint, told: list[str]) -> replies.HeadraceOutput:
    options = endpoint.options
    return replies.HeadraceOutput(
        overload=options.overload,
        fallback=options.fallback,
        queue_deadline_s=options.queue_deadline_s,
        cold_start_deadline_s=options.cold_start_deadline_s,
        max_queue=options.max_queue,
        scaling=msgspec.to_builtins(options.scaling),
        autoscaling="on" if options.autoscaling else "off",
        notes=told,
    )


def _state(endpoint: Endpoint, now: Now) -> replies.EndpointState:
    """Ready where all that requests are routed to serve."""
    routed = [entity for entity in endpoint.current.entities if entity.traffic]
    return replies.EndpointState(
        ready="READY" if all(_serves(endpoint, entity, now) for entity in routed) else "NOT_READY",
        config_update=endpoint.update,
        suspend="NOT_SUSPENDED",
    )


def _serves(endpoint: Endpoint, entity: Entity, now: Now) -> bool:
    """With a chunk, or from zero on as its range allows."""
    return endpoint.active is not None and (now.ready.get(entity.id, 0) > 0 or entity.min_chunks == 0)


def _configs(endpoint: Endpoint, now: Now) -> dict[str, Any]:
    """Those that the endpoint has."""
    told: dict[str, Any] = {}
    if endpoint.active is not None:
        updating = endpoint.update == "IN_PROGRESS" and endpoint.pending is None
        # An update that has failed left no config of its own in which to say why.
        failed_update = f"the last update failed: {endpoint.update_message}" if endpoint.update_message else ""
        missing: replies.Deployment = "DEPLOYMENT_CREATING" if updating else "DEPLOYMENT_RECOVERING"
        states = {
            entity.id: replies.EntityState(
                deployment="DEPLOYMENT_READY" if _serves(endpoint, entity, now) else missing,
                deployment_state_message=(
                    now.messages.get(entity.id)
                    or failed_update
                    or ("Scaled to zero" if entity.id in now.asleep else "")
                ),
            )
            for entity in endpoint.active.entities
        }
        told["config"] = replies.ConfigOutput(**_config(endpoint, endpoint.active, states))
    if endpoint.pending is not None:
        failed = endpoint.update == "UPDATE_FAILED"
        states = {
            entity.id: replies.EntityState(
                deployment="DEPLOYMENT_FAILED" if failed else "DEPLOYMENT_CREATING",
                deployment_state_message=endpoint.update_message or now.messages.get(entity.id, ""),
            )
            for entity in endpoint.pending.entities
        }
        told["pending_config"] = replies.PendingConfigOutput(
            **_config(endpoint, endpoint.pending, states), start_time=endpoint.pending.created_ms
        )
    return told


def _config(endpoint: Endpoint, config: Config, states: Mapping[str, replies.EntityState]) -> dict[str, Any]:
    entities, models, routes = [], [], []
    for entity in config.entities:
        common: dict[str, Any] = {
            "name": entity.name,
            **size(endpoint, entity),
            "scale_to_zero_enabled": entity.scale_to_zero,
            "min_dbus": price(entity, entity.min_chunks),
            "max_dbus": price(entity, entity.max_chunks),
            "creator": endpoint.creator,
            "creation_timestamp": entity.created_ms,
            "state": states[entity.id],
        }
        model, version = entity.model.name, entity.model.version
        entities.append(replies.ServedEntityOutput(**common, entity_name=model, entity_version=version))
        models.append(replies.ServedModelOutput(**common, model_name=model, model_version=version))
        routes.append(
            replies.RouteOutput(
                served_entity_name=entity.name, served_model_name=entity.name, traffic_percentage=entity.traffic
            )
        )
    return {
        "served_entities": entities,
        "served_models": models,
        "traffic_config": replies.TrafficConfigOutput(routes=routes),
        "config_version": config.version,
    }
