"""Databricks' permissions API, of serving endpoints: by the id of the endpoint, as its clients do."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from headrace.controller.api.auth import Caller, ControllerOf
from headrace.controller.controller import REVOKE_TIMEOUT_S, Controller
from headrace.controller.endpoint import Endpoint
from headrace.controller.keys import Key
from headrace.controller.permissions import Level, Levels
from headrace.controller.principals import ADMINS, USERS, Principal
from headrace.controller.refusal import Refusal

BASE = "/api/2.0/permissions/serving-endpoints"
ROOT = "/serving-endpoints/"
"""What all endpoints inherit from: admins manage everything."""
MOST_ENTRIES = 1000

router = APIRouter(prefix=BASE, tags=["databricks"])

LevelName = Literal["CAN_VIEW", "CAN_QUERY", "CAN_MANAGE"]


class AccessControlRequest(BaseModel):
    """One principal, by one of the three names, and what it may do."""

    model_config = ConfigDict(extra="forbid")

    user_name: str | None = None
    service_principal_name: str | None = Field(default=None, description="Its client id; its name is taken too.")
    group_name: str | None = Field(default=None, description="users (everybody with a key) or admins.")
    permission_level: LevelName


class PermissionsRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    access_control_list: list[AccessControlRequest] | None = Field(default=None, max_length=MOST_ENTRIES)


class Permission(BaseModel):
    permission_level: LevelName
    inherited: bool
    inherited_from_object: list[str] | None = None


class AccessControl(BaseModel):
    """One principal; ``display_name`` is what people call it."""

    user_name: str | None = None
    service_principal_name: str | None = None
    group_name: str | None = None
    display_name: str
    all_permissions: list[Permission]


class PermissionsAnswer(BaseModel):
    object_id: str
    object_type: str = "serving-endpoint"
    access_control_list: list[AccessControl]


class LevelInfo(BaseModel):
    permission_level: LevelName
    description: str


class LevelsAnswer(BaseModel):
    permission_levels: list[LevelInfo]


def managed(endpoint_id: str, key: Caller, controller: ControllerOf) -> Endpoint:
    """The endpoint, where the caller may manage it. Raises Refusal 404 and 403."""
    endpoint = controller.store.get(endpoint_id)
    if endpoint is None:
        raise Refusal(
            "RESOURCE_DOES_NOT_EXIST",
            f"no endpoint has the id {endpoint_id[:80]!r}; permissions go by the id of an endpoint, not by its name",
            param="serving_endpoint_id",
        )
    controller.access.require(key, endpoint, Level.CAN_MANAGE)
    return endpoint


Managed = Annotated[Endpoint, Depends(managed)]


@router.get("/{endpoint_id}", response_model_exclude_none=True)
async def get_permissions(endpoint: Managed, controller: ControllerOf) -> PermissionsAnswer:
    """Who may do what with an endpoint."""
    return _answer(controller, endpoint)


@router.get("/{endpoint_id}/permissionLevels")
async def get_permission_levels(endpoint: Managed) -> LevelsAnswer:
    """What can be given."""
    levels = [LevelInfo(permission_level=_name(level), description=level.words) for level in Level]
    return LevelsAnswer(permission_levels=levels)


@router.put("/{endpoint_id}", response_model_exclude_none=True)
async def set_permissions(
    endpoint: Managed, body: PermissionsRequest, key: Caller, controller: ControllerOf
) -> PermissionsAnswer:
    """Replace all permissions. They hold when this answers, at every gateway that is connected."""
    return await _set(controller, endpoint, key, _asked(controller, body))


@router.patch("/{endpoint_id}", response_model_exclude_none=True)
async def update_permissions(
    endpoint: Managed, body: PermissionsRequest, key: Caller, controller: ControllerOf
) -> PermissionsAnswer:
    """Replace the permissions of the named principals, and leave the others'."""
    return await _set(controller, endpoint, key, {**controller.access.levels(endpoint), **_asked(controller, body)})


async def _set(controller: Controller, endpoint: Endpoint, key: Key, levels: Levels) -> PermissionsAnswer:
    controller.access.set_levels(endpoint, levels)
    called = controller.access.called
    given = ", ".join(
        f"{principal.kind.replace('_', ' ')} {called(principal)!r} {level.name}"
        for principal, level in sorted(levels.items())
    )
    controller.events.add(
        controller.clock.now_ms(),
        "permissions_changed",
        f"the permissions of endpoint {endpoint.name} were set: {given or 'none'}",
        endpoint=(endpoint.id, endpoint.name),
        data={"levels": {str(principal): level.name for principal, level in levels.items()}},
        by=controller.access.actor(key),
    )
    await controller.tell(REVOKE_TIMEOUT_S)
    return _answer(controller, endpoint)


def _asked(controller: Controller, body: PermissionsRequest) -> dict[Principal, Level]:
    """Where a principal stands twice, the highest level. Raises Refusal."""
    levels: dict[Principal, Level] = {}
    for entry in body.access_control_list or ():
        principal, level = _principal(controller, entry), Level[entry.permission_level]
        if principal == ADMINS:
            if level is not Level.CAN_MANAGE:
                raise Refusal(
                    "INVALID_PARAMETER_VALUE",
                    f"the group 'admins' may manage every endpoint; {level.name} would take that away",
                    param="permission_level",
                )
            continue
        levels[principal] = max(level, levels.get(principal, level))
    return levels


def _principal(controller: Controller, entry: AccessControlRequest) -> Principal:
    given = {name: getattr(entry, name) for name in ("user_name", "service_principal_name", "group_name")}
    named = {name: value for name, value in given.items() if value}
    if len(named) != 1:
        raise Refusal(
            "INVALID_PARAMETER_VALUE",
            f"an entry names one of user_name, service_principal_name and group_name; this one: "
            f"{', '.join(named) or 'none'}",
            param="access_control_list",
        )
    [(kind, value)] = named.items()
    if kind == "service_principal_name":
        return controller.access.service_principal(value, param=kind)
    if kind == "group_name":
        if value not in (USERS.name, ADMINS.name):
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                f"there is no group {value[:80]!r}; there are users (everybody with a key) and admins",
                param=kind,
            )
        return Principal("group", value)
    user = Principal("user", value)
    if not controller.keys.knows(user):
        raise Refusal(
            "RESOURCE_DOES_NOT_EXIST",
            f"there is no user {value[:80]!r}: no key was ever made for it with `headrace keys create --user`",
            param=kind,
        )
    return user


def _answer(controller: Controller, endpoint: Endpoint) -> PermissionsAnswer:
    entries = [
        _entry(controller, principal, Permission(permission_level=_name(level), inherited=False))
        for principal, level in sorted(controller.access.levels(endpoint).items())
    ]
    inherited = Permission(permission_level="CAN_MANAGE", inherited=True, inherited_from_object=[ROOT])
    entries.append(_entry(controller, ADMINS, inherited))
    return PermissionsAnswer(object_id=ROOT + endpoint.id, access_control_list=entries)


def _entry(controller: Controller, principal: Principal, permission: Permission) -> AccessControl:
    display_name = controller.access.called(principal)
    return AccessControl.model_validate(
        {f"{principal.kind}_name": principal.name, "display_name": display_name, "all_permissions": [permission]}
    )


def _name(level: Level) -> LevelName:
    names: dict[Level, LevelName] = {
        Level.CAN_VIEW: "CAN_VIEW",
        Level.CAN_QUERY: "CAN_QUERY",
        Level.CAN_MANAGE: "CAN_MANAGE",
    }
    return names[level]
