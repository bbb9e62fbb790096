"""What every body of a Databricks call has in common: what asks for nothing is no matter, and what asks for something
that Headrace does not do is refused by name, never accepted and ignored."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

NOT_DONE = {
    "external_model": "Headrace calls no provider; register a server that speaks OpenAI's API with "
    "`headrace models add NAME --url URL`, measure it, and serve it under that name",
    "instance_profile_arn": "replicas run as the server does, with no cloud identity of their own",
    "environment_vars": "a replica gets no environment of its own; what an engine needs stands in its model's settings",
    "workload_size": "capacity is sold in tokens/s; give min_ and max_provisioned_throughput",
    "workload_type": "a replica runs on what its model's settings ask for; leave it out",
    "min_provisioned_concurrency": "capacity is sold in tokens/s; give min_ and max_provisioned_throughput",
    "max_provisioned_concurrency": "capacity is sold in tokens/s; give min_ and max_provisioned_throughput",
    "served_entities": "it stands in `config`",
    "served_models": "give served_entities, in `config`",
    "rate_limits": "it stands in `ai_gateway`",
    "provisioned_model_units": "this call takes tokens/s; for model units call POST /api/2.0/serving-endpoints/pt",
    "min_provisioned_throughput": "this call takes provisioned_model_units; for tokens/s call POST "
    "/api/2.0/serving-endpoints",
    "max_provisioned_throughput": "this call takes provisioned_model_units; for tokens/s call POST "
    "/api/2.0/serving-endpoints",
    "scale_to_zero_enabled": "model units are a fixed size; for an endpoint that goes to zero call POST "
    "/api/2.0/serving-endpoints with a range in tokens/s",
    "burst_scaling_enabled": "nothing is served above a range; give a larger max_provisioned_throughput",
    "guardrails": "prompts and answers are passed on as they are; filter them before or behind Headrace",
    "inference_table_config": "prompts and answers are not kept; `headrace usage` has the tokens of every request",
    "auto_capture_config": "prompts and answers are not kept; `headrace usage` has the tokens of every request",
    "email_notifications": "Headrace sends no mail; events are at GET /api/headrace/v1/events",
    "telemetry_config": "Headrace writes no telemetry tables; metrics are at GET /metrics, and usage at "
    "GET /api/headrace/v1/usage",
    "route_optimized": "there is one route, and every endpoint has it",
    "budget_policy_id": "there are no budget policies; the bill of each endpoint is at GET /api/headrace/v1/bill",
}
"""By name of the field: what Headrace does instead, or what to do."""


def asks_for_nothing(value: Any) -> bool:
    """Clients send a field for every feature that they know: null, false, zero, empty, or an object of such."""
    if isinstance(value, dict):
        return value.get("enabled") is False or all(asks_for_nothing(part) for part in value.values())
    return value is None or value in (False, "", [], "NONE")


_NOTHING = {"$ref": "#/components/schemas/Nothing"}
SCHEMAS: dict[str, Any] = {
    "Nothing": {
        "description": "What asks for nothing, of a feature that Headrace does not know.",
        "anyOf": [
            {"enum": [None, False, 0, "", "NONE"]},
            {"type": "array", "maxItems": 0},
            {"type": "object", "required": ["enabled"], "properties": {"enabled": {"const": False}}},
            {"type": "object", "additionalProperties": _NOTHING},
        ],
    }
}
"""That the bodies of the OpenAPI document refer to."""


def _tell_of_leniency(schema: dict[str, Any]) -> None:
    """The schema is to say what is taken: null for what may be left out, and unknown fields that ask for nothing."""
    schema["additionalProperties"] = _NOTHING
    for name, field in schema.get("properties", {}).items():
        if name not in schema.get("required", ()) and {"type": "null"} not in field.get("anyOf", ()):
            description = {key: field.pop(key) for key in ("title", "description", "default") if key in field}
            schema["properties"][name] = {"anyOf": [field, {"type": "null"}], **description}


class Body(BaseModel):
    """An object of which only what asks for something is read."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), json_schema_extra=_tell_of_leniency)

    @model_validator(mode="before")
    @classmethod
    def _drop_what_asks_for_nothing(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: given
            for name, given in value.items()
            if given is not None and (name in cls.model_fields or not asks_for_nothing(given))
        }


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value or None


Version = Annotated[str | None, BeforeValidator(_as_text, json_schema_input_type=str | int | None)]
"""Databricks says string; people send numbers. Empty: the one that is served, else the newest."""

Text = Annotated[str, Field(pattern="^[^\\x00]*$")]
"""For people. Databases take no zero character."""

EXACT = 1 << 53
"""JSON readers keep no larger whole number exactly."""

Int = Annotated[int, Field(strict=True, ge=-EXACT, le=EXACT)]
"""A number that is sent as text was meant as something else; so for the next two."""
Bool = Annotated[bool, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
