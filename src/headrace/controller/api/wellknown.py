"""What Databricks' clients ask a host before anything else."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel

router = APIRouter()


class HostMetadata(BaseModel):
    oidc_endpoint: str
    cloud: str


@router.get("/.well-known/databricks-config", tags=["databricks"])
async def databricks_config(request: Request) -> HostMetadata:
    """Without a key: clients read it to learn how to authenticate. Headrace takes its own keys as access tokens."""
    scheme = request.headers.get("x-forwarded-proto", "http")
    return HostMetadata(oidc_endpoint=f"{scheme}://{request.headers.get('host', '127.0.0.1')}/oidc", cloud="AWS")
