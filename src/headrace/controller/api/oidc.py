"""OAuth 2.0 for programs: a service principal's client id and secret are changed for an access token (RFC 6749, 4.4).

Only the client credentials grant; errors in OAuth's form (5.2), which its clients read, and not in that of the rest.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated
from urllib.parse import parse_qsl, unquote_plus

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from headrace.controller.api.auth import ControllerOf
from headrace.controller.api.wellknown import GRANT, SCOPE, TOKEN_PATH
from headrace.controller.service_principals import TOKEN_LIFE_S

router = APIRouter(tags=["oauth"])

NOT_STORED = {"Cache-Control": "no-store", "Pragma": "no-cache"}
NOT_TAKEN = ("assume_group", "authorization_details", "resource", "audience")
"""What would make a token for less than all that the service principal may do: not to be ignored."""


class AccessToken(BaseModel):
    access_token: str
    token_type: str = "Bearer"
    expires_in: int = Field(default=TOKEN_LIFE_S, description="Seconds.")
    scope: str = SCOPE


class OauthErrorBody(BaseModel):
    error: str
    error_description: str


class TokenForm(BaseModel):
    """What the body may hold, as ``application/x-www-form-urlencoded``."""

    grant_type: str = Field(json_schema_extra={"enum": [GRANT]})
    scope: str = SCOPE
    client_id: str = Field(default="", description="Or by HTTP Basic.")
    client_secret: str = Field(default="", json_schema_extra={"format": "password"})


class OauthError(Exception):
    """``error`` is one of the codes of RFC 6749, 5.2, whose descriptions take no quotes: nothing sent is repeated."""

    def __init__(self, error: str, description: str, *, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status

    def answer(self) -> JSONResponse:
        headers = NOT_STORED | ({"WWW-Authenticate": 'Basic realm="headrace"'} if self.status == 401 else {})
        body = OauthErrorBody(error=self.error, error_description=self.description)
        return JSONResponse(body.model_dump(), self.status, headers)


async def body_of(request: Request) -> bytes:
    return await request.body()


@router.post(
    TOKEN_PATH,
    response_model=AccessToken,
    responses={400: {"model": OauthErrorBody}, 401: {"model": OauthErrorBody}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/x-www-form-urlencoded": {"schema": TokenForm.model_json_schema()}},
        }
    },
)
async def token(request: Request, body: Annotated[bytes, Depends(body_of)], controller: ControllerOf) -> JSONResponse:
    """An access token of a service principal, for an hour. It works when this answers, at every connected gateway."""
    try:
        form = _form(body)
        client_id, secret = _credentials(request.headers.get("authorization", ""), form)
        found = controller.access.service_principals.authenticate(client_id, secret)
        if found is None:
            raise OauthError("invalid_client", "the client id or the client secret is wrong", status=401)
        _check_asked(form)
    except OauthError as error:
        return error.answer()
    text = await controller.issue_token(found)
    return JSONResponse(AccessToken(access_token=text).model_dump(), headers=NOT_STORED)


def _form(body: bytes) -> dict[str, str]:
    try:
        given = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=20)
    except ValueError:
        raise OauthError("invalid_request", "the body is not an application/x-www-form-urlencoded form") from None
    form = dict(given)
    if len(form) != len(given):
        raise OauthError("invalid_request", "a field stands twice in the form")
    return form


def _credentials(authorization: str, form: dict[str, str]) -> tuple[str, str]:
    """Client id and secret, from HTTP Basic or from the form."""
    scheme, _, encoded = authorization.partition(" ")
    if not authorization:
        if not form.get("client_id") or not form.get("client_secret"):
            raise OauthError("invalid_client", "no client_id and client_secret, by HTTP Basic or form", status=401)
        return form["client_id"], form["client_secret"]
    if "client_secret" in form:
        raise OauthError("invalid_request", "the client secret came twice: by header and by form")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        client_id, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        if not colon:
            raise ValueError
    except (ValueError, binascii.Error):
        raise OauthError("invalid_client", "the Authorization header is not HTTP Basic", status=401) from None
    client_id, secret = unquote_plus(client_id), unquote_plus(secret)  # RFC 6749, 2.3.1
    if form.get("client_id", client_id) != client_id:
        raise OauthError("invalid_request", "the header and the form name different clients")
    return client_id, secret


def _check_asked(form: dict[str, str]) -> None:
    """What is asked for beside who asks."""
    grant = form.get("grant_type")
    if not grant:
        raise OauthError("invalid_request", f"grant_type is missing; expected {GRANT}")
    if grant != GRANT:
        raise OauthError("unsupported_grant_type", f"this grant_type is not taken here; expected {GRANT}")
    scopes = form.get("scope", SCOPE).split()
    if set(scopes) - {SCOPE}:
        raise OauthError("invalid_scope", f"this scope is not known here; expected {SCOPE}")
    for field in NOT_TAKEN:
        if form.get(field):
            raise OauthError("invalid_request", f"{field} is not supported: a token does all that its principal may")
