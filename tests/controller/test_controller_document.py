"""The OpenAPI document of the REST API: every path says what it takes, answers and refuses."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from controller_world import World
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from headrace.controller.api import structs
from headrace.controller.api.app import create_app

DATABRICKS = "/api/2.0/serving-endpoints"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return create_app(World(tmp_path_factory.mktemp("document")).controller)


@pytest.fixture(scope="module")
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By method and path."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_databricks_path_is_there(document: dict[str, Any]) -> None:
    promised = {
        f"POST {DATABRICKS}",
        f"GET {DATABRICKS}",
        f"GET {DATABRICKS}/{{name}}",
        f"DELETE {DATABRICKS}/{{name}}",
        f"PUT {DATABRICKS}/{{name}}/config",
        f"POST {DATABRICKS}/pt",
        f"PUT {DATABRICKS}/pt/{{name}}/config",
        f"PATCH {DATABRICKS}/{{name}}/tags",
        f"PATCH {DATABRICKS}/{{name}}/notifications",
        f"PATCH {DATABRICKS}/{{name}}/telemetry-config",
        f"PUT {DATABRICKS}/{{name}}/rate-limits",
        f"PUT {DATABRICKS}/{{name}}/ai-gateway",
        f"GET {DATABRICKS}/{{name}}/openapi",
        f"GET {DATABRICKS}/{{name}}/served-models/{{served_model_name}}/logs",
        f"GET {DATABRICKS}/{{name}}/served-models/{{served_model_name}}/build-logs",
        f"GET {DATABRICKS}/get-model-optimization-info/{{full_name}}/{{version}}",
    }
    assert promised <= operations(document).keys()


def test_every_operation_says_what_it_does_and_in_which_form_it_refuses(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        assert operation.get("description"), name
        refusals = {code: told for code, told in operation["responses"].items() if code.startswith("4")}
        assert {"400", "401", "403", "404", "409", "4XX"} <= refusals.keys(), name
        assert "422" not in refusals, f"{name} claims an answer that is never given"


def test_every_operation_asks_for_a_key_but_those_that_tell_how_to_get_one(document: dict[str, Any]) -> None:
    free = {name for name, operation in operations(document).items() if operation.get("security") != [{"key": []}]}
    assert all("/.well-known/" in name or "/oidc" in name for name in free), free


def test_every_answer_has_a_schema(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        content = operation["responses"]["200"]["content"]
        if "application/json" in content and not name.endswith("/openapi"):
            assert content["application/json"]["schema"], name


def test_every_schema_that_is_referred_to_is_there(document: dict[str, Any]) -> None:
    referred = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert referred <= document["components"]["schemas"].keys()


def test_no_name_of_a_schema_stands_for_two_things(app: FastAPI) -> None:
    """Structs and pydantic's models share the names."""
    models = get_openapi(title="models", version="1", routes=app.routes)["components"]["schemas"]
    assert not structs.schemas().keys() & models.keys()


def test_the_schemas_tell_of_what_is_taken_from_lenient_clients(document: dict[str, Any]) -> None:
    entity = document["components"]["schemas"]["ServedEntityInput"]
    version = entity["properties"]["entity_version"]["anyOf"]
    assert version == [{"type": "string"}, {"type": "integer"}, {"type": "null"}]
    assert {"type": "null"} in entity["properties"]["scale_to_zero_enabled"]["anyOf"]
    assert entity["additionalProperties"] == {"$ref": "#/components/schemas/Nothing"}
    assert {"enum": [None, False, 0, "", "NONE"]} in document["components"]["schemas"]["Nothing"]["anyOf"]
    assert "anyOf" not in entity["properties"]["max_provisioned_throughput"], "that one is required"
