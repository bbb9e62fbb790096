"""Databricks' serving-endpoints REST API: what a model is sold in, which notebooks ask before they make an endpoint."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import Field

from headrace.controller.api.auth import Caller, ControllerOf
from headrace.controller.api.databricks import BASE
from headrace.controller.api.databricks_replies import Reply
from headrace.controller.refusal import Refusal
from headrace.ledger.bills import MICRO, decimal

router = APIRouter(tags=["databricks"])


class HeadraceChunk(Reply):
    """The chunk in Headrace's own words, whatever a model is sold in."""

    chunk: int = Field(description="Reference tokens/s.")
    price_per_chunk_hour: str
    currency: str
    profile_id: str
    profile_status: str = Field(description="provisional, quick, measured or doubtful.")


class OptimizationInfo(Reply):
    """Either ``throughput_chunk_size`` or ``model_unit_chunk_size``, by what the model is sold in."""

    optimizable: bool = Field(description="Whether it can be sold here.")
    message: str | None = Field(default=None, description="Why it cannot be sold.")
    model_type: str | None = Field(default=None, description="Its engine.")
    throughput_chunk_size: int | None = Field(
        default=None, description="Reference tokens/s: ranges are multiples of it."
    )
    model_unit_chunk_size: int | None = Field(default=None, description="Model units: sizes are multiples of it.")
    dbus: float | None = Field(default=None, description="Price of a chunk for one hour, in the server's currency.")
    profile_status: str | None = None
    headrace: HeadraceChunk | None = None


@router.get(
    BASE + "/get-model-optimization-info/{full_name:path}/{version}",
    response_model_exclude_unset=True,
)
async def optimization_info(full_name: str, version: str, key: Caller, controller: ControllerOf) -> OptimizationInfo:
    """The chunk of a model here, its price, and whether it was measured here."""
    offers = controller.offers
    model = offers.model(full_name, version)
    try:
        profile = offers.profile(model)
    except Refusal as refusal:
        return OptimizationInfo(optimizable=False, message=refusal.message)
    unit: dict[str, Any] = (
        {"throughput_chunk_size": profile.chunk}
        if model.units_per_chunk is None
        else {"model_unit_chunk_size": model.units_per_chunk}
    )
    return OptimizationInfo(
        optimizable=True,
        model_type=model.engine,
        **unit,
        dbus=offers.price_micro / MICRO,
        profile_status=profile.status,
        headrace=HeadraceChunk(
            chunk=profile.chunk,
            price_per_chunk_hour=decimal(offers.price_micro),
            currency=offers.currency,
            profile_id=profile.id,
            profile_status=profile.status,
        ),
    )
