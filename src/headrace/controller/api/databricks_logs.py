"""Databricks' serving-endpoints REST API: what the replicas of a served entity said, what was done to bring its model
up, and how to call the endpoint."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from headrace.controller.api.auth import ControllerOf, Viewer
from headrace.controller.api.databricks import BASE
from headrace.controller.api.databricks_replies import Logs
from headrace.controller.api.endpoint_openapi import document
from headrace.controller.built import built
from headrace.controller.controller import Controller
from headrace.controller.endpoint import Endpoint, Entity
from headrace.controller.lifecycle import Replica
from headrace.controller.refusal import Refusal
from headrace.fleet.base import FleetError

router = APIRouter(tags=["databricks"])


@router.get(BASE + "/{name}/served-models/{served_model_name}/logs")
async def logs(name: str, served_model_name: str, key: Viewer, controller: ControllerOf) -> Logs:
    """The last lines of the log of each replica that runs, and of the one that failed last."""
    endpoint, entity = _entity(controller, name, served_model_name)
    replicas = [one for one in controller.roster.of(endpoint.id) if one.entity_id == entity.id]
    told = [await _log(controller, replica) for replica in replicas]
    failed = controller.reconciler.watches.of(entity.id).backoff
    if failed.message:
        told.insert(0, f"== a replica that failed at {_time(failed.at_ms)}: {failed.message}\n{failed.tail}")
    return Logs(logs="\n".join(told) or "no replica runs, and none has failed since the controller started")


@router.get(BASE + "/{name}/served-models/{served_model_name}/build-logs")
async def build_logs(name: str, served_model_name: str, key: Viewer, controller: ControllerOf) -> Logs:
    """Where the model's weights come from, how it was measured, and how long its replicas took to load."""
    endpoint, entity = _entity(controller, name, served_model_name)
    replicas = [one for one in controller.roster.of(endpoint.id) if one.runs_as == entity.runs_as]
    return Logs(logs="\n".join(built(entity, controller.offers.sold_by(entity), replicas)))


@router.get(
    BASE + "/{name}/openapi",
    response_class=JSONResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def openapi(name: str, key: Viewer, controller: ControllerOf, request: Request) -> Response:
    """An OpenAPI document of the endpoint's own path, with its limits. The SDK asks for it as text/plain."""
    content = document(controller.endpoints.get(name))
    if "text/plain" in request.headers.get("accept", ""):
        return Response(content=JSONResponse(content).body, media_type="text/plain; charset=utf-8")
    return JSONResponse(content)


def _entity(controller: Controller, name: str, entity_name: str) -> tuple[Endpoint, Entity]:
    """By its newest config. Raises Refusal."""
    endpoint = controller.endpoints.get(name)
    found = [entity for entity in endpoint.entities.values() if entity.name == entity_name]
    if not found:
        names = ", ".join(sorted({entity.name for entity in endpoint.entities.values()}))
        raise Refusal(
            "RESOURCE_DOES_NOT_EXIST",
            f"endpoint {name!r} has no served entity {entity_name[:80]!r}; there are: {names}",
            param="served_model_name",
        )
    return endpoint, found[-1]


async def _log(controller: Controller, replica: Replica) -> str:
    head = f"== {replica.id}: {replica.phase.value}, started at {_time(replica.created_ms)}"
    try:
        tail = await controller.fleet.log_tail(replica.id)
    except FleetError as error:
        return f"{head}; its log cannot be read: {error}"
    if replica.model.engine == "openai":
        where = replica.url or " or ".join(replica.model.urls)
        return f"{head}\nthe server at {where} keeps its own log" + (f"; {tail}" if tail else "")
    return f"{head}\n{tail}" if tail else f"{head}\n(it has written nothing)"


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
