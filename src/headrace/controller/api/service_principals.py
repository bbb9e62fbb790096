"""Service principals over REST. What they change their secrets for is in ``oidc``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from headrace.controller.api.auth import Admin, ControllerOf
from headrace.controller.api.body import Bool
from headrace.controller.api.keys import RoleField, TiersField, WeightField, check_admin_left, default_tiers
from headrace.controller.controller import REVOKE_TIMEOUT_S, Controller
from headrace.controller.keys import Role, Tier
from headrace.controller.principals import checked_name
from headrace.controller.refusal import Refusal
from headrace.controller.service_principals import ServicePrincipal

BASE = "/api/headrace/v1/service-principals"

router = APIRouter(prefix=BASE, tags=["headrace"])


class ServicePrincipalInfo(BaseModel):
    client_id: str
    name: str
    role: Role
    tiers: tuple[Tier, ...]
    weight: float
    created_ms: int


class NewServicePrincipal(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="For people; unique. Permissions and usage name it by its client id.")
    role: RoleField = "query"
    tiers: TiersField = None
    weight: WeightField = 1.0


class CreatedServicePrincipal(ServicePrincipalInfo):
    client_secret: str = Field(description="Shown once; the server keeps only its digest.")


class NewSecret(BaseModel):
    model_config = ConfigDict(extra="forbid")

    end_tokens: Bool = Field(default=False, description="End its access tokens too, as when the secret was disclosed.")


class RenewedSecret(CreatedServicePrincipal):
    acknowledged: bool = Field(description="Every gateway refuses by now what was ended.")
    waiting_for: list[str] = Field(description="Gateways that have not acknowledged in time; they do when they can.")


class DeletedServicePrincipal(ServicePrincipalInfo):
    acknowledged: bool = Field(description="Every gateway refuses its tokens and keys by now.")
    waiting_for: list[str] = Field(description="Gateways that have not acknowledged in time; they do when they can.")


@router.get("")
async def list_service_principals(key: Admin, controller: ControllerOf) -> dict[str, list[ServicePrincipalInfo]]:
    """All that were not deleted, without their secrets."""
    alive = controller.access.service_principals.alive()
    return {"service_principals": [ServicePrincipalInfo(**_info(one)) for one in alive]}


@router.post("")
async def create_service_principal(
    body: NewServicePrincipal, key: Admin, controller: ControllerOf
) -> CreatedServicePrincipal:
    """Make a service principal with its client id and secret."""
    made, secret = controller.access.service_principals.create(
        name=checked_name(body.name, param="name"),
        role=body.role,
        tiers=default_tiers(body.role, body.tiers),
        weight=body.weight,
        now_ms=controller.clock.now_ms(),
    )
    return CreatedServicePrincipal(**_info(made), client_secret=secret)


@router.post("/{client_id}/secret")
async def renew_secret(client_id: str, body: NewSecret, key: Admin, controller: ControllerOf) -> RenewedSecret:
    """Give a service principal another secret. Permissions and keys stay, and access tokens unless they are to end."""
    principals = controller.access.service_principals
    renewed, secret = principals.renew_secret(_alive(controller, client_id).id, end_tokens=body.end_tokens)
    waiting_for = await controller.tell(REVOKE_TIMEOUT_S) if body.end_tokens else []
    return RenewedSecret(**_info(renewed), client_secret=secret, acknowledged=not waiting_for, waiting_for=waiting_for)


@router.delete("/{client_id}")
async def delete_service_principal(client_id: str, key: Admin, controller: ControllerOf) -> DeletedServicePrincipal:
    """Delete a service principal with its tokens, keys and permissions. Answers when every gateway refuses these, or
    says which have not said so in time."""
    found = _alive(controller, client_id)
    check_admin_left(controller, [one for one in controller.keys.valid() if one.owner == found.principal])
    deleted, waiting_for = await controller.delete_service_principal(client_id)
    return DeletedServicePrincipal(**_info(deleted), acknowledged=not waiting_for, waiting_for=waiting_for)


def _alive(controller: Controller, client_id: str) -> ServicePrincipal:
    """Raises Refusal for one that never was, or was deleted."""
    found = controller.access.service_principals.get(client_id)
    if found is None or found.deleted_ms is not None:
        raise Refusal(
            "RESOURCE_DOES_NOT_EXIST",
            f"no service principal has the client id {client_id[:40]!r}; `headrace service-principals list` shows them",
            param="client_id",
        )
    return found


def _info(one: ServicePrincipal) -> dict[str, Any]:
    return {
        "client_id": one.id,
        "name": one.name,
        "role": one.role,
        "tiers": one.tiers,
        "weight": one.weight,
        "created_ms": one.created_ms,
    }
