"""What Databricks' clients ask a host before anything else: where to ask for tokens. It needs no key."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel

TOKEN_PATH = "/oidc/v1/token"
SCOPE = "all-apis"
GRANT = "client_credentials"

router = APIRouter(tags=["oauth"])


class HostMetadata(BaseModel):
    oidc_endpoint: str
    cloud: str


class AuthorizationServer(BaseModel):
    """RFC 8414. The fields of flows that people take part in are those that clients insist on; they lead nowhere."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    grant_types_supported: list[str] = [GRANT]
    response_types_supported: list[str] = []
    token_endpoint_auth_methods_supported: list[str] = ["client_secret_basic", "client_secret_post"]
    scopes_supported: list[str] = [SCOPE]


@router.get("/.well-known/databricks-config")
async def databricks_config(request: Request) -> HostMetadata:
    """Where this host's OAuth is. Headrace also takes its own keys as access tokens."""
    return HostMetadata(oidc_endpoint=_oidc(request), cloud="AWS")


@router.get("/oidc/.well-known/oauth-authorization-server")
async def authorization_server(request: Request) -> AuthorizationServer:
    """Where a service principal changes its client id and secret for an access token."""
    oidc = _oidc(request)
    return AuthorizationServer(
        issuer=oidc,
        authorization_endpoint=f"{oidc}/v1/authorize",
        token_endpoint=oidc + TOKEN_PATH.removeprefix("/oidc"),
    )


def _oidc(request: Request) -> str:
    """As the caller sees this host."""
    scheme = request.headers.get("x-forwarded-proto", "http")
    return f"{scheme}://{request.headers.get('host', '127.0.0.1')}/oidc"
