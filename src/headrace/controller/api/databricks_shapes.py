"""Bodies of Databricks' serving-endpoints API, as far as Headrace does what they ask for.

A field that is not here and asks for something is refused by name. One that is null, false or empty asks for nothing:
clients send such for every feature they know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from headrace.controller.asked import AskedConfig, AskedEntity, AskedRoute
from headrace.controller.endpoint import Config, Endpoint, Entity, Options
from headrace.controller.refusal import Refusal


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _asks_for_nothing(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: given
            for name, given in value.items()
            if given is not None and (name in cls.model_fields or given not in (False, [], {}, ""))
        }


Version = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]
"""Databricks says string; people send numbers."""


class _Served(_Body):
    name: str | None = Field(default=None, min_length=1, max_length=255)
    min_provisioned_throughput: int = Field(
        default=0, description="Reference tokens/s, whole chunks; 0 needs scale to zero."
    )
    max_provisioned_throughput: int = Field(description="Reference tokens/s, whole chunks.")
    scale_to_zero_enabled: bool = Field(False, description="With a minimum of 0, idle means no replica.")


class ServedEntityInput(_Served):
    entity_name: str = Field(description="A registered model.")
    entity_version: Version | None = None

    def asked(self) -> AskedEntity:
        return _asked(self, self.entity_name, self.entity_version)


class ServedModelInput(_Served):
    """The legacy twin."""

    model_name: str
    model_version: Version | None = None

    def asked(self) -> AskedEntity:
        return _asked(self, self.model_name, self.model_version)


class Route(_Body):
    served_entity_name: str | None = None
    served_model_name: str | None = None
    traffic_percentage: int = Field(strict=True, description="0 to 100; those of all routes add up to 100.")

    def asked(self) -> AskedRoute:
        """Raises Refusal for one that does not say where to."""
        names = {self.served_entity_name, self.served_model_name} - {None}
        if len(names) != 1:
            told = " and ".join(sorted(map(repr, names))) or "nothing"
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                f"a route names {told}; expected the name of one served entity as served_entity_name",
                param="traffic_config",
            )
        return AskedRoute(entity=str(names.pop()), percentage=self.traffic_percentage)


class TrafficConfig(_Body):
    routes: list[Route] = []


class CoreConfigInput(_Body):
    name: str | None = None
    served_entities: list[ServedEntityInput] = []
    served_models: list[ServedModelInput] = []
    traffic_config: TrafficConfig | None = None

    def asked(self, endpoint: str) -> AskedConfig:
        """Raises Refusal for a config of another endpoint, and for one that is given in both forms."""
        if self.name is not None and self.name != endpoint:
            raise Refusal(
                "INVALID_PARAMETER_VALUE", f"the config is for {self.name!r}, the call for {endpoint!r}", param="name"
            )
        if self.served_entities and self.served_models:
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                "both served_entities and served_models are given; these are two names of one thing: give the first",
                param="served_models",
            )
        served = self.served_entities or self.served_models
        routes = self.traffic_config.routes if self.traffic_config else []
        return AskedConfig(
            entities=tuple(one.asked() for one in served), routes=tuple(route.asked() for route in routes)
        )


class Tag(_Body):
    key: str
    value: str = ""


class ScalingInput(_Body):
    """What is left out is the server's default."""

    fast_window_s: float | None = Field(default=None, description="Demand over it sees a rise.")
    slow_window_s: float | None = Field(default=None, description="Demand over it carries a lull.")
    headroom: float | None = Field(default=None, description="Part of demand to keep free, such as 0.1.")
    down_window_s: float | None = Field(default=None, description="How long fewer chunks must have sufficed.")
    wait_target_s: float | None = Field(
        default=None, description="How long queued work may wait before it asks for a chunk."
    )
    idle_to_zero_s: float | None = Field(default=None, description="Idle time before the last chunk is given back.")


class HeadraceInput(_Body):
    """What Headrace adds to an endpoint."""

    overload: Literal["queue", "reject", "spill"] = Field(
        default="queue", description="spill: to the next served entity that can take the request at once."
    )
    fallback: bool | None = Field(
        default=None, description="The same as ai_gateway.fallback_config.enabled; by default false."
    )
    queue_deadline_s: float = 30.0
    cold_start_deadline_s: float = 290.0
    max_queue: int = 1000
    scaling: ScalingInput = ScalingInput()


class FallbackConfig(_Body):
    enabled: bool


class AiGateway(_Body):
    fallback_config: FallbackConfig | None = Field(
        default=None, description="Whether a request that one served entity answers with 429 or 5xx tries the next."
    )


class CreateEndpoint(_Body):
    name: str
    config: CoreConfigInput
    description: str = ""
    tags: list[Tag] = []
    ai_gateway: AiGateway = AiGateway()
    headrace: HeadraceInput = HeadraceInput()

    def options(self) -> Options:
        """Raises Refusal where the two places for one option disagree."""
        asked = self.ai_gateway.fallback_config
        given = {self.headrace.fallback, asked.enabled if asked is not None else None} - {None}
        if len(given) == 2:
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                "headrace.fallback and ai_gateway.fallback_config.enabled say two things; leave one of them out",
                param="headrace.fallback",
            )
        return msgspec.convert(self.headrace.model_dump() | {"fallback": True in given}, Options)


class PatchTags(_Body):
    add_tags: list[Tag] = []
    delete_tags: list[str] = []


def _asked(served: _Served, model: str, version: str | None) -> AskedEntity:
    return AskedEntity(
        name=served.name,
        model=model,
        version=version,
        min_tokens_s=served.min_provisioned_throughput,
        max_tokens_s=served.max_provisioned_throughput,
        scale_to_zero=served.scale_to_zero_enabled,
    )


def detailed(endpoint: Endpoint, *, ready: Mapping[str, int], messages: Mapping[str, str]) -> dict[str, Any]:
    """ServingEndpointDetailed. By id of served entity, ``ready``: chunks; ``messages``: what keeps it from serving, if
    anything."""
    serving = {entity.id for entity in endpoint.current.entities if _serves(endpoint, entity, ready)}
    routed = {entity.id for entity in endpoint.current.entities if entity.traffic}
    body: dict[str, Any] = {
        "id": endpoint.id,
        "name": endpoint.name,
        "creator": endpoint.creator,
        "creation_timestamp": endpoint.created_ms,
        "last_updated_timestamp": endpoint.updated_ms,
        "description": endpoint.description,
        "tags": [{"key": key, "value": value} for key, value in endpoint.tags],
        "task": "llm/v1/chat",
        "permission_level": "CAN_MANAGE",
        "route_optimized": False,
        "ai_gateway": {"fallback_config": {"enabled": endpoint.options.fallback}},
        "state": {
            "ready": "READY" if routed <= serving else "NOT_READY",
            "config_update": endpoint.update,
            "suspend": "NOT_SUSPENDED",
        },
        "headrace": msgspec.to_builtins(endpoint.options),
    }
    if endpoint.active is not None:
        updating = endpoint.update == "IN_PROGRESS" and endpoint.pending is None
        missing = "DEPLOYMENT_CREATING" if updating else "DEPLOYMENT_RECOVERING"
        states = {
            entity.id: _state("DEPLOYMENT_READY" if entity.id in serving else missing, messages.get(entity.id, ""))
            for entity in endpoint.active.entities
        }
        body["config"] = _config(endpoint, endpoint.active, states)
    if endpoint.pending is not None:
        failed = endpoint.update == "UPDATE_FAILED"
        deployment = "DEPLOYMENT_FAILED" if failed else "DEPLOYMENT_CREATING"
        states = {
            entity.id: _state(deployment, endpoint.update_message or messages.get(entity.id, ""))
            for entity in endpoint.pending.entities
        }
        body["pending_config"] = _config(endpoint, endpoint.pending, states) | {
            "start_time": endpoint.pending.created_ms
        }
    return body


def _serves(endpoint: Endpoint, entity: Entity, ready: Mapping[str, int]) -> bool:
    """With a chunk, or from zero on as its range allows."""
    return endpoint.active is not None and (ready.get(entity.id, 0) > 0 or entity.min_chunks == 0)


def _state(deployment: str, message: str) -> dict[str, str]:
    return {"deployment": deployment, "deployment_state_message": message}


def _config(endpoint: Endpoint, config: Config, states: Mapping[str, dict[str, str]]) -> dict[str, Any]:
    entities, models, routes = [], [], []
    for entity in config.entities:
        common: dict[str, Any] = {
            "name": entity.name,
            "min_provisioned_throughput": entity.min_chunks * entity.chunk,
            "max_provisioned_throughput": entity.max_chunks * entity.chunk,
            "scale_to_zero_enabled": entity.scale_to_zero,
            "creator": endpoint.creator,
            "creation_timestamp": entity.created_ms,
            "state": states[entity.id],
        }
        entities.append({**common, "entity_name": entity.model.name, "entity_version": entity.model.version})
        models.append({**common, "model_name": entity.model.name, "model_version": entity.model.version})
        names = {"served_entity_name": entity.name, "served_model_name": entity.name}
        routes.append({**names, "traffic_percentage": entity.traffic})
    return {
        "served_entities": entities,
        "served_models": models,
        "traffic_config": {"routes": routes},
        "config_version": config.version,
    }
