"""Databricks' serving-endpoints REST API: how an endpoint treats requests. What is changed here holds, at every
connected gateway, when a call answers, and makes no config version."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from headrace.controller.api import databricks_replies as replies
from headrace.controller.api.auth import ControllerOf, Manager
from headrace.controller.api.databricks import BASE
from headrace.controller.api.databricks_notes import limit_notes
from headrace.controller.api.databricks_options import AiGatewayInput, NothingAsked, RateLimits
from headrace.controller.api.databricks_view import ai_gateway, rate_limits
from headrace.controller.controller import CREATE_TIMEOUT_S

router = APIRouter(tags=["databricks"])


@router.put(BASE + "/{name}/ai-gateway", response_model_exclude_unset=True)
async def put_ai_gateway(
    name: str, key: Manager, controller: ControllerOf, body: Annotated[AiGatewayInput | None, Body()] = None
) -> replies.AiGatewayAnswer:
    """Replace rate limits and fallback; what the body leaves out is switched off."""
    endpoint = controller.endpoints.get(name)
    asked = body or AiGatewayInput()
    changed = controller.endpoints.set_options(name, asked.changed(endpoint.options), by=controller.access.actor(key))
    await controller.tell(CREATE_TIMEOUT_S)
    told = replies.Notes(notes=[*limit_notes(controller.access, changed), *asked.notes])
    return replies.AiGatewayAnswer(**dict(ai_gateway(changed.options)), headrace=told)


@router.put(BASE + "/{name}/rate-limits", response_model_exclude_unset=True)
async def put_rate_limits(
    name: str, key: Manager, controller: ControllerOf, body: Annotated[RateLimits | None, Body()] = None
) -> replies.RateLimitsOutput:
    """The legacy form: replace all rate limits, those of the AI gateway too, by limits of calls."""
    endpoint = controller.endpoints.get(name)
    options = (body or RateLimits()).changed(endpoint.options)
    changed = controller.endpoints.set_options(name, options, by=controller.access.actor(key))
    await controller.tell(CREATE_TIMEOUT_S)
    return rate_limits(changed.options)


@router.patch(BASE + "/{name}/notifications")
async def patch_notifications(
    name: str, body: NothingAsked, key: Manager, controller: ControllerOf
) -> replies.Notifications:
    """Headrace sends no mail: 400 for a body that asks for some."""
    return replies.Notifications(name=controller.endpoints.get(name).name, email_notifications={})


@router.patch(BASE + "/{name}/telemetry-config")
async def patch_telemetry_config(
    name: str, body: NothingAsked, key: Manager, controller: ControllerOf
) -> replies.Empty:
    """Headrace writes no telemetry tables: 400 for a body that asks for some."""
    controller.endpoints.get(name)
    return replies.Empty()
