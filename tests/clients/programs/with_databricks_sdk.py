"""``databricks-sdk``. Host and credentials come from its environment variables."""

from __future__ import annotations

import json
from typing import Any

from answering import answer
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.serving import (
    AiGatewayConfig,
    AiGatewayRateLimit,
    ChatMessage,
    EndpointCoreConfigInput,
    EndpointTag,
    FallbackConfig,
    PtEndpointCoreConfig,
    RateLimit,
    ServingEndpointAccessControlRequest,
)

client = WorkspaceClient()
endpoints = client.serving_endpoints


def auth_type() -> str | None:
    return client.config.auth_type


def create_and_wait(
    name: str, config: dict[str, Any], tags: tuple[dict[str, str], ...] = (), ai_gateway: dict[str, Any] | None = None
) -> Any:
    made = endpoints.create_and_wait(
        name,
        config=EndpointCoreConfigInput.from_dict(config),
        tags=[EndpointTag.from_dict(tag) for tag in tags],
        ai_gateway=AiGatewayConfig.from_dict(ai_gateway) if ai_gateway else None,
    )
    return made.as_dict()


def update_config_and_wait(name: str, config: dict[str, Any]) -> Any:
    given = EndpointCoreConfigInput.from_dict(config)
    return endpoints.update_config_and_wait(
        name, served_entities=given.served_entities, traffic_config=given.traffic_config
    ).as_dict()


def get(name: str) -> Any:
    return endpoints.get(name).as_dict()


def names() -> list[str | None]:
    return [endpoint.name for endpoint in endpoints.list()]


def delete(name: str) -> None:
    endpoints.delete(name)


def patch(name: str, add: dict[str, str], delete: list[str]) -> Any:
    tags = [EndpointTag(key=key, value=value) for key, value in add.items()]
    return endpoints.patch(name, add_tags=tags, delete_tags=delete).as_dict()


def put(name: str, rate_limits: list[dict[str, Any]]) -> Any:
    return endpoints.put(name, rate_limits=[RateLimit.from_dict(limit) for limit in rate_limits]).as_dict()


def put_ai_gateway(name: str, rate_limits: list[dict[str, Any]], fallback: bool) -> Any:
    return endpoints.put_ai_gateway(
        name,
        rate_limits=[AiGatewayRateLimit.from_dict(limit) for limit in rate_limits],
        fallback_config=FallbackConfig(enabled=fallback),
    ).as_dict()


def create_provisioned_throughput_endpoint_and_wait(name: str, config: dict[str, Any]) -> Any:
    given = PtEndpointCoreConfig.from_dict(config)
    return endpoints.create_provisioned_throughput_endpoint_and_wait(name, config=given).as_dict()


def update_provisioned_throughput_endpoint_config_and_wait(name: str, config: dict[str, Any]) -> Any:
    given = PtEndpointCoreConfig.from_dict(config)
    return endpoints.update_provisioned_throughput_endpoint_config_and_wait(name, config=given).as_dict()


def get_permission_levels(of: str) -> Any:
    return endpoints.get_permission_levels(of).as_dict()


def get_permissions(of: str) -> Any:
    return endpoints.get_permissions(of).as_dict()


def set_permissions(of: str, grants: list[dict[str, str]]) -> Any:
    return endpoints.set_permissions(of, access_control_list=_grants(grants)).as_dict()


def update_permissions(of: str, grants: list[dict[str, str]]) -> Any:
    return endpoints.update_permissions(of, access_control_list=_grants(grants)).as_dict()


def _grants(grants: list[dict[str, str]]) -> list[ServingEndpointAccessControlRequest]:
    return [ServingEndpointAccessControlRequest.from_dict(grant) for grant in grants]


def export_metrics(name: str) -> str:
    contents = endpoints.export_metrics(name).contents
    assert contents is not None
    return contents.read().decode()


def get_open_api(name: str) -> Any:
    contents = endpoints.get_open_api(name).contents
    assert contents is not None
    return json.loads(contents.read())


def logs(name: str, served: str) -> str:
    return endpoints.logs(name, served).logs


def build_logs(name: str, served: str) -> str:
    return endpoints.build_logs(name, served).logs


def get_model_optimization_info(model: str, version: str) -> Any:
    """Not in the SDK: notebooks ask for it like this."""
    return client.api_client.do("GET", f"/api/2.0/serving-endpoints/get-model-optimization-info/{model}/{version}")


def query(name: str, messages: tuple[dict[str, str], ...] | None = None, **more: Any) -> Any:
    chat = [ChatMessage.from_dict(message) for message in messages] if messages else None
    answered = endpoints.query(name, messages=chat, **more)
    return answered.as_dict() | {"served_model_name": answered.served_model_name}


def chat_with_its_open_ai_client(name: str, prompt: str, max_tokens: int) -> dict[str, Any]:
    with endpoints.get_open_ai_client() as openai:
        asked: dict[str, Any] = {
            "model": name,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
        }
        whole = openai.chat.completions.create(**asked)
        events = list(openai.chat.completions.create(**asked, stream=True))
    return {
        "whole": whole.choices[0].message.content,
        "streamed": "".join(event.choices[0].delta.content or "" for event in events if event.choices),
        "output_tokens": whole.usage.completion_tokens,
    }


answer(
    auth_type,
    create_and_wait,
    update_config_and_wait,
    get,
    names,
    delete,
    patch,
    put,
    put_ai_gateway,
    create_provisioned_throughput_endpoint_and_wait,
    update_provisioned_throughput_endpoint_config_and_wait,
    get_permission_levels,
    get_permissions,
    set_permissions,
    update_permissions,
    export_metrics,
    get_open_api,
    logs,
    build_logs,
    get_model_optimization_info,
    query,
    chat_with_its_open_ai_client,
)
