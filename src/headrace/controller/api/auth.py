"""Who calls, and whether they may: an admin key for most paths, the endpoint's permissions for Databricks' own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from headrace.controller.api.wellknown import TOKEN_PATH
from headrace.controller.controller import Controller
from headrace.controller.endpoint import Endpoint
from headrace.controller.endpoints import unknown
from headrace.controller.keys import Key
from headrace.controller.permissions import Level
from headrace.controller.refusal import Refusal
from headrace.controller.words import utc


def controller(request: Request) -> Controller:
    found: Controller = request.app.state.controller
    return found


ControllerOf = Annotated[Controller, Depends(controller)]


KEY = HTTPBearer(auto_error=False, scheme_name="key", description="A key, or an access token of a service principal.")
"""For the OpenAPI document; what is wrong with a key is told in our own form."""


def caller(request: Request, controller: ControllerOf, _: Annotated[object, Depends(KEY)]) -> Key:
    """The key or access token of the call. Raises Refusal 401 where it is none that holds."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise Refusal("UNAUTHENTICATED", "no key; send `Authorization: Bearer KEY`", reason="missing_api_key")
    key = controller.access.caller(text.strip())
    if key is None:
        raise _refused(controller.access.expired_ms(text.strip()))
    return key


def _refused(expired_ms: int | None) -> Refusal:
    """``expired_ms``: None for what may never have been a key."""
    if expired_ms is None:
        message = "this key or token is unknown, was revoked or expired long ago"
        return Refusal("UNAUTHENTICATED", message, reason="invalid_api_key")
    message = f"this token expired at {utc(expired_ms)}; ask for another at {TOKEN_PATH}"
    return Refusal("UNAUTHENTICATED", message, reason="token_expired")


Caller = Annotated[Key, Depends(caller)]
"""Anybody with a valid key or token."""


def admin(key: Caller) -> Key:
    """Raises Refusal 403 with one of another role."""
    if key.role != "admin":
        raise Refusal("PERMISSION_DENIED", f"key {key.id} is a {key.role} key; this needs an admin key")
    return key


Admin = Annotated[Key, Depends(admin)]


def visible(controller: Controller, key: Key) -> list[Endpoint]:
    """The endpoints that the caller may see."""
    return [one for one in controller.store.endpoints() if controller.access.level(key, one) is not None]


def permitted(needed: Level) -> Callable[[str, Key, Controller], Key]:
    """For a path with the ``name`` of an endpoint. The check raises Refusal 404 and 403; see ``Access.require``."""

    def check(name: str, key: Caller, controller: ControllerOf) -> Key:
        endpoint = controller.store.named(name)
        if endpoint is None:
            raise unknown(name, visible(controller, key))
        controller.access.require(key, endpoint, needed)
        return key

    return check


Viewer = Annotated[Key, Depends(permitted(Level.CAN_VIEW))]
"""A caller that may see the endpoint of the path."""
Manager = Annotated[Key, Depends(permitted(Level.CAN_MANAGE))]
"""A caller that may change and delete it."""
