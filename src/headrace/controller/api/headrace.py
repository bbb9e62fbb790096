"""Headrace's own REST API: what runs, what happened and why, models."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import Field

from headrace.controller.api.auth import Admin, Caller, ControllerOf, Viewer, admin, permitted, visible
from headrace.controller.api.body import EXACT
from headrace.controller.api.structs import answers, told
from headrace.controller.controller import Controller
from headrace.controller.events import KINDS, Event
from headrace.controller.permissions import Level
from headrace.controller.refusal import Refusal
from headrace.controller.series import KEPT_SECONDS, Point
from headrace.controller.view import EndpointInfo, endpoint_info
from headrace.controller.view_status import StatusInfo, status_info
from headrace.engines.base import ModelSettings
from headrace.profiles.profile import Profile

BASE = "/api/headrace/v1"
MOST_EVENTS = 1000
EventId = Annotated[int, Field(ge=0, le=EXACT)]

router = APIRouter(prefix=BASE, tags=["headrace"])


class EndpointsInfo(msgspec.Struct, frozen=True):
    endpoints: tuple[EndpointInfo, ...]


class EventsInfo(msgspec.Struct, frozen=True):
    events: tuple[Event, ...]


class SeriesInfo(msgspec.Struct, frozen=True, kw_only=True):
    endpoint: str
    entity: str | None
    interval_s: int
    points: tuple[Point, ...]


class ModelInfo(ModelSettings, frozen=True, kw_only=True):
    """The settings of a model, and what is known of it here."""

    profile_status: str | None = None
    """None where it was never measured, as is the next."""
    profile_id: str | None = None
    chunk: int | None = None
    """Reference tokens/s."""
    problem: str | None = None
    """Why it cannot be sold."""
    profile_doubts: tuple[str, ...] = ()
    """Why its profile may not hold here."""


class ModelsInfo(msgspec.Struct, frozen=True):
    models: tuple[ModelInfo, ...]


class VersionsInfo(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    versions: tuple[str, ...]
    """The oldest first; the last is meant where none is said."""


@router.get("/status", responses=answers(StatusInfo))
async def status(key: Admin, controller: ControllerOf) -> Response:
    """What runs, and what is wrong."""
    return told(status_info(controller))


@router.get("/endpoints", responses=answers(EndpointsInfo))
async def endpoints(key: Caller, controller: ControllerOf) -> Response:
    """All endpoints that the caller may view, with their ranges, replicas and rates."""
    return told(EndpointsInfo(tuple(endpoint_info(controller, one) for one in visible(controller, key))))


@router.get("/endpoints/{name}", responses=answers(EndpointInfo))
async def endpoint(name: str, key: Viewer, controller: ControllerOf) -> Response:
    """One endpoint with its range, replicas and rates."""
    return told(endpoint_info(controller, controller.endpoints.get(name)))


@router.delete("/endpoints/{name}/measuring")
async def stop_measuring(name: str, key: Admin, controller: ControllerOf) -> dict[str, bool]:
    """End the server's own measurement of an endpoint's model. It stays sold by its provisional profile."""
    measured = controller.endpoints.get(name).name in controller.measuring
    controller.measuring.discard(name)
    return {"stopped": measured}


@router.get("/events", responses=answers(EventsInfo))
async def events(
    key: Caller,
    controller: ControllerOf,
    kind: Annotated[
        list[str], Query(default_factory=list, description="Only this kind, such as scaled; may be given again.")
    ],
    endpoint: Annotated[str | None, Query(description="By name or id; left out, the caller must be an admin.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_EVENTS)] = 100,
    after: Annotated[EventId | None, Query(description="Those that follow this id; else the newest.")] = None,
    before: Annotated[EventId | None, Query(description="Those that precede this id: the page before.")] = None,
) -> Response:
    """What the controller did and why, oldest first; of an endpoint for those who may view it. A scaling event's
    ``data.inputs`` recompute its decision."""
    found = None if endpoint is None else controller.store.named(endpoint) or controller.store.get(endpoint)
    if found is None:
        admin(key)
    elif key.role != "admin":
        controller.access.require(key, found, Level.CAN_VIEW)
        endpoint = found.id  # what another one of this name did before is for admins
    unknown = [one for one in kind if one not in KINDS]
    if unknown:
        raise Refusal(
            "INVALID_PARAMETER_VALUE",
            f"{unknown[0][:80]!r} is no kind of event; there are: {', '.join(sorted(KINDS))}",
            param="kind",
        )
    listed = controller.events.list(endpoint=endpoint, kinds=kind, limit=limit, after=after, before=before)
    return told(EventsInfo(tuple(listed)))


@router.get("/series", responses=answers(SeriesInfo))
async def series(
    key: Caller,
    controller: ControllerOf,
    endpoint: str,
    entity: Annotated[str | None, Query(description="Only this served entity, by its name.")] = None,
    seconds: Annotated[int, Query(ge=1, le=KEPT_SECONDS)] = 300,
) -> Response:
    """One point a second: chunks, tokens/s and queue of an endpoint, or of one of its served entities."""
    permitted(Level.CAN_VIEW)(endpoint, key, controller)
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
    points = tuple(controller.series.points(of, seconds))
    return told(SeriesInfo(endpoint=found.name, entity=entity, interval_s=1, points=points))


@router.get("/models", responses=answers(ModelsInfo))
async def models(key: Admin, controller: ControllerOf) -> Response:
    """All versions of all registered models, with what is known of each here."""
    return told(ModelsInfo(tuple(_model(controller, model) for model in controller.offers.models())))


@router.get("/models/{name}/versions", responses=answers(VersionsInfo))
async def versions(name: str, key: Caller, controller: ControllerOf) -> Response:
    """The versions of a model that are registered."""
    return told(VersionsInfo(name=name, versions=controller.offers.versions(name)))


@router.get("/models/{name}/profile", responses=answers(Profile))
async def profile(
    name: str,
    key: Admin,
    controller: ControllerOf,
    version: Annotated[str | None, Query(description="Of the model; by default the newest.")] = None,
) -> Response:
    """The profile by which a config made now would be sold."""
    return told(controller.offers.profile(controller.offers.model(name, version, param="name")))


def _model(controller: Controller, model: ModelSettings) -> ModelInfo:
    known: dict[str, Any] = {"profile_doubts": tuple(controller.offers.doubts(model))}
    try:
        profile = controller.offers.profile(model)
    except Refusal as refusal:
        known["problem"] = refusal.message
    else:
        known |= {"profile_status": profile.status, "profile_id": profile.id, "chunk": profile.chunk}
    return ModelInfo(**msgspec.structs.asdict(model), **known)
