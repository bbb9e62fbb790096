"""Bodies of Databricks' serving-endpoints API, as far as Headrace does what they ask for.

A field that is not here and asks for something is refused by name. One that is null, false or empty asks for nothing:
clients send such for every feature they know.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from headrace.controller.endpoint import Config, Endpoint, Options
from headrace.controller.offers import Asked
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

    def asked(self) -> Asked:
        return _asked(self, self.entity_name, self.entity_version)


class ServedModelInput(_Served):
    """The legacy twin."""

    model_name: str
    model_version: Version | None = None

    def asked(self) -> Asked:
        return _asked(self, self.model_name, self.model_version)


class Route(_Body):
    served_entity_name: str | None = None
    served_model_name: str | None = None
    traffic_percentage: int


class TrafficConfig(_Body):
    routes: list[Route] = []


class CoreConfigInput(_Body):
    name: str | None = None
    served_entities: list[ServedEntityInput] = []
    served_models: list[ServedModelInput] = []
    traffic_config: TrafficConfig | None = None

    def asked(self, endpoint: str) -> Asked:
        """The one served entity. Raises Refusal for none, for several, and for traffic that goes elsewhere."""
        if self.name is not None and self.name != endpoint:
            raise Refusal(
                "INVALID_PARAMETER_VALUE", f"the config is for {self.name!r}, the call for {endpoint!r}", param="name"
            )
        served = [one.asked() for one in self.served_entities] + [one.asked() for one in self.served_models]
        if len(served) != 1:
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                f"{len(served)} served entities; an endpoint has exactly one in this version of Headrace: make one "
                "endpoint for each model",
                param="served_entities",
            )
        for route in self.traffic_config.routes if self.traffic_config else []:
            names = {route.served_entity_name, route.served_model_name} - {None}
            if route.traffic_percentage != 100 or (served[0].name is not None and not names <= {served[0].name}):
                raise Refusal(
                    "INVALID_PARAMETER_VALUE",
                    "with one served entity, all traffic (traffic_percentage 100) goes to it; leave traffic_config out",
                    param="traffic_config",
                )
        return served[0]


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

    overload: Literal["queue", "reject"] = "queue"
    queue_deadline_s: float = 30.0
    cold_start_deadline_s: float = 290.0
    max_queue: int = 1000
    scaling: ScalingInput = ScalingInput()

    def options(self) -> Options:
        return msgspec.convert(self.model_dump(), Options)


class CreateEndpoint(_Body):
    name: str
    config: CoreConfigInput
    description: str = ""
    tags: list[Tag] = []
    headrace: HeadraceInput = HeadraceInput()


class PatchTags(_Body):
    add_tags: list[Tag] = []
    delete_tags: list[str] = []


def _asked(served: _Served, model: str, version: str | None) -> Asked:
    return Asked(
        name=served.name,
        model=model,
        version=version,
        min_tokens_s=served.min_provisioned_throughput,
        max_tokens_s=served.max_provisioned_throughput,
        scale_to_zero=served.scale_to_zero_enabled,
    )


def detailed(endpoint: Endpoint, *, ready: int, message: str) -> dict[str, Any]:
    """ServingEndpointDetailed. ``ready``: chunks; ``message``: what keeps it from serving, if anything."""
    sleeps = endpoint.active is not None and endpoint.active.entity.min_chunks == 0
    serves = endpoint.active is not None and (ready > 0 or sleeps)
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
        "state": {
            "ready": "READY" if serves else "NOT_READY",
            "config_update": endpoint.update,
            "suspend": "NOT_SUSPENDED",
        },
        "headrace": msgspec.to_builtins(endpoint.options),
    }
    if endpoint.active is not None:
        updating = endpoint.update == "IN_PROGRESS" and endpoint.pending is None
        deployment = "DEPLOYMENT_READY" if serves else "DEPLOYMENT_CREATING" if updating else "DEPLOYMENT_RECOVERING"
        body["config"] = _config(endpoint, endpoint.active, deployment, message)
    if endpoint.pending is not None:
        failed = endpoint.update == "UPDATE_FAILED"
        deployment = "DEPLOYMENT_FAILED" if failed else "DEPLOYMENT_CREATING"
        said = endpoint.update_message or message
        body["pending_config"] = _config(endpoint, endpoint.pending, deployment, said) | {
            "start_time": endpoint.pending.created_ms
        }
    return body


def _config(endpoint: Endpoint, config: Config, deployment: str, message: str) -> dict[str, Any]:
    entity = config.entity
    common: dict[str, Any] = {
        "name": entity.name,
        "min_provisioned_throughput": entity.min_chunks * entity.chunk,
        "max_provisioned_throughput": entity.max_chunks * entity.chunk,
        "scale_to_zero_enabled": entity.scale_to_zero,
        "creator": endpoint.creator,
        "creation_timestamp": entity.created_ms,
        "state": {"deployment": deployment, "deployment_state_message": message},
    }
    route = {"served_entity_name": entity.name, "served_model_name": entity.name, "traffic_percentage": 100}
    return {
        "served_entities": [{**common, "entity_name": entity.model.name, "entity_version": entity.model.version}],
        "served_models": [{**common, "model_name": entity.model.name, "model_version": entity.model.version}],
        "traffic_config": {"routes": [route]},
        "config_version": config.version,
    }
