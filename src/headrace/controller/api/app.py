"""The application: every router, one form of errors, one OpenAPI document."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from headrace import __version__
from headrace.controller.api import (
    body,
    databricks,
    databricks_gateway,
    databricks_logs,
    databricks_models,
    errors,
    headrace,
    keys,
    ledger,
    metrics,
    oidc,
    options,
    page,
    permissions,
    service_principals,
    structs,
    wellknown,
)
from headrace.controller.controller import Controller

DOCUMENT = "/api/headrace/v1/openapi.json"


ERROR = {"$ref": "#/components/schemas/ErrorBody"}


class RestApi(FastAPI):
    """Its document has what bodies refer to, and errors as the JSON that they are on every path."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document["components"]["schemas"].update(body.SCHEMAS | structs.schemas())
        for operations in document["paths"].values():
            for operation in operations.values():
                for status, told in operation["responses"].items():
                    if status.startswith("4") and "application/json" not in told.get("content", ()):
                        told["content"] = {"application/json": {"schema": ERROR}}
        return document


def create_app(controller: Controller) -> FastAPI:
    """The REST API of a controller. Its interactive documentation is left out: it would load code from elsewhere."""
    app = RestApi(
        title="Headrace",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=errors.RESPONSES,
    )
    app.state.controller = controller
    errors.install(app)
    databricks_parts = (databricks, databricks_gateway, databricks_logs, databricks_models)
    access_parts = (wellknown, oidc, permissions, keys, service_principals)
    for part in (*access_parts, *databricks_parts, headrace, options, ledger, page):
        app.include_router(part.router)
    metrics.install(app, controller)

    @app.get(DOCUMENT, include_in_schema=False)
    async def document() -> JSONResponse:
        # The first time it takes a second or two: what runs beside it must not wait.
        return JSONResponse(await asyncio.to_thread(app.openapi))

    return app
