"""Who calls: every path of the REST API asks for an admin key."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from headrace.controller.controller import Controller
from headrace.controller.keys import Key
from headrace.controller.refusal import Refusal


def controller(request: Request) -> Controller:
    found: Controller = request.app.state.controller
    return found


ControllerOf = Annotated[Controller, Depends(controller)]


def admin(request: Request, controller: ControllerOf) -> Key:
    """The admin key of the call. Raises Refusal 401 without a valid key, 403 with one of another role."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise Refusal("UNAUTHENTICATED", "no key; send `Authorization: Bearer KEY` with an admin key")
    key = controller.keys.find(text.strip())
    if key is None:
        raise Refusal("UNAUTHENTICATED", "this key is unknown or was revoked")
    if key.role != "admin":
        raise Refusal("PERMISSION_DENIED", f"key {key.id} is a {key.role} key; this needs an admin key")
    return key


Admin = Annotated[Key, Depends(admin)]
