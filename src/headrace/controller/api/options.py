"""Headrace's own options of an endpoint, after it was made."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from headrace.controller.api.auth import ControllerOf, Manager
from headrace.controller.api.body import Bool, Int, Number
from headrace.controller.api.databricks_replies import ServingEndpointDetailed
from headrace.controller.api.databricks_view import detailed
from headrace.controller.endpoint import Options

router = APIRouter(prefix="/api/headrace/v1", tags=["headrace"])


class _Change(BaseModel):
    """What is not named stays; null is the default."""

    model_config = ConfigDict(extra="forbid")

    def named(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.model_fields_set}


class ScalingChange(_Change):
    """Knobs of the scaling law; null: the server's own."""

    fast_window_s: Number | None = None
    slow_window_s: Number | None = None
    headroom: Number | None = None
    down_window_s: Number | None = None
    wait_target_s: Number | None = None
    idle_to_zero_s: Number | None = None


class OptionsChange(_Change):
    """As the ``headrace`` object of a new endpoint."""

    overload: Literal["queue", "reject", "spill"] | None = None
    fallback: Bool | None = None
    queue_deadline_s: Number | None = None
    cold_start_deadline_s: Number | None = None
    max_queue: Int | None = None
    scaling: ScalingChange | None = None
    autoscaling: Literal["on", "off"] | None = None

    def changed(self, options: Options) -> Options:
        default = Options()
        given = {name: getattr(default, name) if value is None else value for name, value in self.named().items()}
        if self.scaling is not None:
            given["scaling"] = msgspec.structs.replace(options.scaling, **self.scaling.named())
        if self.autoscaling is not None:
            given["autoscaling"] = self.autoscaling == "on"
        return msgspec.structs.replace(options, **given)


@router.patch("/endpoints/{name}", response_model_exclude_unset=True)
async def patch_options(
    name: str, body: OptionsChange, key: Manager, controller: ControllerOf
) -> ServingEndpointDetailed:
    """Change how an endpoint treats requests and scales. It holds at once and makes no config version."""
    endpoint = controller.endpoints.get(name)
    options = body.changed(endpoint.options)
    changed = controller.endpoints.set_options(name, options, by=controller.access.actor(key))
    return detailed(controller, key, changed)
