"""MLflow's deployments client. Host and token come from Databricks' environment variables."""

from __future__ import annotations

from typing import Any

from answering import answer
from mlflow.deployments import get_deploy_client

client = get_deploy_client("databricks")


def create_endpoint(**asked: Any) -> Any:
    return client.create_endpoint(**asked)


def predict(endpoint: str, inputs: dict[str, Any]) -> Any:
    return client.predict(endpoint=endpoint, inputs=inputs)


def predict_stream(endpoint: str, inputs: dict[str, Any]) -> list[Any]:
    return list(client.predict_stream(endpoint=endpoint, inputs=inputs))


def update_endpoint_config(endpoint: str, config: dict[str, Any]) -> Any:
    return client.update_endpoint_config(endpoint=endpoint, config=config)


def update_endpoint_tags(endpoint: str, config: dict[str, Any]) -> Any:
    return client.update_endpoint_tags(endpoint=endpoint, config=config)


def update_endpoint_rate_limits(endpoint: str, config: dict[str, Any]) -> Any:
    return client.update_endpoint_rate_limits(endpoint=endpoint, config=config)


def update_endpoint_ai_gateway(endpoint: str, config: dict[str, Any]) -> Any:
    return client.update_endpoint_ai_gateway(endpoint=endpoint, config=config)


def update_endpoint(endpoint: str, config: dict[str, Any]) -> Any:
    """The older form, which asks for one thing at a time."""
    return client.update_endpoint(endpoint=endpoint, config=config)


def names() -> list[str]:
    return [endpoint["name"] for endpoint in client.list_endpoints()]


def get_endpoint(endpoint: str) -> Any:
    return client.get_endpoint(endpoint=endpoint)


def delete_endpoint(endpoint: str) -> Any:
    return client.delete_endpoint(endpoint=endpoint)


answer(
    create_endpoint,
    predict,
    predict_stream,
    update_endpoint_config,
    update_endpoint_tags,
    update_endpoint_rate_limits,
    update_endpoint_ai_gateway,
    update_endpoint,
    names,
    get_endpoint,
    delete_endpoint,
)
