"""What other programs send, by their own documentation: the bodies of Databricks' CLI, of its Terraform provider, and
of the notebook that buys provisioned throughput, written down anew from the examples that ``source`` names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BASE = "/api/2.0/serving-endpoints"
TERRAFORM = "docs/resources/{}.md of databricks/terraform-provider-databricks"
CLI = "reference of the Databricks CLI, `serving-endpoints {}`"


@dataclass(frozen=True)
class Documented:
    name: str
    source: str
    method: str
    path: str
    """``{id}`` stands for the id of the endpoint that the body before it made."""
    body: Any
    refused: str = ""
    """What the refusal names, where it asks for what is not done here; empty: it is done."""


LLAMA = {
    "name": "meta_llama_v3_2_3b_instruct-3",
    "entity_name": "system.ai.llama_v3_2_3b_instruct",
    "entity_version": "2",
    "scale_to_zero_enabled": True,
    "max_provisioned_throughput": 44000,
}
MAVERICK = {"entity_name": "system.ai.llama-4-maverick", "entity_version": "1", "provisioned_model_units": 100}
PROMISED = (
    Documented(
        "terraform: a foundation model",
        TERRAFORM.format("model_serving"),
        "POST",
        BASE,
        {
            "name": "llama_3_2_3b_instruct",
            "ai_gateway": {"usage_tracking_config": {"enabled": True}},
            "config": {"served_entities": [LLAMA]},
        },
    ),
    Documented(
        "terraform: its permissions",
        TERRAFORM.format("permissions"),
        "PUT",
        "/api/2.0/permissions/serving-endpoints/{id}",
        {
            "access_control_list": [
                {"group_name": "users", "permission_level": "CAN_VIEW"},
                {"group_name": "admins", "permission_level": "CAN_MANAGE"},
            ]
        },
    ),
    Documented(
        "terraform: a changed config",
        TERRAFORM.format("model_serving"),
        "PUT",
        BASE + "/llama_3_2_3b_instruct/config",
        {
            "served_entities": [LLAMA | {"max_provisioned_throughput": 22000}],
            "traffic_config": {"routes": [{"served_model_name": LLAMA["name"], "traffic_percentage": 100}]},
        },
    ),
    Documented(
        "terraform: rate limits",
        TERRAFORM.format("model_serving"),
        "PUT",
        BASE + "/llama_3_2_3b_instruct/ai-gateway",
        {
            "usage_tracking_config": {"enabled": True},
            "rate_limits": [{"calls": 10, "key": "endpoint", "renewal_period": "minute"}],
        },
    ),
    Documented(
        "terraform: the older rate limits",
        TERRAFORM.format("model_serving"),
        "PUT",
        BASE + "/llama_3_2_3b_instruct/rate-limits",
        {"rate_limits": [{"calls": 10, "key": "user", "renewal_period": "minute"}]},
    ),
    Documented(
        "terraform: model units",
        TERRAFORM.format("model_serving_provisioned_throughput"),
        "POST",
        BASE + "/pt",
        {
            "name": "maverick",
            "ai_gateway": {"usage_tracking_config": {"enabled": True}},
            "config": {"served_entities": [MAVERICK]},
        },
    ),
    Documented(
        "terraform: other model units",
        TERRAFORM.format("model_serving_provisioned_throughput"),
        "PUT",
        BASE + "/pt/maverick/config",
        {"config": {"served_entities": [MAVERICK | {"provisioned_model_units": 50}]}},
    ),
    Documented(
        "notebook: a range of chunks, the version a number",
        "'Provisioned throughput Foundation Model APIs' of Databricks' documentation",
        "POST",
        BASE,
        {
            "name": "prov-throughput-endpoint",
            "config": {
                "served_entities": [
                    {
                        "entity_name": "ml.llm-catalog.mpt",
                        "entity_version": 1,
                        "min_provisioned_throughput": 2 * 980,
                        "max_provisioned_throughput": 3 * 980,
                    }
                ]
            },
        },
    ),
    Documented(
        "cli: the older served_models, with tags",
        CLI.format("create"),
        "POST",
        BASE,
        {
            "name": "ads-endpoint",
            "route_optimized": False,
            "config": {
                "served_models": [
                    {
                        "name": "ads-model-3",
                        "model_name": "ml.llm-catalog.mpt",
                        "model_version": "1",
                        "scale_to_zero_enabled": True,
                        "min_provisioned_throughput": 0,
                        "max_provisioned_throughput": 980,
                    }
                ],
                "traffic_config": {"routes": [{"served_model_name": "ads-model-3", "traffic_percentage": 100}]},
            },
            "tags": [{"key": "team", "value": "data science"}],
        },
    ),
    Documented(
        "cli: tags",
        CLI.format("patch"),
        "PATCH",
        BASE + "/ads-endpoint/tags",
        {"add_tags": [{"key": "team", "value": "ads"}], "delete_tags": ["key_to_delete"]},
    ),
    Documented(
        "cli: permissions of one more",
        CLI.format("update-permissions"),
        "PATCH",
        "/api/2.0/permissions/serving-endpoints/{id}",
        {"access_control_list": [{"group_name": "users", "permission_level": "CAN_QUERY"}]},
    ),
    Documented("cli: an end", CLI.format("delete"), "DELETE", BASE + "/ads-endpoint", None),
)

EXTERNAL = {
    "name": "gpt-4o-mini",
    "external_model": {
        "name": "gpt-4o-mini",
        "provider": "openai",
        "task": "llm/v1/chat",
        "openai_config": {"openai_api_key": "{{secrets/llm_scope/openai_api_key}}"},
    },
}
NOT_DONE = (
    Documented(
        "terraform: workloads on processors",
        TERRAFORM.format("model_serving"),
        "POST",
        BASE,
        {
            "name": "ads-serving-endpoint",
            "config": {
                "served_entities": [
                    {
                        "name": "prod_model",
                        "entity_name": "ads-model",
                        "entity_version": "2",
                        "workload_size": "Small",
                        "scale_to_zero_enabled": True,
                    },
                ]
            },
        },
        refused="workload_size",
    ),
    Documented(
        "terraform: an external model",
        TERRAFORM.format("model_serving"),
        "POST",
        BASE,
        {"name": "gpt-4o-mini", "config": {"served_entities": [EXTERNAL]}},
        refused="external_model",
    ),
    Documented(
        "terraform: guardrails",
        TERRAFORM.format("model_serving"),
        "PUT",
        BASE + "/llama_3_2_3b_instruct/ai-gateway",
        {"guardrails": {"input": {"invalid_keywords": ["SuperSecretProject"], "pii": {"behavior": "BLOCK"}}}},
        refused="guardrails",
    ),
    Documented(
        "terraform: tables of payloads",
        TERRAFORM.format("model_serving"),
        "PUT",
        BASE + "/llama_3_2_3b_instruct/ai-gateway",
        {
            "inference_table_config": {
                "enabled": True,
                "table_name_prefix": "gpt-4o-mini",
                "catalog_name": "ml",
                "schema_name": "ai_gateway",
            }
        },
        refused="inference_table_config",
    ),
    Documented(
        "terraform: another route",
        TERRAFORM.format("model_serving"),
        "POST",
        BASE,
        {"name": "routed", "route_optimized": True, "config": {"served_entities": [LLAMA]}},
        refused="route_optimized",
    ),
    Documented(
        "cli: letters about it",
        CLI.format("update-notifications"),
        "PATCH",
        BASE + "/llama_3_2_3b_instruct/notifications",
        {"email_notifications": {"on_update_failure": ["user@example.com"]}},
        refused="notifications",
    ),
    Documented(
        "bundles: an endpoint without a config",
        "acceptance/bundle/resources/model_serving_endpoints of databricks/cli",
        "POST",
        BASE,
        {"name": "empty"},
        refused="config",
    ),
)
