"""Databricks' serving-endpoints REST API: the life of endpoints. ``databricks-sdk`` and MLflow's deployment client work
with it unmodified."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Body

from headrace.controller.api import databricks_examples as examples
from headrace.controller.api import databricks_replies as replies
from headrace.controller.api.auth import Admin, Caller, ControllerOf, Manager, Viewer, visible
from headrace.controller.api.databricks_bodies import CreateEndpoint, CreatePtEndpoint, UpdatePtConfig
from headrace.controller.api.databricks_changes import range_changes
from headrace.controller.api.databricks_configs import CoreConfigInput
from headrace.controller.api.databricks_dry_run import DryRun, DryRunQuery, dry_run
from headrace.controller.api.databricks_options import PatchTags
from headrace.controller.api.databricks_view import detailed, tags
from headrace.controller.asked import AskedConfig
from headrace.controller.controller import Controller
from headrace.controller.keys import Key
from headrace.controller.ranges import check_unit

BASE = "/api/2.0/serving-endpoints"

router = APIRouter(tags=["databricks"], prefix=BASE)

Answer = replies.ServingEndpointDetailed | DryRun
Create = Annotated[CreateEndpoint, Body(openapi_examples=examples.CREATE)]
CreatePt = Annotated[CreatePtEndpoint, Body(openapi_examples=examples.CREATE_PT)]
Update = Annotated[CoreConfigInput, Body(openapi_examples=examples.UPDATE)]
UpdatePt = Annotated[UpdatePtConfig, Body(openapi_examples=examples.UPDATE_PT)]


@router.post("", response_model_exclude_unset=True)
@router.post("/", response_model_exclude_unset=True, include_in_schema=False)
async def create(body: Create, key: Admin, controller: ControllerOf, dry: DryRunQuery = False) -> Answer:
    """Create an endpoint with ranges in tokens/s. The update is in progress until its minimum is ready."""
    return _create(controller, body, body.config.asked(body.name), key, dry=dry)


@router.post("/pt", response_model_exclude_unset=True)
async def create_pt(body: CreatePt, key: Admin, controller: ControllerOf, dry: DryRunQuery = False) -> Answer:
    """Create an endpoint with fixed sizes in model units. ``headrace.notes`` says what they are in chunks."""
    return _create(controller, body, body.config.asked(), key, dry=dry)


@router.get("", response_model_exclude_unset=True)
@router.get("/", response_model_exclude_unset=True, include_in_schema=False)
async def list_all(key: Caller, controller: ControllerOf) -> replies.Endpoints:
    """All endpoints that the caller may see."""
    found = [detailed(controller, key, endpoint) for endpoint in visible(controller, key)]
    return replies.Endpoints(endpoints=found)


@router.get("/{name}", response_model_exclude_unset=True)
async def get(name: str, key: Viewer, controller: ControllerOf) -> replies.ServingEndpointDetailed:
    """One endpoint: what it serves, what is to follow, and how its last update went."""
    return detailed(controller, key, controller.endpoints.get(name))


@router.put("/{name}/config", response_model_exclude_unset=True)
async def update_config(
    name: str, body: Update, key: Manager, controller: ControllerOf, dry: DryRunQuery = False
) -> Answer:
    """Replace the config. A new range of the same model restarts nothing."""
    return _update(controller, key, name, body.asked(name), in_units=False, dry=dry)


@router.put("/pt/{name}/config", response_model_exclude_unset=True)
async def update_pt_config(
    name: str, body: UpdatePt, key: Manager, controller: ControllerOf, dry: DryRunQuery = False
) -> Answer:
    """Replace the config of an endpoint whose size is in model units."""
    return _update(controller, key, name, body.config.asked(), in_units=True, dry=dry)


@router.patch("/{name}/tags")
async def patch_tags(name: str, body: PatchTags, key: Manager, controller: ControllerOf) -> replies.TagsOutput:
    """Add, change and delete tags."""
    added = tuple((tag.key, tag.value) for tag in body.add_tags)
    return tags(controller.endpoints.tag(name, added, tuple(body.delete_tags)))


@router.delete("/{name}")
async def delete(name: str, key: Manager, controller: ControllerOf) -> replies.Empty:
    """Delete an endpoint. Requests in flight end as they would."""
    controller.endpoints.delete(name, by=controller.access.actor(key))
    return replies.Empty()


def _create(
    controller: Controller, body: CreateEndpoint | CreatePtEndpoint, asked: AskedConfig, key: Key, *, dry: bool
) -> Answer:
    endpoints, notes = controller.endpoints, body.ai_gateway.notes
    act = endpoints.planned if dry else partial(endpoints.create, by=controller.access.actor(key))
    endpoint = act(
        body.name,
        asked,
        creator=key.principal,
        options=body.options(),
        description=body.description,
        tags=body.tag_pairs,
    )
    if dry:
        return dry_run(controller, None, endpoint, of_call=notes)
    return detailed(controller, key, endpoint, of_call=notes)


def _update(controller: Controller, key: Key, name: str, asked: AskedConfig, *, in_units: bool, dry: bool) -> Answer:
    before = controller.endpoints.get(name)
    check_unit(before, in_units=in_units)
    if dry:
        return dry_run(controller, before, controller.endpoints.planned_update(name, asked))
    updated = controller.endpoints.update(name, asked, by=controller.access.actor(key))
    return detailed(controller, key, updated, of_call=[*range_changes(before.current, updated.target)])
