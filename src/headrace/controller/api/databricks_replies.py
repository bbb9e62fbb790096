"""What the Databricks calls answer. Fields that do not apply to an endpoint are left out, not null."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Deployment = Literal["DEPLOYMENT_CREATING", "DEPLOYMENT_READY", "DEPLOYMENT_FAILED", "DEPLOYMENT_RECOVERING"]
PermissionLevel = Literal["CAN_VIEW", "CAN_QUERY", "CAN_MANAGE"]


class Reply(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class EntityState(Reply):
    deployment: Deployment
    deployment_state_message: str = Field(description="What keeps it from serving, if anything.")


class _ServedOutput(Reply):
    name: str
    min_provisioned_throughput: int | None = Field(
        default=None, description="Reference tokens/s; there for an endpoint whose size is in tokens/s, as is the next."
    )
    max_provisioned_throughput: int | None = None
    provisioned_model_units: int | None = Field(
        default=None, description="There for an endpoint whose size is in model units."
    )
    scale_to_zero_enabled: bool
    min_dbus: float = Field(description="Price of an hour at the minimum, in the server's currency.")
    max_dbus: float = Field(description="Price of an hour at the maximum, in the server's currency.")
    creator: str
    creation_timestamp: int = Field(description="Unix milliseconds.")
    state: EntityState


class ServedEntityOutput(_ServedOutput):
    entity_name: str
    entity_version: str


class ServedModelOutput(_ServedOutput):
    """The legacy twin."""

    model_name: str
    model_version: str


class RouteOutput(Reply):
    served_entity_name: str
    served_model_name: str
    traffic_percentage: int


class TrafficConfigOutput(Reply):
    routes: list[RouteOutput]


class ConfigOutput(Reply):
    served_entities: list[ServedEntityOutput]
    served_models: list[ServedModelOutput]
    traffic_config: TrafficConfigOutput
    config_version: int


class PendingConfigOutput(ConfigOutput):
    start_time: int = Field(description="Unix milliseconds.")


class EndpointState(Reply):
    ready: Literal["READY", "NOT_READY"]
    config_update: Literal["NOT_UPDATING", "IN_PROGRESS", "UPDATE_FAILED"]
    suspend: Literal["NOT_SUSPENDED"]


class Enabled(Reply):
    enabled: bool


class RateLimitOutput(Reply):
    calls: int | None = None
    tokens: int | None = None
    key: Literal["endpoint", "user", "service_principal"]
    principal: str | None = None
    renewal_period: Literal["minute"]


class AiGatewayOutput(Reply):
    fallback_config: Enabled
    usage_tracking_config: Enabled = Field(description="Always on: the ledger has every request.")
    rate_limits: list[RateLimitOutput]


class Notes(Reply):
    notes: list[str] = Field(description="What was asked for and is done otherwise, in words.")


class AiGatewayAnswer(AiGatewayOutput):
    headrace: Notes


class RateLimitsOutput(Reply):
    rate_limits: list[RateLimitOutput]


class TagOutput(Reply):
    key: str
    value: str


class TagsOutput(Reply):
    tags: list[TagOutput]


class HeadraceOutput(Reply):
    """What Headrace adds to an endpoint."""

    overload: Literal["queue", "reject", "spill"]
    fallback: bool
    queue_deadline_s: float
    cold_start_deadline_s: float
    max_queue: int
    scaling: dict[str, float | None] = Field(description="null: the server's default.")
    autoscaling: Literal["on", "off"]
    notes: list[str] = Field(description="What was asked for and is done otherwise, in words.")


class ServingEndpointDetailed(Reply):
    """``config`` is what is served; ``pending_config`` what is to follow, or could not be brought up."""

    id: str
    name: str
    creator: str
    creator_display_name: str
    creator_kind: Literal["User", "ServicePrincipal"]
    creation_timestamp: int
    last_updated_timestamp: int
    description: str
    tags: list[TagOutput]
    task: str
    permission_level: PermissionLevel
    route_optimized: bool
    ai_gateway: AiGatewayOutput
    state: EndpointState
    config: ConfigOutput | None = None
    pending_config: PendingConfigOutput | None = None
    headrace: HeadraceOutput


class Endpoints(Reply):
    endpoints: list[ServingEndpointDetailed]


class Empty(Reply):
    """``{}``: some clients read JSON from every answer."""


class Notifications(Reply):
    name: str
    email_notifications: dict[str, Any]


class Logs(Reply):
    logs: str
