"""What monitoring scrapes: everything in Prometheus' form, and Databricks' export of one endpoint."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse

from headrace.controller.api.auth import Caller, ControllerOf, Viewer, visible
from headrace.controller.controller import Controller
from headrace.controller.metrics.databricks import Export, families
from headrace.controller.metrics.exposition import expose, families_of
from headrace.controller.metrics.process_use import read_groups
from headrace.controller.metrics.reading import Reader

PROMETHEUS_TEXT = "text/plain"

router = APIRouter(tags=["metrics"])


def install(app: FastAPI, controller: Controller) -> None:
    """Its paths, and what they remember between two scrapes."""
    app.state.metrics = reader = Reader(controller)
    app.state.metrics_export = Export(controller, reader)
    app.include_router(router)


def _reader(request: Request) -> Reader:
    found: Reader = request.app.state.metrics
    return found


def _export(request: Request) -> Export:
    found: Export = request.app.state.metrics_export
    return found


ReaderOf = Annotated[Reader, Depends(_reader)]
ExportOf = Annotated[Export, Depends(_export)]


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request, key: Caller, controller: ControllerOf, reader: ReaderOf) -> Response:
    """Everything that is counted of the endpoints that the caller may view, in Prometheus' text form.

    Or in that of OpenMetrics where it is accepted.
    """
    reading, accept = reader.read(visible(controller, key)), request.headers.get("accept", "")
    text, content_type = await asyncio.to_thread(lambda: expose(families_of(reading), accept))
    return Response(text, media_type=content_type)


@router.get("/api/2.0/serving-endpoints/{name}/metrics", response_class=PlainTextResponse)
async def endpoint_metrics(name: str, key: Viewer, controller: ControllerOf, export: ExportOf) -> Response:
    """The metrics of one endpoint by the names of Databricks' export, in Prometheus' text form."""
    endpoint = controller.endpoints.get(name)
    uses = await asyncio.to_thread(read_groups, export.leaders(endpoint))
    text, content_type = expose(families(endpoint.name, export.read(endpoint, uses)), PROMETHEUS_TEXT)
    return Response(text, media_type=content_type)
