"""Databricks' serving-endpoints REST API. ``databricks-sdk`` and MLflow's deployment client work with it unmodified."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from headrace.controller.api.auth import Admin, ControllerOf
from headrace.controller.api.databricks_shapes import CoreConfigInput, CreateEndpoint, PatchTags, detailed
from headrace.controller.controller import Controller
from headrace.controller.endpoint import Endpoint
from headrace.controller.refusal import Refusal

BASE = "/api/2.0/serving-endpoints"

router = APIRouter(tags=["databricks"])


@router.post(BASE)
@router.post(BASE + "/", include_in_schema=False)
async def create(body: CreateEndpoint, key: Admin, controller: ControllerOf) -> dict[str, Any]:
    """Create an endpoint. The update is in progress until its minimum is ready."""
    endpoint = controller.endpoints.create(
        body.name,
        body.config.asked(body.name),
        creator=key.id,
        options=body.options(),
        description=body.description,
        tags=tuple((tag.key, tag.value) for tag in body.tags),
    )
    return _detailed(controller, endpoint)


@router.get(BASE)
@router.get(BASE + "/", include_in_schema=False)
async def list_all(key: Admin, controller: ControllerOf) -> dict[str, Any]:
    """All endpoints."""
    return {"endpoints": [_detailed(controller, endpoint) for endpoint in controller.store.endpoints()]}


@router.get(BASE + "/get-model-optimization-info/{name}/{version}")
async def optimization_info(name: str, version: str, key: Admin, controller: ControllerOf) -> dict[str, Any]:
    """The chunk of a model here, and whether it was measured here."""
    model = controller.offers.model(name, version)
    try:
        profile = controller.offers.profile(model)
    except Refusal as refusal:
        return {"optimizable": False, "message": refusal.message}
    return {
        "optimizable": True,
        "model_type": model.engine,
        "throughput_chunk_size": profile.chunk,
        "profile_status": profile.status,
    }


@router.get(BASE + "/{name}")
async def get(name: str, key: Admin, controller: ControllerOf) -> dict[str, Any]:
    return _detailed(controller, controller.endpoints.get(name))


@router.put(BASE + "/{name}/config")
async def update_config(name: str, body: CoreConfigInput, key: Admin, controller: ControllerOf) -> dict[str, Any]:
    """Replace the config. A new range of the same model restarts nothing."""
    return _detailed(controller, controller.endpoints.update(name, body.asked(name)))


@router.patch(BASE + "/{name}/tags")
async def patch_tags(name: str, body: PatchTags, key: Admin, controller: ControllerOf) -> dict[str, Any]:
    added = tuple((tag.key, tag.value) for tag in body.add_tags)
    endpoint = controller.endpoints.tag(name, added, tuple(body.delete_tags))
    return {"tags": [{"key": key, "value": value} for key, value in endpoint.tags]}


@router.delete(BASE + "/{name}")
async def delete(name: str, key: Admin, controller: ControllerOf) -> dict[str, Any]:
    """Delete an endpoint. Requests in flight end as they would."""
    controller.endpoints.delete(name)
    return {}


def _detailed(controller: Controller, endpoint: Endpoint) -> dict[str, Any]:
    entities = endpoint.entities.values()
    backoffs = {entity.id: controller.reconciler.watches.of(entity.id).backoff for entity in entities}
    return detailed(
        endpoint,
        ready={entity.id: controller.chunks(endpoint, entity).ready for entity in entities},
        messages={entity_id: backoff.message for entity_id, backoff in backoffs.items() if backoff.failures},
    )
