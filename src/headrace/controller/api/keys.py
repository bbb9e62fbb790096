"""Keys over REST: who may call, and whose each is."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from headrace.controller.api.auth import Admin, ControllerOf
from headrace.controller.api.body import Number, Text
from headrace.controller.controller import Controller
from headrace.controller.keys import ALL_TIERS, LEAST_WEIGHT, MOST_WEIGHT, Key, Role, Tier
from headrace.controller.principals import OwnerKind, Principal, checked_name
from headrace.controller.refusal import Refusal

router = APIRouter(prefix="/api/headrace/v1", tags=["headrace"])

RoleField = Annotated[Role, Field(description="admin: may do everything.")]
TiersField = Annotated[
    Annotated[tuple[Tier, ...], Field(min_length=1)] | None,
    Field(description="Service tiers it may use; by default default and flex, for the role admin all."),
]
WeightField = Annotated[
    Number,
    Field(
        ge=LEAST_WEIGHT,
        le=MOST_WEIGHT,
        description="Its share of a tier, relative to the other keys that wait there.",
    ),
]


class KeyInfo(BaseModel):
    id: str
    role: Role
    tiers: tuple[Tier, ...]
    weight: float
    name: str
    principal: str
    principal_kind: OwnerKind
    created_ms: int
    revoked_ms: int | None


class NewKey(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: RoleField = "query"
    tiers: TiersField = None
    weight: WeightField = 1.0
    name: Text = Field(default="", max_length=255, description="For people.")
    user: str | None = Field(
        default=None, description="Name of the user whose it is; by default of one that is named as the key's id."
    )
    service_principal: str | None = Field(
        default=None, description="Client id or name of the service principal whose it is, in place of a user."
    )


class CreatedKey(KeyInfo):
    key: str = Field(description="Shown once; the server keeps only its digest.")


class RevokedKey(KeyInfo):
    acknowledged: bool = Field(description="Every gateway refuses it by now.")
    waiting_for: list[str] = Field(description="Gateways that have not acknowledged in time; they do when they can.")


@router.get("/keys")
async def list_keys(key: Admin, controller: ControllerOf) -> dict[str, list[KeyInfo]]:
    """All keys ever made, without their secrets."""
    return {"keys": [KeyInfo(**_key(one)) for one in controller.keys.all()]}


@router.post("/keys")
async def create_key(body: NewKey, key: Admin, controller: ControllerOf) -> CreatedKey:
    """Make a key. It works when this answers, at every gateway that is connected."""
    made, text = await controller.create_key(
        role=body.role,
        tiers=default_tiers(body.role, body.tiers),
        weight=body.weight,
        name=body.name,
        owner=_owner(controller, body),
    )
    return CreatedKey(**_key(made), key=text)


@router.delete("/keys/{key_id}")
async def revoke_key(key_id: str, key: Admin, controller: ControllerOf) -> RevokedKey:
    """Revoke a key. Answers when every gateway refuses it, or says which have not said so in time."""
    found = controller.keys.get(key_id)
    if found is None:
        raise Refusal("RESOURCE_DOES_NOT_EXIST", f"no key {key_id[:40]!r}; `headrace keys list` shows them", param="id")
    check_admin_left(controller, [found])
    revoked, waiting_for = await controller.revoke(key_id)
    return RevokedKey(**_key(revoked), acknowledged=not waiting_for, waiting_for=waiting_for)


def default_tiers(role: Role, tiers: tuple[Tier, ...] | None) -> tuple[Tier, ...]:
    return tiers or (ALL_TIERS if role == "admin" else ("default", "flex"))


def check_admin_left(controller: Controller, going: list[Key]) -> None:
    """Raises Refusal where no valid admin key would be left without these: nobody could make another one."""
    valid = [key for key in controller.keys.valid() if key.role == "admin"]
    left = {key.id for key in valid} - {key.id for key in going}
    if valid and not left:
        raise Refusal(
            "INVALID_PARAMETER_VALUE",
            f"{valid[0].id} is the last admin key; create another before it is revoked",
            param="id",
        )


def _owner(controller: Controller, body: NewKey) -> Principal | None:
    if body.user is not None and body.service_principal is not None:
        raise Refusal(
            "INVALID_PARAMETER_VALUE", "a key belongs to a user or to a service principal, not to both", param="user"
        )
    if body.service_principal is not None:
        return controller.access.service_principal(body.service_principal, param="service_principal")
    return None if body.user is None else Principal("user", checked_name(body.user, param="user"))


def _key(key: Key) -> dict[str, Any]:
    return {name: getattr(key, name) for name in KeyInfo.model_fields}
