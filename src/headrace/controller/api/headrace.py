"""Headrace's own REST API: what runs, what happened and why, models."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query

from headrace.controller.api.auth import Admin, ControllerOf
from headrace.controller.controller import Controller
from headrace.controller.refusal import Refusal
from headrace.controller.series import KEPT_SECONDS
from headrace.controller.view import endpoint_info
from headrace.controller.view_status import status_info

BASE = "/api/headrace/v1"
MOST_EVENTS = 1000

router = APIRouter(prefix=BASE, tags=["headrace"])


@router.get("/status")
async def status(key: Admin, controller: ControllerOf) -> dict[str, Any]:
    """What runs, and what is wrong."""
    return _builtins(status_info(controller))


@router.get("/endpoints")
async def endpoints(key: Admin, controller: ControllerOf) -> dict[str, Any]:
    """All endpoints with their ranges, replicas and rates."""
    return {"endpoints": [_builtins(endpoint_info(controller, one)) for one in controller.store.endpoints()]}


@router.get("/endpoints/{name}")
async def endpoint(name: str, key: Admin, controller: ControllerOf) -> dict[str, Any]:
    """One endpoint with its range, replicas and rates."""
    return _builtins(endpoint_info(controller, controller.endpoints.get(name)))


@router.delete("/endpoints/{name}/measuring")
async def stop_measuring(name: str, key: Admin, controller: ControllerOf) -> dict[str, bool]:
    """End the server's own measurement of an endpoint's model. It stays sold by its provisional profile."""
    measured = controller.endpoints.get(name).name in controller.measuring
    controller.measuring.discard(name)
    return {"stopped": measured}


@router.get("/events")
async def events(
    key: Admin,
    controller: ControllerOf,
    endpoint: str | None = None,
    kind: Annotated[list[str] | None, Query(description="Only this kind, such as scaled; may be given again.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_EVENTS)] = 100,
    after: Annotated[int | None, Query(description="Those that follow this id; else the newest.")] = None,
    before: Annotated[int | None, Query(description="Those that precede this id: the page before.")] = None,
) -> dict[str, Any]:
    """What the controller did and why, oldest first. A scaling event's ``data.inputs`` recompute its decision."""
    found = controller.events.list(endpoint=endpoint, kinds=kind or (), limit=limit, after=after, before=before)
    return {"events": [_builtins(event) for event in found]}


@router.get("/series")
async def series(
    key: Admin,
    controller: ControllerOf,
    endpoint: str,
    entity: Annotated[str | None, Query(description="Only this served entity, by its name.")] = None,
    seconds: Annotated[int, Query(ge=1, le=KEPT_SECONDS)] = 300,
) -> dict[str, Any]:
    """One point a second: chunks, tokens/s and queue of an endpoint, or of one of its served entities."""
    found = controller.endpoints.get(endpoint)
    of = found.id
    if entity is not None:
        names = {one.name: one.id for one in found.current.entities}
        if entity not in names:
            raise Refusal(
                "RESOURCE_DOES_NOT_EXIST",
                f"endpoint {endpoint!r} has no served entity {entity[:80]!r}; there are: {', '.join(names)}",
                param="entity",
            )
        of = names[entity]
    points = [_builtins(point) for point in controller.series.points(of, seconds)]
    return {"endpoint": found.name, "entity": entity, "interval_s": 1, "points": points}


@router.get("/models")
async def models(key: Admin, controller: ControllerOf) -> dict[str, Any]:
    """All registered models, with what is known of each here."""
    return {"models": [_model(controller, model.name) for model in controller.offers.models()]}


@router.get("/models/{name}/profile")
async def profile(name: str, key: Admin, controller: ControllerOf) -> dict[str, Any]:
    """The profile by which a config made now would be sold."""
    return _builtins(controller.offers.profile(controller.offers.model(name, param="name")))


def _model(controller: Controller, name: str) -> dict[str, Any]:
    model = controller.offers.model(name)
    told = _builtins(model) | {"profile_status": None, "chunk": None, "profile_id": None, "problem": None}
    told |= {"profile_doubts": controller.offers.doubts(model)}
    try:
        profile = controller.offers.profile(model)
    except Refusal as refusal:
        return told | {"problem": refusal.message}
    return told | {"profile_status": profile.status, "chunk": profile.chunk, "profile_id": profile.id}


def _builtins(value: Any) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(value)
    return told
